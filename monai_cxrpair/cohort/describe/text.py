"""A description as tables for a terminal of 80 columns."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from monai_cxrpair.cohort.describe import table_one
from monai_cxrpair.cohort.rejects import Reason

STATES = ("present", "absent", "uncertain", "missing")
_LABEL = 24  # characters: leaves room for four columns of six-digit counts


def summary_tables(summary: Mapping[str, Any]) -> list[Table]:
    """Lay out what `cxrpair index` prints.

    Args:
        summary: At least the keys of `Cohort.summary`; `rejected` is shown where it is there.
    """
    tables = [_cohort_table(summary)]
    if summary["findings"]:
        tables.append(_findings_table("Findings", summary["findings"]))
    if "rejected" in summary:
        tables.append(_two_columns(left_out_title(summary), list(summary["rejected"].items())))
    return tables


def description_tables(description: Mapping[str, Any]) -> list[Table]:
    """Lay out what `describe` returns."""
    tables = [_cohort_table(description), _table_one(description["table_one"])]
    if description["findings"]:
        tables.append(_findings_table("Findings of the radiographs", description["findings"]))
        tables.append(_findings_table("Findings of the studies", description["study_findings"]))
    tables += [_sizes_table(description), _intervals_table(description)]
    tables += [_two_columns(title, list(counts.items())) for title, counts in pixel_facts(description).items()]
    if "rejected" in description:
        tables.append(_left_out_table(description))
    return tables


def pixel_facts(description: Mapping[str, Any]) -> dict[str, dict[str, int | str]]:
    """What only some cohorts know of their radiographs: title -> label -> count or figure."""
    facts: dict[str, dict[str, int | str]] = {}
    if "laterality_evidence" in description:
        facts["What decided the laterality"] = description["laterality_evidence"]
    if "scaling" in description:
        facts["How grey values were scaled"] = description["scaling"]
    if "published_split" in description:
        facts["Published split"] = description["published_split"]
    if "exposed_fraction" in description:
        field = description["exposed_fraction"]
        shares = {"median": field["median"], "quartiles": (field["q1"], field["q3"]), "smallest": field["min"]}
        shown = {label: _percent(share) for label, share in shares.items() if field["known"]}
        facts["Share of the image inside the collimated field"] = {"radiographs measured": field["known"], **shown}
    if "pixels_checked" in description:
        facts["Pixels looked at for duplicates"] = {
            f"radiographs with a {name.replace('_', ' ')}": known
            for name, known in description["pixels_checked"].items()
        }
    return facts


def left_out_title(description: Mapping[str, Any]) -> str:
    """`Left out: 3 of 20`."""
    return f"Left out: {sum(description['rejected'].values()):,} of {description['files_seen']:,}"


def meaning(reason: str) -> str:
    """What a reason for leaving a file out means; empty for one that this version does not know."""
    return next((known.description for known in Reason if known == reason), "")


def _percent(share: float | tuple[float, float]) -> str:
    if isinstance(share, tuple):
        return f"{100 * share[0]:.0f} to {100 * share[1]:.0f} %"
    return f"{100 * share:.0f} %"


def _cohort_table(summary: Mapping[str, Any]) -> Table:
    names = ("radiographs", "patients", "studies")
    return _two_columns("Cohort", [*((name, summary[name]) for name in names), *summary["laterality"].items()])


def _table_one(table: Mapping[str, Any]) -> Table:
    by = table["by"]
    title = "Table 1" if by is None else f"Table 1, by {escape(by.replace('_', ' '))}"
    layout = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    lines = table_one.lines(table["columns"], digits=0)
    # Of a fixed width, so that cells rather than labels are wrapped where it is narrow.
    layout.add_column(width=min(_LABEL, max(len(line.label) + 2 for line in lines)), overflow="fold")
    for column in table["columns"]:
        layout.add_column(escape(column["group"]), justify="right", overflow="fold")
    for line in lines:
        label = escape(f"{'  ' if line.indented else ''}{line.label}")
        layout.add_row(label, *line.cells, style="" if line.indented else "bold")
    return layout


def _findings_table(title: str, findings: Mapping[str, Mapping[str, int]]) -> Table:
    table = Table(title=title, title_justify="left", min_width=len(title))
    table.add_column("finding")
    for name in STATES:
        table.add_column(name, justify="right")
    for name, counts in findings.items():
        table.add_row(escape(name), *(f"{counts[state]:,}" for state in STATES))
    return table


def _sizes_table(description: Mapping[str, Any]) -> Table:
    table = Table(title="How many", title_justify="left")
    for name in ("", "mean", "median", "largest", "just one"):
        table.add_column(name, justify="right" if name else "left")
    for key in ("studies_per_patient", "images_per_study", "images_per_patient"):
        size = description[key]
        share = f"{100 * size['share_of_ones']:.1f} %"
        figures = (f"{size['mean']:.2f}", f"{size['median']:g}", f"{size['largest']:,}", share)
        table.add_row(key.replace("_", " "), *figures)
    return table


def _intervals_table(description: Mapping[str, Any]) -> Table:
    intervals = description["study_intervals"]
    rows: list[tuple[str, object]] = [("studies with a date", description["dated_studies"])]
    rows.append(("intervals", intervals["known"]))
    if intervals["known"]:
        rows.append(("median [IQR], days", table_one.median_iqr(intervals)))
        rows += [(f"  {name}", number) for name, number in intervals["buckets"].items()]
    return _two_columns("Days between a patient's consecutive studies", rows)


def _left_out_table(description: Mapping[str, Any]) -> Table:
    title = left_out_title(description)
    if not description["rejected"]:
        return _two_columns("Left out", [(f"of {description['files_seen']:,} files or rows", 0)])
    table = Table(title=title, title_justify="left", show_header=False, min_width=len(title))
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column()
    for reason, number in description["rejected"].items():
        table.add_row(escape(reason), f"{number:,}", meaning(reason))
    return table


def _two_columns(title: str, rows: Sequence[tuple[str, object]]) -> Table:
    table = Table(title=title, title_justify="left", show_header=False, min_width=len(title))  # else the title wraps
    table.add_column()
    table.add_column(justify="right")
    for name, value in rows:
        table.add_row(escape(name), f"{value:,}" if isinstance(value, int) else str(value))
    return table
