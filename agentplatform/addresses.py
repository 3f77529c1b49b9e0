"""Addresses of endpoints for requests (docs/requests.md): which text is one. Pure."""

import ipaddress
import re

_ADDRESS = re.compile(r"https?://(\[[0-9a-f:.]{2,45}\]|[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?)(?::([0-9]{1,5}))?")
_WILDCARDS = ("0.0.0.0", "::")


def check_address(address: str) -> str:
    """The address as it came. Raises ValueError for what is none: no user, path or query, in lower case."""
    found = _ADDRESS.fullmatch(address)
    if found is None or not 0 < int(found[2] or 80) < 65536:
        raise ValueError(f"{address!r:.80} is no endpoint's address: http://HOST:PORT, or https, in lower case")
    return address


def split(listen: str) -> tuple[str, int]:
    """ "127.0.0.1:8080" or "[::1]:8080" as host and port. Raises ValueError."""
    host, _, port = listen.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"{listen!r:.80} is no address to listen on: 127.0.0.1:8080, or [::1]:8080")
    return host.strip("[]"), int(port)


def is_loopback(host: str) -> bool:
    """Whether only this machine can mean it."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def told(listen: str, links: str) -> str:
    """The address that other hosts are told of an endpoint that listens there; "" for none. `links`: where this host's
    links listen. One on the loopback is of use to hosts of the same machine alone, whose links are there too."""
    host, port = split(listen)
    if host in _WILDCARDS or (is_loopback(host) and not is_loopback(split(links)[0])):
        return ""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
