"""A census in words, and as tables for a terminal of 80 columns."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from monai_cxrpair.cohort.describe.table_one import percent

_STUDY = {
    "any": "any other radiograph of the patient",
    "same": "another radiograph of the same study",
    "distinct": "a radiograph of another study of the patient",
}
_LATERALITY = {
    "any": "",
    "same": ", frontal with frontal or lateral with lateral",
    "distinct": ", frontal with lateral",
}
_NEARLY_MOCO = 0.8  # of the queries paired with themselves: what is left hardly changes the training
_MUCH_MISSING = 0.25  # of the radiographs
_BAR = 24  # characters


def rate(share: float | None) -> str:
    """`28.9`, in percent; an en dash where there is nothing to take a share of."""
    return "–" if share is None else percent(share, 1, 1)  # type: ignore[arg-type]


def meaning(rule: Mapping[str, Any]) -> str:
    """Who may be the partner under one of the nine rules, in plain words."""
    return _STUDY[rule["study"]] + _LATERALITY[rule["laterality"]]


def verdict(rule: Mapping[str, Any], finding: str | None) -> str:
    """What a rule comes to, in a sentence or two of plain words."""
    itself = rule["self_pair_rate"]
    if itself is None:
        return "Nobody has a partner, so there is no query."
    if itself == 1:
        return "Every query is paired with itself: plain MoCo."
    if itself >= _NEARLY_MOCO:
        text = f"{rate(itself)} % of the queries are paired with themselves: it is nearly plain MoCo."
    elif itself > 0:
        text = f"{rate(1 - itself)} % of the queries meet another radiograph, {rate(itself)} % themselves."
    else:
        text = "Every query meets another radiograph."
    mismatch = rule["mismatch_rate"].get(finding)
    if mismatch == 0:
        text += f" No pair disagrees on {human(str(finding))}."
    elif mismatch is not None:
        text += f" Partners disagree on {human(str(finding))} in {rate(mismatch)} % of the draws."
    if (rule.get("settings") or {}).get("require_partner"):
        text += f" {rule['sizes']['0']:,} radiographs without a candidate are no queries."
    return text


def human(name: str) -> str:
    """`pleural effusion`."""
    return name.replace("_", " ")


def queue_words(queue: Mapping[str, Any]) -> str:
    """What of a queue is the query's own."""
    patient, study = queue["patient"], queue["study"]
    if patient is None:
        return (
            f"A queue of {queue['size']:,} keys is no smaller than the cohort: every query would meet itself as a "
            "negative, so training refuses it. Set queue_size."
        )
    return (
        f"In a queue of {queue['size']:,} keys a query meets on average {patient['expected']:.2f} of its own patient "
        f"({study['expected']:.2f} of its own study); {rate(patient['share'])} % of the queries meet at least one. "
        "Unless they are ignored, as they are by default (negatives#ignore), they are repelled like strangers."
    )


def unmentioned(census: Mapping[str, Any], finding: str) -> str:
    """A warning where so many radiographs say nothing of a finding that agreement means little; else empty."""
    missing = census["findings"][finding]["missing"]
    if missing < _MUCH_MISSING * census["radiographs"]:
        return ""
    return (
        f"{missing:,} of the {census['radiographs']:,} radiographs say nothing of {human(finding)} and count as free "
        "of it, as in the paper: pairs may disagree more often than is known."
    )


def pick(census: Mapping[str, Any], study: str, laterality: str = "any", *, include_self: bool = False) -> Any:
    """One of the nine rules."""
    wanted = (study, laterality, include_self)
    return next(r for r in census["rules"] if (r["study"], r["laterality"], r["include_self"]) == wanted)


def census_tables(census: Mapping[str, Any], *, finding: str | None) -> list[Table | str]:
    """Lay out what `census` returns.

    Args:
        census: As `census` makes it.
        finding: The finding whose disagreement is shown in detail; None where the cohort has none.
    """
    alone = [rule for rule in census["rules"] if not rule["include_self"]]
    parts: list[Table | str] = [
        f"{census['radiographs']:,} radiographs of {census['patients']:,} patients in {census['studies']:,} studies",
        *(f"Rule of {entry['name']}, {entry['text']}: {verdict(entry, finding)}" for entry in census["further"]),
        _rules_table(census, alone, finding),
        _sizes_table([*alone, *census["further"]]),
    ]
    if census["findings"]:
        parts.append(_findings_table(census, alone))
    if finding is not None:
        parts.append(_figure_2_table(census["figure_2"], finding))
        parts += [_distance_table(scale, finding) for scale in census["by_distance"]]
        parts += [text for text in [unmentioned(census, finding)] if text]
    return [*parts, queue_words(census["queue"])]


def _table(title: str, columns: Sequence[str], labels: int = 1, caption: str | None = None) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    table.min_width = len(title)  # else the title wraps
    table.caption, table.caption_justify = caption, "left"
    for number, name in enumerate(columns):
        if number < labels:
            table.add_column(name, overflow="fold")
        else:
            table.add_column(name, justify="right", no_wrap=True)
    return table


def _rules_table(census: Mapping[str, Any], alone: Sequence[Mapping[str, Any]], finding: str | None) -> Table:
    columns = ["study", "lat-\nerality", "with\npartner", "mean\nsize", "largest", "itself\n%", "itself\n+x %"]
    columns += ["differ\n%", "differ\n+x %"] if finding is not None else []
    caption = (
        "itself: queries paired with themselves. +x: the query is one of its own candidates, as in the paper's code."
    )
    if finding is not None:
        caption += f" differ: pairs that disagree on {escape(human(finding))}."
    table = _table("What each rule does", columns, 2, caption)
    for rule in alone:
        with_self = pick(census, rule["study"], rule["laterality"], include_self=True)
        cells = [f"{rule['with_partner']:,}", f"{rule['mean_size']:.2f}", f"{rule['largest']:,}"]
        cells += [rate(one["self_pair_rate"]) for one in (rule, with_self)]
        cells += [rate(one["mismatch_rate"][finding]) for one in (rule, with_self) if finding is not None]
        table.add_row(rule["study"], rule["laterality"], *cells)
    for rule in census["further"]:
        cells = [f"{rule['with_partner']:,}", f"{rule['mean_size']:.2f}", f"{rule['largest']:,}"]
        cells += [rate(rule["self_pair_rate"]), ""]
        cells += [rate(rule["mismatch_rate"][finding]), ""] if finding is not None else []
        table.add_row(escape(rule["name"]), "", *cells)
    return table


def _sizes_table(rules: Sequence[Mapping[str, Any]]) -> Table:
    buckets = list(rules[0]["sizes"])
    table = _table("Radiographs by their number of candidates", ["study", "laterality", *map(_short, buckets)], 2)
    for rule in rules:
        labels = (rule["study"], rule["laterality"]) if "study" in rule else (escape(rule["name"]), "")
        table.add_row(*labels, *(f"{count:,}" for count in rule["sizes"].values()))
    return table


def _short(bucket: str) -> str:
    return bucket.replace(" to ", "–").replace("more than ", ">")


def _findings_table(census: Mapping[str, Any], alone: Sequence[Mapping[str, Any]]) -> Table:
    heads = [f"{rule['study']}\n{rule['laterality']}".replace("distinct", "dist.") for rule in alone]
    table = _table("Pairs that disagree, %, by study and laterality of the rule", ["finding", *heads])
    table.columns[0].max_width = 22
    for name in census["findings"]:
        table.add_row(escape(human(name)), *(rate(rule["mismatch_rate"][name]) for rule in alone))
    return table


def _figure_2_table(figure: Mapping[str, Any], finding: str) -> Table:
    title = f"Share of the candidates that disagree on {escape(human(finding))}"
    caption = f"% of the {figure['radiographs']:,} radiographs with another study; all studies: the query included."
    table = _table(title, ["share, %", "all", "", "distinct", ""], caption=caption)
    table.columns[2].justify = table.columns[4].justify = "left"
    counts = figure["findings"][finding]
    total = max(figure["radiographs"], 1)
    longest = max(max(one) for one in counts.values()) or 1
    pairs = list(zip(counts["all_studies"], counts["distinct_studies"], strict=True))
    for number, both in enumerate(pairs):
        edges = f"{100 * number / len(pairs):.0f}–{100 * (number + 1) / len(pairs):.0f}"
        table.add_row(edges, *(cell for n in both for cell in (rate(n / total), "█" * round(_BAR * n / longest))))
    return table


def _distance_table(scale: Mapping[str, Any], finding: str) -> Table:
    title = f"Disagreement on {escape(human(finding))} by time between the two"
    table = _table(title, [f"{scale['unit']} apart", "differ %", "radiographs", "pairs"])
    for entry in scale["bins"]:
        numbers = (f"{entry['radiographs']:,}", f"{entry['pairs']:,}")
        table.add_row(entry["name"], rate(entry["mismatch_rate"][finding]), *numbers)
    return table
