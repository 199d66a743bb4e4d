"""Which `Host` a loopback listener answers to: the guard against DNS rebinding of http-api contract 3.2."""

from __future__ import annotations

import ipaddress
import socket
from typing import Literal, TypeAlias

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

#: ``address`` passes; ``name`` passes too, but a bare OPTIONS is answered at once; ``refused`` is a 403.
Verdict: TypeAlias = Literal["address", "name", "refused"]

_NAMES = (".localhost", ".local", ".internal")
#: RFC 1918 and RFC 4193 only, as Go's IsPrivate has it: Python's `is_private` also counts link-local.
_PRIVATE = tuple(ipaddress.ip_network(net) for net in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"))


def judge_host(header: str, machine: str) -> Verdict:
    """Judge the value of a `Host` header; *machine* is this computer's name."""
    host = _without_port(header)
    address = _address(host)
    if address is not None and _is_near(address):
        return "address"
    host = host.lower()
    if host in ("", "localhost", machine.lower()) or host.endswith(_NAMES):
        return "name"
    return "refused"


def _without_port(header: str) -> str:
    """Cut a port off; brackets go with it only, and a text with several bare colons has none (as Go splits)."""
    host, colon, _ = header.rpartition(":")
    if not colon or header.endswith("]"):
        return header
    if host.startswith("[") and host.endswith("]"):
        return host[1:-1]
    return header if ":" in host or "[" in host or "]" in host else host


def _address(host: str) -> Address | None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _is_near(address: Address) -> bool:
    if address.is_loopback or address.is_unspecified:
        return True
    return any(address in net for net in _PRIVATE if net.version == address.version) or _is_own(address)


def _is_own(address: Address) -> bool:
    """Whether an interface of this machine has *address*: only such an address can be bound."""
    if address.is_multicast or str(address) == "255.255.255.255":
        return False
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True
