"""C-STORE: store objects over DIMSE."""

from monai_cxrpair.pacs.access import Access, Address
from monai_cxrpair.pacs.dimse_link import Links
from monai_cxrpair.pacs.dimse_store import STORAGE_CLASSES
from monai_cxrpair.pacs.outgoing import Outgoing
from monai_cxrpair.pacs.retry import RefusedError, TransientError, UnavailableError

_AT_ONCE = 5  # kinds of objects, beside radiographs, that one association has room to offer
# Status of a response: PS3.4 B.2.3 and PS3.7 annex C
_WARNINGS = (0x0001, 0x0107, 0x0116, *range(0xB000, 0xC000))  # stored, with something changed or doubted
_DUPLICATE = 0x0111
_REFUSED = (0x0122, 0x0124, 0x0211)
_OUT_OF_RESOURCES = range(0xA700, 0xA800)


class Store:
    """A server that takes objects over DIMSE. Each thread that uses it has one association.

    Args:
        address: Its address.
        access: Credentials and certificates.
        classes: The kinds of objects that will be sent.
        aet: Our own AE title.
        timeout: Seconds without an answer after which a request has failed.
    """

    def __init__(self, address: Address, access: Access, classes: set[str], *, aet: str, timeout: float) -> None:
        self._links = Links(address, access, None, aet=aet, method="store", timeout=timeout)
        self._classes = classes if len(classes - set(STORAGE_CLASSES)) <= _AT_ONCE else set()

    def send(self, item: Outgoing) -> bool:
        """Send one object, its bytes as they are; False where the server had it already."""
        with self._links.use(self._classes or {item.sop_class}) as association:
            status = association.send_c_store(item.path)
        if "Status" not in status:
            raise TransientError("the server does not answer in time, or the connection broke")
        code = int(status.Status)
        if code == 0 or code in _WARNINGS:
            return True
        if code == _DUPLICATE:
            return False
        if code in _OUT_OF_RESOURCES:
            raise TransientError(f"the server has no room now (status 0x{code:04X})")
        if code in _REFUSED:
            raise RefusedError(f"the server refuses C-STORE from us (status 0x{code:04X})")
        raise UnavailableError(f"the server did not store the object (status 0x{code:04X})")

    def close(self) -> None:
        """Release the associations."""
        self._links.close()
