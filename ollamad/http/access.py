"""What is known of a request once it is over; the daemon turns it into a log line."""

from __future__ import annotations

from dataclasses import dataclass

from ollamad.plugin.frontend import RequestContext

#: The status of a request whose client left before it was answered. Source: http-api contract, 2.7.
CLIENT_LEFT = 499


@dataclass(frozen=True, slots=True)
class AccessRecord:
    """One request. ``status`` 499: the client left first. ``sent_bytes`` counts the body only.

    ``forwarded`` is whom a proxy says it asks for, as the header has it: anybody can send it.
    """

    context: RequestContext
    method: str
    path: str
    status: int
    duration_ns: int
    sent_bytes: int
    user_agent: str = ""
    query: str = ""
    forwarded: str = ""
