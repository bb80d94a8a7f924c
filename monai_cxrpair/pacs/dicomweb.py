"""DICOMweb: QIDO-RS finds, WADO-RS fetches."""

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import requests
from dicomweb_client.web import DICOMwebClient

from monai_cxrpair.pacs.access import Access, Address
from monai_cxrpair.pacs.http import NotAcceptableError, open_session, translated
from monai_cxrpair.pacs.inbox import Inbox, Verdict
from monai_cxrpair.pacs.multipart import TruncatedError, boundary_of, first_part
from monai_cxrpair.pacs.query import Instance, Query, Series, Study, is_uid
from monai_cxrpair.pacs.retry import Retry, TransientError, UnavailableError

PAGE = 500  # answers per request: some hundred KB of JSON
SHORT = 50  # no server known to us caps its pages below; every study would cost two more requests if one might
_CHUNK = 1 << 18  # bytes
# As stored; without the parameter the server would have to send explicit little endian (DICOM PS3.18 8.7.3.5.2).
_AS_STORED = 'multipart/related; type="application/dicom"; transfer-syntax=*'
_ANY_SYNTAX = 'multipart/related; type="application/dicom"'
_STUDY_FIELDS = ("StudyDate", "AccessionNumber", "NumberOfStudyRelatedInstances")
_SERIES_FIELDS = ("Modality", "BodyPartExamined")


class DicomWeb:
    """A DICOMweb server.

    Args:
        address: Its address.
        access: Credentials and certificates.
        inbox: Where what it sends arrives.
        retry: How a page of a search is asked for again; the caller does it for instances.
        parallel: How many threads will use it; it never has more sockets open.
        timeout: Seconds without a byte after which a request has failed.

    Raises:
        CxrPairError: The credentials may not be sent there.
    """

    batch = 1  # one request per instance: one failure is one instance, and nothing arrives unasked

    def __init__(
        self, address: Address, access: Access, inbox: Inbox, *, retry: Retry, parallel: int, timeout: float
    ) -> None:
        access.check(address)
        self._inbox = inbox
        self._retry = retry
        self._timeout = timeout
        self._accept = _AS_STORED
        self._session = open_session(address, access, parallel)
        self._client = DICOMwebClient(address.url, session=self._session, timeout=timeout)
        self._client.set_http_retry_params(retry=False)  # `Retry` does it, with jitter and for broken connections too
        self._client.host = urlsplit(address.url).netloc  # its Host header leaves out the port
        self.notes: set[str] = set()

    def find_studies(self, query: Query, accession: str | None) -> tuple[list[Study], list[str]]:
        """Studies of an accession number or of the query's dates, page by page."""
        filters = {}
        if query.dates:
            filters["StudyDate"] = "-".join(query.dates)
        if accession is not None:
            filters["AccessionNumber"] = accession
        studies: dict[str, Study] = {}
        notes: list[str] = []
        for modality in query.modalities:  # one request each: few servers take a list here
            found = self._pages(
                lambda start, wanted=modality: self._client.search_for_studies(  # type: ignore[misc]
                    search_filters={**filters, "ModalitiesInStudy": wanted},
                    fields=_STUDY_FIELDS,
                    limit=PAGE,
                    offset=start,
                ),
                "StudyInstanceUID",
                notes,
            )
            for uid, answer in found.items():
                count = _text(answer, "NumberOfStudyRelatedInstances")
                studies[uid] = Study(
                    uid,
                    date=_text(answer, "StudyDate"),
                    accession=_text(answer, "AccessionNumber"),
                    instances=int(count) if count.isdecimal() else None,
                )
        return list(studies.values()), notes

    def find_series(self, study: str) -> list[Series]:
        """The series of a study."""
        found = self._pages(
            lambda start: self._client.search_for_series(study, fields=_SERIES_FIELDS, limit=PAGE, offset=start),
            "SeriesInstanceUID",
        )
        _some(found, "series of a study")
        return [Series(uid, _text(each, "Modality"), _text(each, "BodyPartExamined")) for uid, each in found.items()]

    def find_instances(self, study: str, series: str) -> list[Instance]:
        """The instances of a series."""
        found = self._pages(
            lambda start: self._client.search_for_instances(study, series, limit=PAGE, offset=start), "SOPInstanceUID"
        )
        _some(found, "instance of a series")
        return [Instance(uid, _text(each, "SOPClassUID"), series, study) for uid, each in found.items()]

    def fetch(self, instances: list[Instance]) -> None:
        """Fetch instances one by one, as stored, straight to the disk."""
        for instance in instances:
            self._fetch(instance)

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def _pages(
        self, search: Callable[[int], list[dict[str, Any]]], keyword: str, notes: list[str] | None = None
    ) -> dict[str, dict[str, Any]]:
        """All pages of answers by UID, each UID once."""
        found: dict[str, dict[str, Any]] = {}
        offset = 0
        while True:
            # A page may be shorter than asked for where the server has a limit of its own: the end is a very short one.
            page = self._retry.call(lambda start=offset: translated(lambda: search(start)))  # type: ignore[misc]
            new = {uid: each for each in page if (uid := _text(each, keyword)) not in found}
            if any(not is_uid(uid) for uid in new):
                raise UnavailableError(f"the server answered a search without a proper {keyword}")
            found.update(new)
            offset += len(page)
            if len(page) < SHORT or len(page) > PAGE:  # more than asked for: it knows no paging, this was everything
                return found
            if not new:  # the same page again: it ignores the offset
                if len(page) == PAGE and notes is not None:
                    notes.append(f"the server gives {PAGE} answers and no further pages: ask for fewer days at a time")
                return found

    def _fetch(self, instance: Instance) -> None:
        url = f"{self._client.base_url}/studies/{instance.study}/series/{instance.series}/instances/{instance.uid}"
        accept = self._accept
        try:
            with translated(
                lambda: self._session.get(url, headers={"Accept": accept}, stream=True, timeout=self._timeout)
            ) as response:
                if self._inbox.receive(instance.uid, _body(response)) is Verdict.UNWANTED:
                    raise UnavailableError("the server sent an instance that was not asked for")
        except NotAcceptableError:
            if accept == _ANY_SYNTAX:
                raise UnavailableError("the server answered 406 (it cannot send DICOM files)") from None
            self.notes.add("the server cannot send objects as stored: it may have changed their transfer syntax")
            self._accept = _ANY_SYNTAX
            self._fetch(instance)


def _body(response: requests.Response) -> Iterator[bytes]:
    """The bytes of the one object in an answer; a body that ends early is a TransientError."""
    chunks = response.iter_content(_CHUNK)
    # Without a boundary it is the file itself (PS3.18 allowed that for some years).
    boundary = boundary_of(response.headers.get("Content-Type", ""))
    parts = iter(chunks) if boundary is None else first_part(chunks, boundary)
    while True:
        try:
            chunk = translated(lambda: next(parts, None))
        except TruncatedError:
            raise TransientError("the server's answer broke off") from None
        except OSError:  # a socket error that no library wrapped; it must not look like one of the disk
            raise TransientError("the connection broke") from None
        if chunk is None:
            return
        yield chunk


def _some(found: dict[str, Any], what: str) -> None:
    if not found:
        raise UnavailableError(f"the server finds no {what} that it has")


def _text(answer: dict[str, Any], keyword: str) -> str:
    """The first value of an attribute in DICOM JSON (PS3.18 F.2.2) as text; empty where there is none."""
    values = answer.get(DICOMwebClient.lookup_tag(keyword), {}).get("Value") or [""]
    return "" if values[0] is None else str(values[0]).strip()
