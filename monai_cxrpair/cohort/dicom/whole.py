"""A file that pydicom may read as a whole: no length in it, and no compression, makes it ask for unbounded memory."""

import io
import os
from typing import Any, BinaryIO

from monai_cxrpair.cohort.dicom.archives import MAX_MEMBER
from monai_cxrpair.cohort.dicom.file import DEFLATED, HEAD, MAX_INFLATED, file_meta, inflated_size
from monai_cxrpair.errors import CxrPairError

MAX_DEPTH = 64  # sequences within sequences; structured reports have a dozen, pydicom's recursion ends at some 250


class _Clipped:
    """A file of which no more is asked than it has: Python makes room for what is asked before it reads."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size = file, size
        self.seek, self.tell, self.close = file.seek, file.tell, file.close

    def read(self, length: int = -1) -> bytes:
        left = max(self._size - self._file.tell(), 0)
        return self._file.read(left if length is None or length < 0 else min(length, left))


def whole_file(stream: BinaryIO) -> Any:
    """Give a file to `pydicom.dcmread` by this.

    Args:
        stream: Any file that can be sought, at its start.

    Returns:
        A file with the same content, at its start.

    Raises:
        CxrPairError: It is larger than a radiograph, or inflates to more than one has.
    """
    try:
        size = os.fstat(stream.fileno()).st_size
        file: Any = _Clipped(stream, size)
    except (AttributeError, OSError):  # in memory, or in an archive, where seeking is slow
        content = stream.read()
        file, size = io.BytesIO(content), len(content)
    if size > MAX_MEMBER:
        raise CxrPairError(f"a file of {size} bytes is no radiograph")
    head = file.read(HEAD)
    file.seek(0)
    start, syntax, _ = file_meta(head) if head[128:132] == b"DICM" else (0, "", "")
    if syntax == DEFLATED and inflated_size(file, start) > MAX_INFLATED:
        raise CxrPairError(f"inflates to more than {MAX_INFLATED} bytes, no radiograph does")
    file.seek(0)
    if not start and head[128:132] == b"DICM" and _names_deflated(file):  # pydicom would find it all the same
        raise CxrPairError("deflated, and without the length of its file meta information")
    file.seek(0)
    return file


def _names_deflated(file: Any) -> bool:
    return DEFLATED.encode() in file.read()


def check_depth(dataset: Any) -> None:
    """Refuse sequences within sequences beyond all use: what walks through them recurses.

    Raises:
        CxrPairError: They are deeper than `MAX_DEPTH`.
    """
    todo = [(dataset, 1)]
    while todo:
        level, depth = todo.pop()
        if depth > MAX_DEPTH:
            raise CxrPairError(f"its sequences are nested more than {MAX_DEPTH} deep")
        todo.extend((item, depth + 1) for element in level if element.VR == "SQ" for item in element.value or ())
