"""HTTP towards a DICOMweb server: credentials, certificates, and what each answer means for us."""

import logging
from collections.abc import Callable
from typing import Any, TypeVar

import requests
from requests.adapters import HTTPAdapter
from requests.auth import HTTPBasicAuth
from requests.utils import get_environ_proxies

from monai_cxrpair.pacs.access import VARIABLES, Access, Address
from monai_cxrpair.pacs.retry import RefusedError, TransientError, UnavailableError

# 408 and 429 ask for it, 5xx is the server's own trouble; 501 and 505 will stay as they are.
_TRANSIENT = {408, 425, 429, 500, 502, 503, 504, 507, 509, 599}
_Result = TypeVar("_Result")

# These log URLs, which hold identifiers; `retrying` even prints them with a traceback.
for _name in ("dicomweb_client", "retrying", "urllib3"):
    logging.getLogger(_name).addHandler(logging.NullHandler())
    logging.getLogger(_name).propagate = False


class NotAcceptableError(UnavailableError):
    """The server does not know `transfer-syntax=*`."""


def open_session(address: Address, access: Access, parallel: int) -> requests.Session:
    """A session that sends credentials to this server only."""
    session = requests.Session()
    # Otherwise ~/.netrc would add credentials of its own and REQUESTS_CA_BUNDLE would replace our CA.
    session.trust_env = False
    if not address.loopback:
        session.proxies = dict(get_environ_proxies(address.url))
    if access.token:
        session.headers["Authorization"] = f"Bearer {access.token}"
    elif access.user:
        session.auth = HTTPBasicAuth(access.user.encode(), access.password.encode())  # requests itself takes Latin-1
    session.mount(address.url, HTTPAdapter(pool_connections=1, pool_maxsize=parallel, pool_block=True))
    session.verify = str(access.ca) if access.ca else True
    if access.cert:
        session.cert = (str(access.cert), str(access.key)) if access.key else str(access.cert)
    session.hooks["response"].append(check_answer)
    return session


def check_answer(response: requests.Response, *_: Any, **__: Any) -> None:
    """Turn each answer that is no success into a failure, before the client looks at it."""
    code = response.status_code
    if 200 <= code < 300:
        return
    response.close()
    if code == 401:
        names = f"{VARIABLES['user']} and {VARIABLES['password']}, or {VARIABLES['token']}"
        raise RefusedError(f"the server refuses the credentials (401): check {names}, then run it again to go on")
    if code in (301, 302, 303, 307, 308):
        # Not followed: a redirection may lead to another host, or from https to http.
        raise RefusedError(f"the server redirects ({code}): give the address that it redirects to")
    if code == 407:
        raise RefusedError("the proxy wants credentials (407): reach the server without it (NO_PROXY)")
    if code == 406:
        raise NotAcceptableError("the server answered 406")
    if code in _TRANSIENT:
        wait = response.headers.get("Retry-After", "")
        raise TransientError(f"the server answered {code}", wait=float(wait) if wait.isdecimal() else 0.0)
    raise UnavailableError(f"the server answered {code}")


def translated(action: Callable[[], _Result]) -> _Result:
    """Run a request; whatever goes wrong gets a reason that names no URL, as URLs hold identifiers."""
    try:
        return action()
    except requests.exceptions.SSLError as error:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            raise RefusedError(
                f"the server's certificate is not trusted: set {VARIABLES['ca']} to the hospital's CA file"
            ) from None
        raise TransientError("the TLS connection failed") from None
    except requests.Timeout:
        raise TransientError("the server does not answer in time") from None
    except requests.exceptions.JSONDecodeError:
        raise UnavailableError("the server's answer is not JSON: is the address that of its DICOMweb root?") from None
    except requests.exceptions.ConnectionError:
        raise TransientError("no connection to the server, or it broke") from None
    except requests.RequestException as error:
        raise TransientError(f"the request failed ({type(error).__name__})") from None
