"""Who may ask: requests by this machine's own page only. And what the browser may do: nothing but ask this server."""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urlsplit

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


def refusal(host: str | None, origin: str | None, bound: str) -> str | None:
    """Return why a request is refused, in one sentence, or None.

    A page of another site can make a browser ask this server, under a name of that site which leads to this machine.
    So the Host header must be a name of this machine: a loopback one, or what the server is bound to. Bound to all
    addresses, numeric addresses are taken as well, since no site can own one that leads here.

    Args:
        host: the Host header.
        origin: the Origin header, which browsers send with requests that scripts make.
        bound: the address that the server listens on.
    """
    name = _name(f"//{host}") if host else None
    if name is None or not _is_own(name, bound):
        return f"The host {host!r} is not this machine: open the address that foveal app printed."
    if origin is not None and _place(origin) != (host or "").lower():
        return "The request comes from a page of another site: open the address that foveal app printed."
    return None


def is_loopback(host: str) -> bool:
    """Return whether an address or name reaches this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_own(name: str, bound: str) -> bool:
    if is_loopback(name) or name == bound.lower():
        return True
    if is_loopback(bound):
        return False
    return _is_address(name) or name in (socket.gethostname().lower(), socket.getfqdn().lower())


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _place(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return None


def _name(address: str) -> str | None:
    try:
        return urlsplit(address).hostname
    except ValueError:
        return None
