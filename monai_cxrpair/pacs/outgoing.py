"""What is to be sent: which files are DICOM objects, and of which kind."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pydicom.errors import InvalidDicomError
from pydicom.filereader import dcmread

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.pacs.query import is_uid


@dataclass(frozen=True)
class Outgoing:
    """A file to send."""

    path: Path
    uid: str
    sop_class: str


def find_outgoing(paths: Iterable[Path]) -> tuple[list[Outgoing], int]:
    """Find the DICOM objects among files and in folders.

    Args:
        paths: Files, each of which must be a DICOM object, and folders, which may hold others too.

    Returns:
        The objects, each UID once; and how many files of the folders are none.

    Raises:
        CxrPairError: A file is missing or no DICOM object, two files have one UID, or there is nothing to send.
    """
    found: dict[str, Outgoing] = {}
    skipped = 0
    for path in paths:
        inside = path.is_dir()
        for file in sorted(each for each in path.rglob("*") if each.is_file()) if inside else [path]:
            item = _read(file)
            if item is None and not inside:
                raise CxrPairError(f"{file} is no DICOM file: leave it out, or give its folder")
            if item is None:
                skipped += 1
                continue
            twin = found.setdefault(item.uid, item)
            if twin.path.resolve() != file.resolve() and twin.path.read_bytes() != file.read_bytes():
                raise CxrPairError(
                    f"{twin.path} and {file} have the same SOP Instance UID and differ: send one of them"
                )
    if not found:
        raise CxrPairError("there is no DICOM file to send")
    return list(found.values()), skipped


def _read(file: Path) -> Outgoing | None:
    """The object in a file; None where it is no DICOM file (PS3.10), which is what can be sent as it is."""
    try:
        data = dcmread(file, stop_before_pixels=True, specific_tags=["SOPClassUID", "SOPInstanceUID"])
        uid, sop_class = str(data.SOPInstanceUID).strip(), str(data.SOPClassUID).strip()
        syntax = data.file_meta.TransferSyntaxUID
    except FileNotFoundError as error:
        raise CxrPairError(f"no file {file}") from error
    except InvalidDicomError:
        return None
    except OSError as error:
        raise CxrPairError(f"{file} cannot be read ({error.strerror or error})") from error
    except Exception:  # a parser that is fed foreign bytes may raise anything
        return None
    return Outgoing(file, uid, sop_class) if is_uid(uid) and is_uid(sop_class) and syntax else None
