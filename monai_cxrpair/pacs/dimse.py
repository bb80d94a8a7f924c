"""DIMSE: C-FIND finds, C-GET or C-MOVE fetches."""

from collections.abc import Iterator
from typing import Literal

from pydicom.dataset import Dataset

from monai_cxrpair.pacs.access import Access, Address
from monai_cxrpair.pacs.dimse_link import FIND, GET, MOVE, Links
from monai_cxrpair.pacs.dimse_store import Receiver
from monai_cxrpair.pacs.inbox import Inbox
from monai_cxrpair.pacs.query import Instance, Query, Series, Study, is_uid
from monai_cxrpair.pacs.retry import RefusedError, Retry, StoppedError, TransientError, UnavailableError
from monai_cxrpair.pacs.windows import Window, WindowSearch

# Status of a response: DICOM PS3.4 C.4.1.1.4, C.4.2.1.5 and PS3.7 annex C
_PENDING = (0xFF00, 0xFF01)
_OUT_OF_RESOURCES = range(0xA700, 0xA800)
_UNKNOWN_DESTINATION = 0xA801
_NOT_UNDERSTOOD = 0xA900
_NOT_SUPPORTED = (0x0122, 0x0124, 0x0211)


class Dimse:
    """A server that speaks DIMSE. Each thread that uses it has one association.

    Args:
        address: Its address.
        access: Credentials and certificates.
        inbox: Where what it sends arrives.
        aet: Our own AE title; with C-MOVE the server must know it, with our host and port.
        method: `get` or `move`.
        listen: Address and port at which a C-MOVE arrives.
        retry: How a search is asked for again; the caller does it for instances.
        parallel: How many threads will use it.
        timeout: Seconds without an answer after which a request has failed.

    Raises:
        CxrPairError: The credentials may not be sent there, or the port cannot be opened.
    """

    batch = 50  # UIDs in one request: a list of 50 has 3 KB

    def __init__(
        self,
        address: Address,
        access: Access,
        inbox: Inbox,
        *,
        aet: str,
        method: Literal["get", "move"],
        listen: tuple[str, int],
        retry: Retry,
        parallel: int,
        timeout: float,
    ) -> None:
        access.check(address)
        self.notes: set[str] = set()
        self._inbox = inbox
        self._aet = aet
        self._method = method
        self._retry = retry
        self._receiver = Receiver(inbox)
        self._links = Links(address, access, self._receiver, aet=aet, method=method, timeout=timeout)
        if method == "move":
            tls = access.server_context() if address.encrypted else None
            self._receiver.listen(aet, listen, tls=tls, parallel=parallel, timeout=timeout)

    def find_studies(self, query: Query, accession: str | None) -> tuple[list[Study], list[str]]:
        """Studies of an accession number, or of the query's dates in as many windows as it takes."""
        studies: dict[str, Study] = {}
        notes: list[str] = []
        for modality in query.modalities:
            keys = {"ModalitiesInStudy": modality}
            if accession is not None:
                found = self._studies(keys | {"AccessionNumber": accession})[0]
                studies |= {study.uid: study for study in found}
            elif query.dates is not None:
                search = WindowSearch(lambda window, keys=keys: self._studies(keys | window.keys))  # type: ignore[misc]
                studies |= search.studies(Window.of(query.dates))
                notes += search.notes
        return list(studies.values()), list(dict.fromkeys(notes))

    def find_series(self, study: str) -> list[Series]:
        """The series of a study."""
        keys = {"StudyInstanceUID": study, "SeriesInstanceUID": "", "Modality": "", "BodyPartExamined": ""}
        return [
            Series(_uid(answer, "SeriesInstanceUID"), _text(answer, "Modality"), _text(answer, "BodyPartExamined"))
            for answer in self._find_all("SERIES", keys)
        ]

    def find_instances(self, study: str, series: str) -> list[Instance]:
        """The instances of a series."""
        keys = {"StudyInstanceUID": study, "SeriesInstanceUID": series, "SOPInstanceUID": "", "SOPClassUID": ""}
        return [
            Instance(_uid(answer, "SOPInstanceUID"), _text(answer, "SOPClassUID"), series, study)
            for answer in self._find_all("IMAGE", keys)
        ]

    def fetch(self, instances: list[Instance]) -> None:
        """Have instances of one series sent; what is missing afterwards is a TransientError."""
        request = Dataset()
        request.QueryRetrieveLevel = "IMAGE"
        request.StudyInstanceUID, request.SeriesInstanceUID = instances[0].study, instances[0].series
        request.SOPInstanceUID = [instance.uid for instance in instances]
        classes = {instance.sop_class for instance in instances if is_uid(instance.sop_class)}
        self._receiver.accept(classes)
        with self._links.use(classes if self._method == "get" else set()) as association:
            if self._method == "get":
                responses = association.send_c_get(request, GET)
            else:
                responses = association.send_c_move(request, self._aet, MOVE)
            status = next((_code(status) for status, _ in self._running(responses) if _code(status) not in _PENDING), 0)
        self._receiver.check()
        if self._inbox.missing(instances):
            raise _failure(status, f"C-{self._method.upper()}")

    def close(self) -> None:
        """Release the associations and close the port."""
        self._links.close()
        self._receiver.close()

    def _studies(self, keys: dict[str, str]) -> tuple[list[Study], bool]:
        """The studies of one C-FIND, and whether the server ran out of resources over it."""
        wanted = ("StudyInstanceUID", "StudyDate", "StudyTime", "AccessionNumber", "NumberOfStudyRelatedInstances")
        answers, cut_off = self._retry.call(lambda: self._find("STUDY", dict.fromkeys(wanted, "") | keys))
        studies = []
        for answer in answers:
            count = _text(answer, wanted[4])
            day, clock, accession = (_text(answer, keyword) for keyword in wanted[1:4])
            instances = int(count) if count.isdecimal() else None
            studies.append(Study(_uid(answer, wanted[0]), day, clock, accession, instances))
        return studies, cut_off

    def _find_all(self, level: str, keys: dict[str, str]) -> list[Dataset]:
        """All answers below a study or series that was found a moment ago, so that there must be some."""

        def ask() -> list[Dataset]:
            answers, cut_off = self._find(level, keys)
            if not answers:
                raise TransientError(f"the server finds nothing of a study at level {level}")
            if cut_off:
                raise UnavailableError(f"the server has too many answers to a search at level {level}")
            return answers

        return self._retry.call(ask)

    def _find(self, level: str, keys: dict[str, str]) -> tuple[list[Dataset], bool]:
        """One C-FIND: its answers, and whether it ended early for want of resources."""
        request = Dataset()
        if not all(text.isascii() for text in keys.values()):
            request.SpecificCharacterSet = "ISO_IR 192"
        request.QueryRetrieveLevel = level
        for keyword, text in keys.items():
            setattr(request, keyword, text)
        answers = []
        with self._links.use(set()) as association:
            for status, identifier in self._running(association.send_c_find(request, FIND)):
                if _code(status) in _PENDING:
                    if identifier is None:  # pynetdicom logs and goes on where it cannot decode an answer
                        raise TransientError("an answer of the server could not be read")
                    answers.append(identifier)
                elif answers and _code(status) in _OUT_OF_RESOURCES:
                    return answers, True
                elif _code(status) != 0:
                    raise _failure(_code(status), "C-FIND")
        return answers, False

    def _running(self, responses: Iterator[tuple[Dataset, Dataset | None]]) -> Iterator[tuple[Dataset, Dataset | None]]:
        """Give responses on until the pull is stopped; an empty one means that the server is gone."""
        for status, identifier in responses:
            if self._retry.stop.is_set():
                raise StoppedError
            if "Status" not in status:
                raise TransientError("the server does not answer in time, or the connection broke")
            yield status, identifier


def _failure(status: int, word: str) -> Exception:
    """What a status other than success means for us."""
    if status == _UNKNOWN_DESTINATION:
        return RefusedError(
            "the server does not know our AE title (--aet) as a destination: have it registered, with host and port"
        )
    if status in _NOT_SUPPORTED:
        return RefusedError(f"the server refuses {word} (status 0x{status:04X})")
    if status == _NOT_UNDERSTOOD:
        return UnavailableError(f"the server does not understand the {word} (status 0xA900)")
    return TransientError(f"{word} ended with status 0x{status:04X} and something missing")


def _code(status: Dataset) -> int:
    return int(status.Status)


def _text(answer: Dataset, keyword: str) -> str:
    value = answer.get(keyword)
    return "" if value is None else str(value).strip(" \0")


def _uid(answer: Dataset, keyword: str) -> str:
    uid = _text(answer, keyword)
    if not is_uid(uid):
        raise UnavailableError(f"the server answered a search without a proper {keyword}")
    return uid
