"""The cohort: the table of radiographs with their metadata and labels, as one parquet file."""

import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from monai_cxrpair.cohort import schema
from monai_cxrpair.cohort.files import atomic_path
from monai_cxrpair.cohort.reading import NO_PATIENTS
from monai_cxrpair.errors import CxrPairError

logger = logging.getLogger(__name__)

VERSION = 1
_METADATA_KEY = b"cxrpair"
_FINGERPRINT_COLUMNS = ("image_id", "patient_id", "study_id", "laterality")


class Cohort:
    """A checked table of radiographs, one row each.

    Args:
        table: At least `image_id`, `patient_id`, `study_id`, `path` and the findings; see `schema.complete` for what
            is filled where it is absent. Row numbers of the cohort are the positions in this table.
        root: The folder that `path` is relative to. It need not exist until pixels are read.
        findings: Names of the label columns (1 present, 0 absent, -1 uncertain, missing = not mentioned).
        source: What the table was read from: `dicom`, `chexpert`, `nih`, `table`, `phantom`, ...
        intake: `files_seen` and `rejected` of the index step that made the table; None where it was made otherwise.
        patients_known: False where the source has no patient ids (VinDr-CXR, RSNA): each image then stands for a
            patient of its own, pairing is refused, and no split can promise that no person is on two sides.

    Raises:
        CxrPairError: The table breaks a rule of `schema`; the message names the column, the row and the rule.
    """

    def __init__(
        self,
        table: pd.DataFrame,
        *,
        root: Path,
        findings: Sequence[str],
        source: str,
        intake: Mapping[str, Any] | None = None,
        patients_known: bool = True,
    ) -> None:
        self._findings = tuple(findings)
        self._table = schema.complete(table, self._findings)
        schema.check(self._table, self._findings)
        self._root = Path(root)
        self._source = source
        self._intake = dict(intake or {})
        self._patients_known = patients_known

    @classmethod
    def read(cls, path: str | Path, *, root: str | Path | None = None) -> "Cohort":
        """Read a cohort file.

        Args:
            path: A parquet file that `write` wrote.
            root: The folder with the images, where it is not the one stored in the file.

        Returns:
            The cohort, checked.

        Raises:
            CxrPairError: The file is missing, is not a cohort, or breaks a rule of the schema.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = Path(path)
        try:
            arrow = pq.read_table(path, partitioning=None)
        except FileNotFoundError as error:
            raise CxrPairError(f"no cohort file {path}: write one with `cxrpair index`") from error
        except (pa.ArrowException, OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno:  # pyarrow's own text repeats the path
                raise CxrPairError(f"{path} cannot be read: {os.strerror(error.errno)}") from error
            raise CxrPairError(f"{path} cannot be read as a cohort file (parquet)") from error
        try:
            metadata = json.loads((arrow.schema.metadata or {})[_METADATA_KEY])
            version, stored, findings = metadata["version"], metadata["root"], list(metadata["findings"])
            source, intake = str(metadata["source"]), dict(metadata.get("intake", {}))
            known = bool(metadata.get("patients_known", True))  # absent in files from before it was kept
        except (KeyError, ValueError, TypeError, RecursionError) as error:
            raise CxrPairError(f"{path} is a parquet file, but not a cohort: write one with `cxrpair index`") from error
        if version != VERSION:
            raise CxrPairError(f"{path} is a cohort of version {version}, this package reads version {VERSION}")
        try:
            arrow.validate(full=True)  # else texts may be no Unicode
            table = arrow.to_pandas()
            base = Path(root if root is not None else stored)
        except Exception as error:  # what the file says of pandas' types may be anything
            raise CxrPairError(f"{path} is damaged ({type(error).__name__}): write it with `cxrpair index`") from error
        absent = [name for name in schema.COLUMNS if name not in table]
        if absent:
            raise CxrPairError(f"{path}: cohort column {absent[0]!r} is missing")
        hashes = table["perceptual_hash"].dropna() if "perceptual_hash" in table else pd.Series(dtype="str")
        if isinstance(hashes.dtype, pd.CategoricalDtype) or not all(isinstance(each, str) for each in hashes):
            raise CxrPairError(
                f"{path}: cohort column 'perceptual_hash': a hash is text; write it with `cxrpair index`"
            )
        if not known:
            logger.warning("%s: %s", path.name, NO_PATIENTS)
        try:
            return cls(table, root=base, findings=findings, source=source, intake=intake, patients_known=known)
        except CxrPairError as error:
            raise CxrPairError(f"{path}: {error}") from error
        except Exception as error:  # columns may hold values of any type
            raise CxrPairError(f"{path} is damaged ({type(error).__name__}): write it with `cxrpair index`") from error

    def write(self, path: str | Path) -> None:
        """Write the cohort file at once or not at all, readable by its owner only (`path` may identify a patient).

        Raises:
            CxrPairError: The file cannot be written.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        metadata: dict[str, Any] = {"version": VERSION, "root": str(self._root.absolute()), "source": self._source}
        arrow = pa.Table.from_pandas(self._table, preserve_index=False)
        metadata |= {"findings": list(self._findings), "intake": self._intake, "patients_known": self._patients_known}
        encoded = json.dumps(metadata).encode()
        arrow = arrow.replace_schema_metadata({**(arrow.schema.metadata or {}), _METADATA_KEY: encoded})
        with atomic_path(Path(path)) as temporary:
            pq.write_table(arrow, temporary, compression="zstd")

    def __len__(self) -> int:
        return len(self._table)

    def __repr__(self) -> str:
        return f"Cohort({len(self)} radiographs, source={self._source!r}, findings={list(self._findings)})"

    @property
    def table(self) -> pd.DataFrame:
        """The table; changes to it do not reach the cohort."""
        return self._table.copy(deep=False)  # copy-on-write: costs nothing until it is changed

    @property
    def findings(self) -> list[str]:
        """Names of the label columns."""
        return list(self._findings)

    @property
    def root(self) -> Path:
        """The folder that `path` is relative to."""
        return self._root

    @property
    def source(self) -> str:
        """The format the cohort was read from."""
        return self._source

    @property
    def intake(self) -> dict[str, Any]:
        """`files_seen` and `rejected` (reason -> count) of the index step; empty for a part of a cohort."""
        return dict(self._intake)

    @property
    def patients_known(self) -> bool:
        """False where the source has no patient ids, and each image stands for a patient of its own."""
        return self._patients_known

    def paths(self) -> list[Path]:
        """The absolute path of each radiograph, in row order."""
        root = self._root.absolute()
        return [root / path for path in self._table["path"].tolist()]

    def where(self, filter: str) -> "Cohort":  # noqa: A002 - the word the user knows
        """Return the radiographs that fulfil a condition.

        Args:
            filter: An expression of `pandas.DataFrame.query`, such as `pneumonia == 1 and laterality == "frontal"`.
                A missing value fulfils no comparison except `!=`.

        Returns:
            A new cohort; its rows are numbered anew, `study_order` stays.

        Raises:
            CxrPairError: The filter cannot be evaluated, is not a condition, or nothing fulfils it.
        """
        if "__" in filter:  # a filter is a condition on columns, not a way into Python's internals
            raise CxrPairError(f"the filter {filter!r} cannot be used: it holds '__'")
        try:
            mask = self._table.eval(filter, engine="python", local_dict={}, global_dict={})
        except Exception as error:  # query evaluates what the user typed: any exception may come out of it
            names = ", ".join(self._table.columns)
            reason = " ".join(str(error).split()) or type(error).__name__
            raise CxrPairError(f"the filter {filter!r} cannot be used: {reason}; columns: {names}") from error
        if isinstance(mask, pd.Series) and mask.dtype == "boolean":
            mask = mask.fillna(False).astype(bool)
        if not isinstance(mask, pd.Series) or mask.dtype != bool:
            raise CxrPairError(f"the filter {filter!r} is no condition; write for example `pneumonia == 1`")
        if not mask.any():
            raise CxrPairError(f"the filter {filter!r} fits none of the {len(self)} radiographs")
        return self._part(self._table[mask])

    def take(self, rows: npt.NDArray[np.int64]) -> "Cohort":
        """Return the radiographs of these row numbers, in this order, as a new cohort.

        Raises:
            CxrPairError: A row is named twice (its image_id would not be unique).
        """
        return self._part(self._table.iloc[rows])

    def _part(self, table: pd.DataFrame) -> "Cohort":
        known, findings = self._patients_known, self._findings
        return Cohort(table, root=self._root, findings=findings, source=self._source, patients_known=known)

    def labels(self, finding: str) -> npt.NDArray[np.float64]:
        """Return a finding as numbers.

        Returns:
            float64 (radiographs,): 1 present, 0 absent, -1 uncertain, NaN missing.

        Raises:
            CxrPairError: There is no such finding.
        """
        if finding not in self._findings:
            there = ", ".join(self._findings) or "none; join them with `cxrpair index --labels FILE`"
            raise CxrPairError(f"finding is {finding!r}: the cohort has {there}")
        return np.asarray(self._table[finding].to_numpy(dtype=np.float64, na_value=np.nan))

    def codes(self, column: str) -> npt.NDArray[np.int64]:
        """Number the values of a column 0, 1, ... in the order in which they first appear; missing values are -1.

        Returns:
            int64 (radiographs,).

        Raises:
            CxrPairError: There is no such column.
        """
        if column not in self._table:
            raise CxrPairError(f"the cohort has no column {column!r}; there are: {', '.join(self._table.columns)}")
        return np.asarray(pd.factorize(self._table[column])[0], dtype=np.int64)

    def fingerprint(self) -> str:
        """SHA-256 over image, patient, study and laterality of all rows in their order.

        Equal fingerprints mean that row numbers mean the same radiographs and that every pairing rule gives the same
        candidates; findings, paths and ages have no part in it.
        """
        digest = hashlib.sha256()
        for name in _FINGERPRINT_COLUMNS:
            digest.update(json.dumps([name, *self._table[name].tolist()], ensure_ascii=False).encode())
        return digest.hexdigest()

    def summary(self) -> dict[str, Any]:
        """Count radiographs, patients, studies, lateralities and findings, as `cxrpair index --json` prints them.

        Where the patients are not known, `patients_known` is there and false, and `patients` counts the images.
        """
        laterality = self._table["laterality"].value_counts()
        return {
            "radiographs": len(self),
            "patients": int(self._table["patient_id"].nunique()),
            "studies": int(self._table["study_id"].nunique()),
            "laterality": {name: int(laterality.get(name, 0)) for name in schema.LATERALITIES},
            "findings": {name: count_states(self._table[name]) for name in self._findings},
            **({} if self._patients_known else {"patients_known": False}),
        }


def count_states(values: pd.Series) -> dict[str, int]:
    """Count the values of a finding by what they mean."""
    return {
        "present": int((values == 1).sum()),
        "absent": int((values == 0).sum()),
        "uncertain": int((values == -1).sum()),
        "missing": int(values.isna().sum()),
    }
