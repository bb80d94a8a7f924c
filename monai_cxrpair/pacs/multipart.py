"""The one part of a multipart/related answer, while it arrives (RFC 2046 5.1).

`dicomweb_client` decodes a part with pydicom and gives a data set, which would be encoded anew; and it takes a body
that breaks off for the whole.
"""

from collections.abc import Iterable, Iterator
from email.message import Message

_LONGEST_HEADER = 1 << 16


class TruncatedError(Exception):
    """The body ended before its boundary."""


def boundary_of(content_type: str) -> bytes | None:
    """The boundary that a Content-Type header names; None where the body is no multipart."""
    message = Message()
    message["Content-Type"] = content_type
    boundary = message.get_boundary()
    if message.get_content_maintype() != "multipart" or not boundary:
        return None
    return boundary.encode("latin-1", "replace")


def first_part(chunks: Iterable[bytes], boundary: bytes) -> Iterator[bytes]:
    """Give the content of the first part, holding no more of it than a chunk.

    Args:
        chunks: The body.
        boundary: What its Content-Type names.

    Raises:
        TruncatedError: The body ends before the part does.
    """
    delimiter = b"\r\n--" + boundary
    held = b"\r\n"  # the first delimiter may stand at the very beginning
    source = iter(chunks)
    # The first delimiter, the rest of its line, and the part's header up to the empty line.
    while (start := held.find(delimiter)) < 0 or (end := held.find(b"\r\n\r\n", start + len(delimiter))) < 0:
        chunk = next(source, None)
        if chunk is None or len(held) > _LONGEST_HEADER:
            raise TruncatedError
        held += chunk
    held = held[end + 4 :]
    while (stop := held.find(delimiter)) < 0:
        keep = len(delimiter) - 1  # the delimiter may lie across two chunks
        if len(held) > keep:
            yield held[:-keep]
            held = held[-keep:]
        chunk = next(source, None)
        if chunk is None:
            raise TruncatedError
        held += chunk
    yield held[:stop]
