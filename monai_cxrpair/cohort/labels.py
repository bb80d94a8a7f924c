"""Join the findings of a second table: a radiologist's sheet, a report miner's output, a phantom's truth."""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from monai_cxrpair.cohort.readers import columns
from monai_cxrpair.cohort.readers.chexpert import public_ids
from monai_cxrpair.cohort.readers.findings import finding_name, finding_values, indicators, names_in
from monai_cxrpair.cohort.readers.paths import relative_paths
from monai_cxrpair.cohort.reading import Reading
from monai_cxrpair.cohort.schema import COLUMNS, broken
from monai_cxrpair.errors import CxrPairError

_KEYS = ("image_id", "study_id", "path")  # in this order: the image decides over the study
_NAME_COLUMNS = ("labels", "findinglabels")  # columns of names even where no cell has two


_MOST_NAMES = 300  # PadChest has 174 findings and 19 diagnoses
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
    (`Effusion|Mass`, or `['pleural effusion', 'mass']` as PadChest writes it). Keys are compared exactly; those of
    CheXpert may be paths with any folder in front. Where a finding is there already, the labels file wins wherever it
    says something.

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
    hint = _damaged(labels.keys[~labels.keys.isin(own)], own[~matched])
    if not matched.any():
        raise CxrPairError(f"no {labels.column!r} of the labels file is the {labels.key} of a radiograph{hint}")
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
        reading.notes.append(f"{strangers} of {len(labels.keys)} keys of the labels file fit no radiograph{hint}")
    if labels.unused:
        reading.notes.append(f"columns of the labels file that were not used: {', '.join(labels.unused)}")


def _read(raw: pd.DataFrame, reading: Reading, finding: Mapping[str, str]) -> _Labels:
    source = columns.assign(raw, {})
    key = next((name for name in _KEYS if name in source), None)
    if key is None:
        raise CxrPairError(f"the labels file has no image id, study id or path; it has: {', '.join(raw.columns)}")
    if reading.source == "chexpert" and key != "image_id":
        # The test set's labels name `CheXpert-v1.0/test/patient64741/study1`, and MedAug's paths are another machine's.
        column, keys = source[key], public_ids(raw[source[key]])
        key = "image_id" if key == "path" else key
    else:
        column, keys = source[key], raw[source[key]]
        keys = relative_paths(keys, reading.root) if key == "path" else keys
    if key == "study_id" and reading.patient_in_studies and "patient_id" in source:
        keys = raw[source["patient_id"]] + "/" + keys
    metadata = set(source.values())
    found, unused = _findings(raw, metadata, finding)
    if found.empty:
        raise CxrPairError(
            "the labels file has no finding: no column of 1, 0, -1 and blank, and none of names (`Effusion|Mass`)"
        )
    used = keys.str.strip() != ""
    joined = found[used].assign(**{" key": keys[used]}).drop_duplicates()
    twice = joined[" key"].duplicated()
    if twice.any():
        raise CxrPairError(
            f"column {column!r} of the labels file has {int(twice.sum())} keys with contradicting rows, "
            f"the first in data row {int(twice[twice].index[0])} counted from 0"
        )
    return _Labels(key, column, joined[" key"], joined.drop(columns=" key"), unused)


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
    """Say whether a column holds lists of names, and is no free text that happens to have a `|` or a bracket."""
    unique = pd.Series(texts.unique(), dtype="str")
    bars = unique.str.contains("|", regex=False) | unique.str.fullmatch(r"\s*\[.*['\"].*\]\s*")
    if columns.squashed(name) not in _NAME_COLUMNS and not bars.any():
        return False
    parts: set[str] = set()
    for text in unique:
        parts.update(names_in(text))
        if len(parts) > _MOST_NAMES:  # free text is known after a few hundred cells
            return False
    return len(parts) > 0 and max(map(len, parts)) <= _LONGEST_NAME


def _damaged(keys: pd.Series, own: pd.Series) -> str:
    """Say what a spreadsheet has done to ids that it took for numbers, where that is why they do not match."""
    bare = own.str.lstrip("0")
    as_numbers = keys.str.strip().str.removesuffix(".0").str.lstrip("0")
    count = int(as_numbers[as_numbers != ""].isin(bare[bare != ""]).sum())
    if count:
        return f"; {count} would without leading zeros or `.0`: a spreadsheet took ids for numbers, export them as text"
    rounded = int(keys.str.fullmatch(r"\s*\d(?:[.,]\d+)?[eE]\+?\d+\s*").sum())
    return f"; {rounded} look like 2.16E+17: a spreadsheet rounded long ids, export them as text" if rounded else ""
