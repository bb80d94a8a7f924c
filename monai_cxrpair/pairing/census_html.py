"""A census as one HTML page that opens anywhere, without network or scripts, and prints."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai_cxrpair import __version__
from monai_cxrpair.cohort.describe.page import environment
from monai_cxrpair.cohort.describe.table_one import percent
from monai_cxrpair.cohort.files import atomic_path
from monai_cxrpair.pairing import census_text as words

_PLOT = {"left": 26.0, "width": 372.0, "top": 32.0, "height": 150.0}  # of a panel 400 wide, in its own units
_STEPS = (2, 5, 10, 20)  # percent: between the lines of a panel, of which there are at most five above 0
_DEEPEST = 0.55  # opacity of the darkest cell: black text on it still has a contrast above 7 : 1
_DARK_FROM = 0.25  # a share that may have the darkest cell


def write_page(census: Mapping[str, Any], out: Path, *, finding: str | None) -> None:
    """Write the page, at once or not at all. It holds counts alone, nothing of one patient.

    Args:
        census: As `census` makes it.
        out: The file to write.
        finding: The finding of the pictures; None where the cohort has none.

    Raises:
        CxrPairError: The file cannot be written.
    """
    templates = environment(Path(__file__).parent)
    templates.filters.update(
        human=words.human,
        rate=words.rate,
        thousands=lambda number: f"{number:,}",
        upper_first=lambda text: text[:1].upper() + text[1:],
        short=lambda bucket: bucket.replace(" to ", "–").replace("more than ", "> "),
    )
    alone = [rule for rule in census["rules"] if not rule["include_self"]]
    rules = [
        {"alone": rule, "with_self": words.pick(census, rule["study"], rule["laterality"], include_self=True)}
        for rule in alone
    ]
    page = templates.get_template("census.html.j2").render(
        c=census,
        finding=finding,
        rules=rules,
        same_study=words.pick(census, "same"),
        same_study_code=words.pick(census, "same", include_self=True),
        all_studies=words.pick(census, "any"),
        distinct_studies=words.pick(census, "distinct"),
        meaning=words.meaning,
        verdict=words.verdict,
        queue_words=words.queue_words(census["queue"]),
        unmentioned=words.unmentioned(census, finding) if finding is not None else "",
        panels=_panels(census, finding) if finding is not None else [],
        plot=_PLOT,
        findings_shades=_shades([[r["mismatch_rate"][name] for r in alone] for name in census["findings"]]),
        size_shades=_shades([[n / census["radiographs"] for n in r["sizes"].values()] for r in _all(alone, census)]),
        size_rules=_all(alone, census),
        version=__version__,
    )
    with atomic_path(out, mode=None) as temporary:
        temporary.write_text(page + "\n", encoding="utf-8")


def _all(alone: Sequence[Mapping[str, Any]], census: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [*alone, *census["further"]]


def _shades(rows: Sequence[Sequence[float | None]]) -> list[list[float]]:
    """The opacity of each cell, in proportion to the largest one; where all are small, none is dark."""
    largest = max([_DARK_FROM, *(share or 0.0 for row in rows for share in row)])
    return [[round(_DEEPEST * (share or 0.0) / largest, 3) for share in row] for row in rows]


def _panels(census: Mapping[str, Any], finding: str) -> list[dict[str, Any]]:
    """The paper's Figure 2, its two panels on one scale, and the same for each further rule on a scale of its own."""
    figure = census["figure_2"]["findings"][finding]
    paper = [
        ("All studies, the query included", figure["all_studies"]),
        ("Distinct studies", figure["distinct_studies"]),
    ]
    own = [[(f"Your rule: {entry['name']}", entry["disagreement"][finding])] for entry in census["further"]]
    found = []
    for group in (paper, *own):
        drawn = [(title, counts) for title, counts in group if sum(counts)]
        highest = max((100 * max(counts) / sum(counts) for _, counts in drawn), default=1)
        step = next(step for step in _STEPS if highest <= 5 * step)
        top = step * math.ceil(highest / step)
        note = "with another study" if group is paper else "with a candidate"
        found += [_panel(title, counts, step=step, top=top) | {"note": note} for title, counts in drawn]
    return found


def _panel(title: str, counts: Sequence[int], *, step: int, top: int) -> dict[str, Any]:
    total, n = sum(counts), len(counts)
    pitch = _PLOT["width"] / n
    floor = _PLOT["top"] + _PLOT["height"]
    bars = []
    for number, count in enumerate(counts):
        share = count / total
        # There is no room for the tenths of all 18.
        text = words.rate(share) if number in (0, n - 1) else percent(count, total, 0)
        height = _PLOT["height"] * 100 * share / top
        bars.append({"x": _PLOT["left"] + number * pitch + 1, "middle": _PLOT["left"] + (number + 0.5) * pitch,
                     "y": floor - height, "height": height, "text": text if count else "0"})  # fmt: skip
    ticks = [{"y": floor - _PLOT["height"] * value / top, "text": f"{value}"} for value in range(0, top + 1, step)]
    return {
        "title": title, "radiographs": total, "bars": bars, "bar_width": pitch - 2, "ticks": ticks, "floor": floor,
        "first": words.rate(counts[0] / total), "last": words.rate(counts[-1] / total),
    }  # fmt: skip
