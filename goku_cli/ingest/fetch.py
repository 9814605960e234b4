"""Fetching media from the web and from S3: public addresses only, bounded in bytes and in time.

The address is checked when the socket is made, after every redirect and after the name was resolved, so a name
that resolves to another address later (DNS rebinding) reaches nothing either. There are no cookies and no proxy.
"""

import errno
import ipaddress
import re
import socket
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

import aiohttp
import fsspec
from fsspec.callbacks import Callback
from tenacity import Retrying, retry_if_exception, stop_after_attempt, stop_after_delay, wait_exponential_jitter

from goku_cli.errors import Cause, Fault
from goku_cli.ingest.found import scheme_of

MAX_BYTES = 20 << 30
"""A file: two hours of 4K in studio quality."""
MAX_SECONDS = 3000
"""One attempt: within the hour after which the stage gives an item up."""
STALLED_SECONDS = 60
ATTEMPTS = 4
RETRY_SECONDS = 500
PASSING = frozenset([408, 425, 429, 500, 502, 503, 504])
"""HTTP statuses that may be another a moment later."""
PRIVATE = "not a public address; --allow-private fetches it"
NAT64 = ipaddress.ip_network("64:ff9b::/96")
RESERVED = "%:/?#[]@!$&'()*+,;=~|"
"""What stands in addresses for itself, beside letters, digits and -._"""
REFUSED = re.compile(r"\b(noai|noimageai)\b", re.IGNORECASE)


def fetch(url: str, target: Path, *, allow_private: bool) -> None:
    """Write what a URL holds to `target`; what may pass is tried again, with growing pauses.

    Raises:
        Fault: NETWORK, TOO_LARGE, or PERMISSION when its server does not allow it for training.
    """
    tries = Retrying(
        stop=stop_after_attempt(ATTEMPTS) | stop_after_delay(RETRY_SECONDS),
        wait=wait_exponential_jitter(initial=0.5, max=30),
        retry=retry_if_exception(_passes),
        reraise=True,
    )
    try:
        tries(_get, url, target, allow_private)
    except Fault:
        raise
    except FileNotFoundError:
        raise Fault(Cause.NETWORK, f"nothing is at {url}") from None
    except ImportError as error:
        raise Fault(Cause.NETWORK, f"{error}; install it with: pip install s3fs") from error
    except aiohttp.ClientConnectorError as error:
        raise Fault(Cause.NETWORK, f"{error.host}: {error.os_error.strerror or error.os_error}") from error
    except aiohttp.TooManyRedirects:
        raise Fault(Cause.NETWORK, "the server sends it in circles") from None
    except (aiohttp.InvalidURL, aiohttp.RedirectClientError) as error:
        raise Fault(Cause.NETWORK, f"it leads to {error}, which is not an address on the web") from error
    except aiohttp.ClientResponseError as error:
        raise Fault(Cause.NETWORK, f"the server answered {error.status} {error.message}") from error
    except Exception as error:  # aiohttp, botocore and fsspec have no common root
        raise Fault(Cause.NETWORK, (str(error) or type(error).__name__).splitlines()[0][:300]) from error


def is_public(address: str) -> bool:
    """Say whether an IP address belongs to the public internet, also when it carries an IPv4 address within."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if ip in NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
    return ip.is_global and not ip.is_multicast


class _Meter(Callback):
    """Stops a download that grows too large, whatever its header said."""

    def relative_update(self, inc: int = 1) -> None:
        super().relative_update(inc)
        if self.value > MAX_BYTES:
            raise Fault(Cause.TOO_LARGE, f"more than {MAX_BYTES} bytes")


def _get(url: str, target: Path, allow_private: bool) -> None:
    if scheme_of(url) == "s3":
        store = fsspec.filesystem("s3")
    else:
        client = _open_client if allow_private else _public_client
        store = fsspec.filesystem("http", get_client=client, encoded=True)
        url = as_given(url)
    store.get_file(url, str(target), callback=_Meter())


def as_given(url: str) -> str:
    """Return an address as it goes over the wire: what may stand in one byte by byte, since it may be signed, and what
    may not (spaces, letters beyond ASCII) as codes."""
    parts = urlsplit(url)
    who, at, place = parts.netloc.rpartition("@")
    host, colon, port = place.partition(":")
    if not host.isascii():
        place = host.encode("idna").decode() + colon + port
    path, query = (quote(part, safe=RESERVED) for part in (parts.path, parts.query))
    return urlunsplit((parts.scheme, who + at + place, path or "/", query, ""))


async def _open_client(**settings: Any) -> aiohttp.ClientSession:
    return _session(None, settings)


async def _public_client(**settings: Any) -> aiohttp.ClientSession:
    return _session(_public_socket, settings)


def _session(sockets: Any, settings: dict[str, Any]) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(socket_factory=sockets),
        timeout=aiohttp.ClientTimeout(total=MAX_SECONDS, sock_connect=STALLED_SECONDS, sock_read=STALLED_SECONDS),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": "goku"},
        raise_for_status=_check_answer,
        requote_redirect_url=False,
        **settings,
    )


def _public_socket(address: Any) -> socket.socket:
    family, kind, protocol, _, (host, *_) = address
    if not is_public(host):
        raise OSError(errno.EACCES, f"{host} is {PRIVATE}")
    return socket.socket(family, kind, protocol)


async def _check_answer(response: aiohttp.ClientResponse) -> None:
    if any(REFUSED.search(line) for line in response.headers.getall("X-Robots-Tag", [])):
        raise Fault(Cause.PERMISSION, "its server does not allow it for training (X-Robots-Tag: noai)")
    if (response.content_length or 0) > MAX_BYTES:
        raise Fault(Cause.TOO_LARGE, f"{response.content_length} bytes; at most {MAX_BYTES} are fetched")


def _passes(error: BaseException) -> bool:
    """Say whether an error may be gone a moment later."""
    if isinstance(error, aiohttp.ClientResponseError):
        return error.status in PASSING
    passing = aiohttp.ClientConnectionError | aiohttp.ClientPayloadError | TimeoutError | ConnectionError
    return isinstance(error, passing) and PRIVATE not in str(error)
