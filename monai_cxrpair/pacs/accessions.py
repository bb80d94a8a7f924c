"""A list of accession numbers: one per line, or a column of a table."""

from pathlib import Path

from monai_cxrpair.cohort.readers.columns import squashed
from monai_cxrpair.cohort.readers.textfile import is_table, read_text_table
from monai_cxrpair.errors import CxrPairError

_NAMES = ("accessionnumber", "accession", "accessionno")


def read_accessions(path: Path) -> tuple[str, ...]:
    """Read accession numbers as they are written: `00123` keeps its zeros.

    Args:
        path: A text file with one per line (a first line that reads `AccessionNumber` is its title), or a CSV, TSV,
            Excel or parquet file with a column of that name.

    Returns:
        The accession numbers, each once, in the file's order.

    Raises:
        CxrPairError: There is no such file, column or number.
    """
    if path.name.lower().endswith(".txt") or not is_table(path):
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except FileNotFoundError as error:
            raise CxrPairError(f"no file {path}") from error
        except (OSError, UnicodeDecodeError) as error:
            raise CxrPairError(f"{path} cannot be read as UTF-8 text") from error
        values = [line.strip().strip('"') for line in lines]
        if values and squashed(values[0]) in _NAMES:
            values = values[1:]
    else:
        table = read_text_table(path)
        column = next((name for name in table.columns if squashed(name) in _NAMES), None)
        if column is None and len(table.columns) > 1:
            # The message does not list the columns: a file without a title has a patient's values there.
            raise CxrPairError(f"{path} has no column AccessionNumber: rename the one that holds them")
        # A table of one column without that title is a plain list, and its first line a number too.
        values = list(table[column]) if column else [table.columns[0], *table.iloc[:, 0]]
    numbers = tuple(dict.fromkeys(value.strip() for value in values if value.strip()))
    if not numbers:
        raise CxrPairError(f"{path} holds no accession number")
    return numbers
