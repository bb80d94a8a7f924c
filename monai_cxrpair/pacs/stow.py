"""STOW-RS: store objects over DICOMweb (PS3.18 10.5)."""

import json
import uuid
from typing import Any

import requests

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.pacs.access import Access, Address
from monai_cxrpair.pacs.http import check_answer, open_session, translated
from monai_cxrpair.pacs.outgoing import Outgoing
from monai_cxrpair.pacs.retry import RefusedError, TransientError, UnavailableError

# Attributes of the answer (PS3.18 I.2), and the reasons in it (PS3.3 C.14, PS3.4 B.2.3, PS3.7 annex C)
_STORED, _FAILED, _UID, _REASON = "00081199", "00081198", "00081155", "00081197"
_DUPLICATE, _NOT_AUTHORISED, _OUT_OF_RESOURCES = 0x0111, 0x0124, range(0xA700, 0xA800)


class Stow:
    """A DICOMweb server that takes objects, one in a request: a failure is one object's.

    Args:
        address: Its address.
        access: Credentials and certificates.
        parallel: How many threads will use it.
        timeout: Seconds without a byte after which a request has failed.
    """

    def __init__(self, address: Address, access: Access, *, parallel: int, timeout: float) -> None:
        self._session = open_session(address, access, parallel)
        self._url = f"{address.url}/studies"
        self._timeout = timeout

    def send(self, item: Outgoing) -> bool:
        """Send one object; False where the server had it already."""
        boundary = uuid.uuid4().hex
        try:
            content = item.path.read_bytes()
        except OSError as error:
            raise CxrPairError(f"{item.path} cannot be read ({error.strerror or error})") from error
        body = b"\r\n".join(
            [f"--{boundary}\r\nContent-Type: application/dicom\r\n".encode(), content, f"--{boundary}--\r\n".encode()]
        )
        headers = {
            "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
            "Accept": "application/dicom+json",
        }
        answer = translated(
            lambda: self._session.post(
                self._url, data=body, headers=headers, timeout=self._timeout, hooks={"response": [_check]}
            )
        )
        return _stored(answer, item.uid)

    def close(self) -> None:
        """Close the connections."""
        self._session.close()


def _check(response: requests.Response, *arguments: Any, **settings: Any) -> None:
    """As for every other request, but 409 has an answer in it: why the object was not stored."""
    if response.status_code != 409:
        check_answer(response, *arguments, **settings)


def _stored(response: requests.Response, uid: str) -> bool:
    """Whether the answer says that the object is stored, now or already."""
    try:
        answer = json.loads(response.content)
        answer = answer[0] if isinstance(answer, list) else answer
        failed = {_value(each, _UID): _value(each, _REASON) for each in _items(answer, _FAILED)}
        stored = {_value(each, _UID) for each in _items(answer, _STORED)}
    except (ValueError, LookupError, TypeError, AttributeError):
        said = "the server's answer is not DICOM JSON: is the address that of its DICOMweb root?"
        raise UnavailableError(said if response.status_code != 409 else "the server answered 409") from None
    if uid in stored:
        return True
    if uid not in failed:
        raise UnavailableError("the server does not say that it stored the object")
    reason = int(failed[uid]) if str(failed[uid]).isdecimal() else 0
    if reason == _DUPLICATE:
        return False
    if reason in _OUT_OF_RESOURCES:
        raise TransientError(f"the server has no room now (reason 0x{reason:04X})")
    if reason == _NOT_AUTHORISED:
        raise RefusedError("the server does not let us store objects (reason 0x0124)")
    raise UnavailableError(f"the server did not store the object (reason 0x{reason:04X})")


def _items(answer: dict[str, Any], tag: str) -> list[dict[str, Any]]:
    return list(answer.get(tag, {}).get("Value") or [])


def _value(item: dict[str, Any], tag: str) -> Any:
    return (item.get(tag, {}).get("Value") or [""])[0]
