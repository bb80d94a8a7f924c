"""Where the server is, and what lets us in: addresses from the command line, credentials from the environment."""

import ipaddress
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from monai_cxrpair.errors import CxrPairError

VARIABLES = {
    "user": "CXRPAIR_PACS_USER",
    "password": "CXRPAIR_PACS_PASSWORD",
    "token": "CXRPAIR_PACS_TOKEN",
    "ca": "CXRPAIR_PACS_CA",
    "cert": "CXRPAIR_PACS_CERT",
    "key": "CXRPAIR_PACS_KEY",
}
_AE_TITLE_LENGTH = 16  # DICOM PS3.5 6.2, value representation AE


@dataclass(frozen=True)
class Address:
    """A server: `https://host/dicom-web`, or `dimse://AET@host:port` (`dimses://` with TLS)."""

    scheme: str
    host: str
    port: int
    url: str = ""  # DICOMweb only
    aet: str = ""  # DIMSE only

    @property
    def web(self) -> bool:
        """Whether it speaks DICOMweb."""
        return self.scheme in ("http", "https")

    @property
    def encrypted(self) -> bool:
        """Whether what is said stays private."""
        return self.scheme in ("https", "dimses")

    @property
    def loopback(self) -> bool:
        """Whether it is this machine."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


@dataclass(frozen=True)
class Access:
    """Credentials and certificates; the secrets are in no `repr`."""

    user: str = ""
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None

    def check(self, address: Address) -> None:
        """Refuse to send a secret where others can read it.

        Raises:
            CxrPairError: The credentials do not fit the address or each other.
        """
        if self.token and self.user:
            raise CxrPairError(f"{VARIABLES['token']} and {VARIABLES['user']} are both set: unset one")
        if self.password and not self.user:
            raise CxrPairError(f"{VARIABLES['password']} is set without {VARIABLES['user']}")
        if self.token and not address.web:
            raise CxrPairError(f"{VARIABLES['token']} is for DICOMweb: unset it for DIMSE")
        if (self.user or self.token) and not (address.encrypted or address.loopback):
            better = "https://" if address.web else "dimses://"
            raise CxrPairError(
                f"the credentials would travel unencrypted over {address.scheme}://: use {better}, or unset "
                + " and ".join(VARIABLES[name] for name in ("user", "password", "token"))
            )
        for name in ("ca", "cert", "key"):
            path = getattr(self, name)
            if path is not None and not path.is_file():
                raise CxrPairError(f"{VARIABLES[name]}: no file {path}")
        if self.key and not self.cert:
            raise CxrPairError(f"{VARIABLES['key']} is set without {VARIABLES['cert']}")

    def client_context(self) -> ssl.SSLContext:
        """TLS towards a server: its certificate and name are checked, ours is shown where there is one."""
        return self._context(ssl.Purpose.SERVER_AUTH)

    def server_context(self) -> ssl.SSLContext:
        """TLS for the port to which a C-MOVE sends: with a CA, the sender must show a certificate of it."""
        if not self.cert:
            raise CxrPairError(
                f"receiving with TLS needs a certificate: set {VARIABLES['cert']} and {VARIABLES['key']}"
            )
        context = self._context(ssl.Purpose.CLIENT_AUTH)
        if self.ca:
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def _context(self, purpose: ssl.Purpose) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(purpose, cafile=None if self.ca is None else str(self.ca))
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            if self.cert:
                context.load_cert_chain(self.cert, self.key, password=_no_password)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            names = ", ".join(VARIABLES[name] for name in ("ca", "cert", "key"))
            raise CxrPairError(f"the certificates ({names}) cannot be read as unencrypted PEM files") from error
        return context


def _no_password() -> str:
    """Instead of OpenSSL's own question on the terminal, which a job at night would wait at for ever."""
    raise ValueError


def read_access(environment: Mapping[str, str] = os.environ) -> Access:
    """Take the credentials from the environment; an empty variable is one that is not set."""
    texts = {name: environment.get(variable, "") for name, variable in VARIABLES.items()}
    paths = {name: Path(texts[name]).expanduser() if texts[name] else None for name in ("ca", "cert", "key")}
    return Access(user=texts["user"], password=texts["password"], token=texts["token"], **paths)


def read_address(text: str) -> Address:
    """Read the address of a server.

    Raises:
        CxrPairError: It is none, or holds a password.
    """
    # The text is in no message: it may hold a password.
    try:
        parts = urlsplit(text.strip())
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise CxrPairError("the server's address is malformed") from None
    web = parts.scheme in ("http", "https")
    if parts.password is not None or (web and parts.username is not None) or parts.query or parts.fragment:
        raise CxrPairError(
            f"credentials do not belong on the command line: set {VARIABLES['user']} and {VARIABLES['password']}, "
            f"or {VARIABLES['token']}"
        )
    if web and host:
        default = 443 if parts.scheme == "https" else 80
        return Address(scheme=parts.scheme, host=host, port=port or default, url=text.strip().rstrip("/"))
    if parts.scheme in ("dimse", "dimses") and host and port and not parts.path.strip("/"):
        # urlsplit keeps the case of the user's part, and an AE title has one.
        return Address(scheme=parts.scheme, host=host, port=port, aet=ae_title(parts.username or ""))
    raise CxrPairError("the server's address should read https://host/dicom-web or dimse://AET@host:port")


def ae_title(text: str) -> str:
    """Check an AE title.

    Raises:
        CxrPairError: It is empty, too long, or not ASCII.
    """
    title = text.strip()
    if not 0 < len(title) <= _AE_TITLE_LENGTH or not (title.isascii() and title.isprintable()) or "\\" in title:
        raise CxrPairError(f"an AE title has 1 to {_AE_TITLE_LENGTH} letters: give it as in dimse://ORTHANC@host:port")
    return title
