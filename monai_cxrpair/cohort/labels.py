"""Join the findings of a second table: a radiologist's sheet, a report miner's output, a phantom's truth."""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from monai_cxrpair.cohort import columns
from monai_cxrpair.cohort.findings import finding_name, finding_values, indicators
from monai_cxrpair.cohort.paths import relative_paths
from monai_cxrpair.cohort.reading import Reading
from monai_cxrpair.cohort.schema import COLUMNS, broken
from monai_cxrpair.errors import CxrPairError

_KEYS = ("image_id", "study_id", "path")  # in this order: the image decides over the study
_NAME_COLUMNS = ("labels", "findinglabels")  # columns of names even where no cell has two


_MOST_NAMES = 200  # PadChest has 174 finding names
_LONGEST_NAME = 64


@dataclass(frozen=True)
class _Labels:
    """The findings of a labels file, one row per key."""

    key: str
    column: str
    keys: pd.Series
    values: pd.DataFrame
    unused: list[str]


def join_labels(reading: Reading, raw: pd.DataFrame, *, finding: Mapping[str, str] | None = None) -> None:
    """Add the findings of a labels file to a reading, and note what did not match.

    The key is a column with the name of an image id, a study id or a path, whichever is there first in this order.
    Columns with no other values than 1, 0, -1 and blank become findings, and so does each name in a column of names
    separated by `|`. Where a finding is there already, the labels file wins wherever it says something.

    Args:
        reading: The radiographs; its table, findings and notes are extended.
        raw: The labels file as text.
        finding: Finding -> column of the labels file; where any is named, only these are joined.

    Raises:
        CxrPairError: There is no key or no finding, a key has contradicting rows, or nothing matches.
    """
    labels = _read(raw, reading, finding or {})
    table = reading.table
    own = table["_study"] if labels.key == "study_id" and "_study" in table else table[labels.key]
    rows = pd.Index(labels.keys).get_indexer(pd.Index(own))
    matched = rows >= 0
    if not matched.any():
        raise CxrPairError(f"no {labels.column!r} of the labels file is the {labels.key} of a radiograph")
    for name in labels.values.columns:
        values = labels.values[name].to_numpy()[rows]
        new = pd.Series(values, index=table.index).where(matched)
        if name in table:
            old = table[name]
            changed = int((new.notna() & old.notna() & (new != old)).sum())
            if changed:
                reading.notes.append(f"finding {name!r}: the labels file changed {changed} values")
            new = new.fillna(old)
        else:
            reading.findings.append(name)
        table[name] = new.astype("float32")
    reading.notes.append(f"findings of the labels file, by {labels.key}: {', '.join(labels.values.columns)}")
    unlabelled, strangers = int((~matched).sum()), len(labels.keys) - len(set(rows[matched]))
    if unlabelled:
        reading.notes.append(f"{unlabelled} of {len(table)} radiographs are not in the labels file")
    if strangers:
        reading.notes.append(f"{strangers} of {len(labels.keys)} keys of the labels file fit no radiograph")
    if labels.unused:
        reading.notes.append(f"columns of the labels file that were not used: {', '.join(labels.unused)}")


def _read(raw: pd.DataFrame, reading: Reading, finding: Mapping[str, str]) -> _Labels:
    source = columns.assign(raw, {})
    key = next((name for name in _KEYS if name in source), None)
    if key is None:
        raise CxrPairError(f"the labels file has no image id, study id or path; it has: {', '.join(raw.columns)}")
    keys = relative_paths(raw[source[key]], reading.root) if key == "path" else raw[source[key]]
    if key == "study_id" and reading.patient_in_studies and "patient_id" in source:
        keys = raw[source["patient_id"]] + "/" + keys
    metadata = set(source.values())
    found, unused = _findings(raw, metadata, finding)
    if found.empty:
        raise CxrPairError(
            "the labels file has no finding: no column of 1, 0, -1 and blank, and none of names separated by '|'"
        )
    used = keys.str.strip() != ""
    joined = found[used].assign(**{" key": keys[used]}).drop_duplicates()
    twice = joined[" key"].duplicated()
    if twice.any():
        raise CxrPairError(
            f"column {source[key]!r} of the labels file has {int(twice.sum())} keys with contradicting rows, "
            f"the first in data row {int(twice[twice].index[0])} counted from 0"
        )
    return _Labels(key, source[key], joined[" key"], joined.drop(columns=" key"), unused)


def _findings(raw: pd.DataFrame, metadata: set[str], finding: Mapping[str, str]) -> tuple[pd.DataFrame, list[str]]:
    """Find the label columns; return their values by finding, and the names of the other columns."""
    found: dict[str, pd.Series] = {}
    unused: list[str] = []
    wanted = {source: finding_name(name) for name, source in finding.items()}
    for source in finding.values():
        columns.require(raw, source)
    for source in raw.columns:
        name = wanted.get(source, finding_name(source))
        if source in metadata and source not in wanted:
            continue
        if wanted and source not in wanted:
            unused.append(source)
            continue
        values, wrong = finding_values(raw[source])
        if source in wanted:
            broken(source, wrong, f"a finding must be 1, 0, -1 or blank; this is read as {name!r}")
        if not wrong.any() and values.notna().any() and name not in COLUMNS:
            found[name] = values
        elif _is_list(raw[source], source):
            # A column of its own for a finding says more than its mention in a list.
            named = indicators(raw[source])
            found = {**{name: named[name] for name in named.columns}, **found}
        else:
            unused.append(source)
    return pd.DataFrame(found, index=raw.index), unused


def _is_list(texts: pd.Series, name: str) -> bool:
    """Say whether a column holds names separated by `|`, and is no free text that happens to have one."""
    if columns.squashed(name) not in _NAME_COLUMNS and not texts.str.contains("|", regex=False).any():
        return False
    parts = {part.strip() for text in texts.unique() for part in text.split("|")} - {""}
    return 0 < len(parts) <= _MOST_NAMES and max(map(len, parts)) <= _LONGEST_NAME
