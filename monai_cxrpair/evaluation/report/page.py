"""`report.html`: one file that opens from a file share, without network or scripts, and prints."""

import base64
import html
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from monai_cxrpair.cohort.describe.page import environment as page_environment
from monai_cxrpair.evaluation.panels.panel import Panel
from monai_cxrpair.evaluation.report import results as fmt
from monai_cxrpair.evaluation.report.checklist import make_checklist, write_checklist
from monai_cxrpair.evaluation.report.curves import draw_pr, draw_roc
from monai_cxrpair.evaluation.report.learning_curve import draw_learning_curve
from monai_cxrpair.evaluation.report.pictures import draw_decision, draw_forest, draw_reliability
from monai_cxrpair.evaluation.report.words import (
    compared,
    facts,
    forecast,
    human,
    label,
    learned_from,
    limitations,
    oracles,
    patient,
    pretraining,
    resampled,
    unbroken,
    unit,
    value,
    verdict,
)

_HEADING = re.compile(r"<h2>(.*?)</h2>", re.DOTALL)
_CONTENTS, _CHECKLIST = "<!-- contents -->", "<!-- checklist -->"
_KINDS = {".svg": "image/svg+xml", ".png": "image/png", ".jpg": "image/jpeg"}


def write_report(
    results: Mapping[str, Any],
    *,
    out_dir: Path,
    roc: Mapping[str, Mapping[str, Any]] | None = None,
    pr: Mapping[str, Mapping[str, Any]] | None = None,
    panels: Mapping[str, Panel] | None = None,
) -> Path:
    """Write `results.json`, `report.html` and the pictures (`roc`, `pr`, `reliability`, `forest`, ...), PNG and SVG.

    Every number in the report stands in `results.json`, the curves (keys `roc` and `pr`) and the panels (`panels`) too.

    Args:
        results: as `results_dict` makes it; keys that are absent leave their section out.
        out_dir: folder, created where absent.
        roc: encoder -> `roc` of `curve_bands(...)`; None: no picture.
        pr: encoder -> `pr` of `curve_bands(...)`; None: no picture.
        panels: name -> panel, as `make_panels` makes them.

    Returns:
        Path of the report.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    # The report shows what is in the file, so it is made from the very same values.
    panels = panels or {}
    figures = {name: panel.figures for name, panel in panels.items()}
    bands = {key: found for key, found in (("roc", roc), ("pr", pr)) if found}
    data = fmt.plain({**results, **bands, "panels": figures})
    data["checklist"] = make_checklist(data)
    write_checklist(data["checklist"], out_dir / "checklist.csv")
    fmt.write_results(data, out_dir / "results.json")
    files = _draw(data, out_dir)
    for panel in panels.values():
        files |= panel.pictures
    pictures = {name: _data_address(file) for name, file in files.items()}
    environment = page_environment(Path(__file__).parent / "templates")
    environment.filters.update(
        number=fmt.number,
        percent=fmt.percent,
        interval=fmt.interval,
        p_value=fmt.p_value,
        label=label,
        value=value,
        name=human,
        unbroken=unbroken,
    )
    environment.tests["established"] = fmt.established
    page = environment.get_template("report.html.j2").render(
        r=data,
        pictures=pictures,
        verdict=verdict(data),
        compared=partial(compared, data),
        forecast=forecast,
        others=[name for name in data.get("protocols", {}) if name != "linear"],
        scale=_Scale(data),
        unit=unit(data),
        units={"radiograph": "radiographs", "study": "studies"}[unit(data)],
        learned_from=partial(learned_from, patients=f"{patient(data)}s"),
        oracles=oracles(data),
        patient=patient(data),
        resampled=resampled(data),
        limitations=limitations(data),
        facts=facts,
        pretraining=pretraining,
        subgroups=_subgroups(data),
        classifier_facts={
            k: v
            for k, v in (data.get("classifier") or {}).items()
            if k not in ("at_operating_point", "test_auc_ci95")  # in words above them
        },
    )
    page, sections = _with_anchors(page)
    # Both name the sections that are on the page, so they come last. No other text can hold these marks: it is escaped.
    for mark, part in ((_CONTENTS, "contents.html.j2"), (_CHECKLIST, "checklist.html.j2")):
        anchors = {title: anchor for anchor, title in sections}
        page = page.replace(mark, environment.get_template(part).render(r=data, sections=sections, anchors=anchors))
    report = out_dir / "report.html"
    fmt.write_text(page + "\n", report)
    return report


def _with_anchors(page: str) -> tuple[str, list[tuple[str, str]]]:
    """Give every heading of the second level an id; the page, and the id and text of each."""
    found: list[tuple[str, str]] = []

    def give(heading: re.Match[str]) -> str:
        text = html.unescape(" ".join(re.sub(r"<[^>]*>", "", heading[1]).split()))
        slug = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
        anchor = slug if slug not in dict(found) else f"{slug}-{len(found)}"
        found.append((anchor, text))
        return f'<h2 id="{anchor}">{heading[1]}</h2>'

    return _HEADING.sub(give, page), found


def _draw(data: Mapping[str, Any], out_dir: Path) -> dict[str, Path]:
    """Draw what there is to draw of the protocols; name -> the SVG."""
    figures = {name: entry["linear"] for name, entry in data["encoders"].items()}
    files = {}
    if data.get("roc"):
        aucs = {name: fmt.number(linear["auc_mean"]) for name, linear in figures.items()}
        files["roc"] = draw_roc(data["roc"], aucs, out_dir=out_dir)
    if data.get("pr"):
        areas = {name: fmt.number(linear["pr_auc"]["mean"]) for name, linear in figures.items() if "pr_auc" in linear}
        files["pr"] = draw_pr(data["pr"], areas, out_dir=out_dir)
    if all("calibration" in linear for linear in figures.values()):
        files["reliability"] = draw_reliability(figures, out_dir=out_dir)
        files["decision"] = draw_decision(figures, out_dir=out_dir, unit=unit(data))
    scaled = {name: linear.get("calibrated", {}) for name, linear in figures.items()}
    if all("calibration" in after for after in scaled.values()):
        files["reliability_scaled"] = draw_reliability(scaled, out_dir=out_dir, stem="reliability_scaled")
        files["decision_scaled"] = draw_decision(scaled, out_dir=out_dir, unit=unit(data), stem="decision_scaled")
    for protocol, curve in data.get("learning_curve", {}).items():
        stem = "learning_curve" if protocol == "linear" else f"learning_curve_{protocol}"
        files[stem] = draw_learning_curve(curve["encoders"], out_dir=out_dir, stem=stem)
    forest = draw_forest(figures, out_dir=out_dir)
    if forest is not None:
        files["forest"] = forest
    return {name: svg for name, (_, svg) in files.items()}


def _data_address(file: Path) -> str:
    kind = _KINDS[file.suffix]
    return f"data:{kind};base64," + base64.b64encode(file.read_bytes()).decode("ascii")


class _Scale:
    """Where an AUC lies on the small axis of the table, in percent; the axis holds every interval and 0.5."""

    def __init__(self, results: Mapping[str, Any]) -> None:
        shown = [0.5]
        for entry in results["encoders"].values():
            for protocol in results.get("protocols", ("linear",)):
                figures = entry[protocol]
                sized = entry.get("by_fraction", {}).get(protocol, {})
                for found in (figures, *figures.get("subgroups", {}).values(), *sized.values()):
                    shown += found.get("ci95", [])
        self.low = max(0.0, int(min(shown) * 20) / 20)
        self.high = min(1.0, -int(-max(shown) * 20 - 1) / 20)

    def __call__(self, auc: float) -> str:
        return f"{100 * (auc - self.low) / (self.high - self.low):.2f}"


def _subgroups(results: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Subgroup -> encoder -> figures: a reader compares encoders within a subgroup."""
    table: dict[str, dict[str, Any]] = {}
    for name, entry in results["encoders"].items():
        for group, figures in entry["linear"].get("subgroups", {}).items():
            table.setdefault(group, {})[name] = figures
    return table
