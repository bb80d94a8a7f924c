"""A description as one HTML page that opens anywhere, without network or scripts, and prints."""

import base64
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from monai_cxrpair import __version__
from monai_cxrpair.cohort.describe import table_one
from monai_cxrpair.cohort.describe import text as fmt
from monai_cxrpair.cohort.describe.contact_sheet import Tile
from monai_cxrpair.cohort.describe.page import environment
from monai_cxrpair.cohort.files import atomic_path

# What a study, an interval, ... of a histogram is counted in: key of the description -> title, and unit of its buckets.
_SIZES = {
    "images_per_study": ("Radiographs of a study", "radiographs"),
    "images_per_patient": ("Radiographs of a patient", "radiographs"),
    "studies_per_patient": ("Studies of a patient", "studies"),
}


def write_page(description: Mapping[str, Any], out: Path, *, sheet: Sequence[tuple[Tile, bytes | str]] = ()) -> None:
    """Write the page, at once or not at all, readable by its owner only: the pictures are a patient's.

    The page names neither root nor paths, which may identify somebody.

    Args:
        description: As `describe` makes it.
        out: The file to write.
        sheet: The radiographs of the contact sheet: each with its PNG or JPEG, or with the reason why there is none.

    Raises:
        CxrPairError: The file cannot be written.
    """
    templates = environment(Path(__file__).parent)
    templates.filters.update(
        human=lambda name: name.replace("_", " "),
        thousands=lambda number: f"{number:,}",
        share=lambda number, total: table_one.percent(number, total, 1) + " %",
        median_iqr=table_one.median_iqr,
        meaning=fmt.meaning,
    )
    page = templates.get_template("page.html.j2").render(
        d=description,
        lines=table_one.lines(description["table_one"]["columns"], digits=1),
        levels={"radiographs": description["findings"], "studies": description["study_findings"]},
        states=fmt.STATES,
        histograms=_histograms(description),
        pyramid=_pyramid(description["age_by_sex"]),
        pixel_facts=fmt.pixel_facts(description),
        left_out=fmt.left_out_title(description) if "rejected" in description else "",
        sheet=_patients(sheet),
        nothing_shown=_only_reasons(sheet),
        version=__version__,
    )
    with atomic_path(out) as temporary:
        temporary.write_text(page + "\n", encoding="utf-8")


def _histograms(description: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Bars as long as their share of the longest one; empty buckets at the end are left out."""
    found = []
    for key, (title, unit) in _SIZES.items():
        size = description[key]
        note = f"mean {size['mean']:.2f}, median {size['median']:g}, largest {size['largest']:,}"
        found.append({"title": title, "unit": unit, "note": note, "bars": _bars(description["distributions"][key])})
    intervals = description["study_intervals"]
    if intervals["known"]:
        note = f"median [IQR] {table_one.median_iqr(intervals)} days, longest {intervals['max']:,.0f}"
        title = "Days to the patient's next study"
        found.append({"title": title, "unit": "days", "note": note, "bars": _bars(intervals["buckets"])})
    return found


def _bars(counts: Mapping[str, int]) -> list[tuple[str, int, float]]:
    """Label, count and length in percent of each bar."""
    longest = max(counts.values(), default=0)
    bars = [(label, count, 100 * count / max(longest, 1)) for label, count in counts.items()]
    while bars and not bars[-1][1]:
        bars.pop()
    return bars


def _pyramid(counts: Mapping[str, Mapping[str, int]]) -> list[dict[str, Any]]:
    """Ten years of age a line, the oldest first; lines outside of the ages that occur are left out."""
    longest = max((count for sex in ("F", "M") for count in counts[sex].values()), default=0)
    used = [age for age in counts["F"] if counts["F"][age] or counts["M"][age]]
    if not used:
        return []
    every = list(counts["F"])
    kept = every[every.index(used[0]) : every.index(used[-1]) + 1]
    return [
        {"age": age, **{sex: (counts[sex][age], 100 * counts[sex][age] / longest) for sex in ("F", "M")}}
        for age in reversed(kept)
    ]


def _patients(sheet: Sequence[tuple[Tile, bytes | str]]) -> list[list[dict[str, Any]]]:
    """Patients of the contact sheet -> their studies -> radiographs."""
    patients = []
    for _, of_patient in groupby(sheet, key=lambda entry: entry[0].patient):
        studies = []
        for number, of_study in groupby(of_patient, key=lambda entry: entry[0].study):
            tiles = list(of_study)
            pictures = [
                {
                    "caption": tile.caption,
                    **({"reason": found} if isinstance(found, str) else {"src": _data_url(found)}),
                }
                for tile, found in tiles
            ]
            studies.append({"number": number, "days": tiles[0][0].days, "pictures": pictures})
        patients.append(studies)
    return patients


def _only_reasons(sheet: Sequence[tuple[Tile, bytes | str]]) -> dict[str, int]:
    """Reason -> radiographs where there is not one picture (a table without its images); else empty."""
    reasons = [found for _, found in sheet if isinstance(found, str)]
    return dict(Counter(reasons)) if len(reasons) == len(sheet) else {}


def _data_url(picture: bytes) -> str:
    kind = "png" if picture.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode('ascii')}"
