"""What is decided about a request before its handler: route, origin, host, permission. No I/O."""

from __future__ import annotations

from dataclasses import dataclass

from ollamad.http import answer
from ollamad.http.hosts import judge_host
from ollamad.http.origins import Headers, Origins
from ollamad.http.parse import Head
from ollamad.http.routing import Found, Missing, Redirect, RouteTable
from ollamad.plugin.frontend import Profile, Reply


@dataclass(frozen=True, slots=True)
class Decision:
    """Either a route to run or an answer; ``headers`` go onto whatever is answered."""

    outcome: Found | Reply
    headers: Headers = ()


@dataclass(frozen=True, slots=True)
class Gate:
    """The fixed facts that decisions stand on."""

    table: RouteTable
    origins: Origins
    machine: str

    def decide(self, head: Head, profile: Profile, guard_host: bool) -> Decision:
        """Decide in the order of the contract (2.1): redirects are outside of it, and a wrong path or method is
        told only to those whose origin and host may ask."""
        lookup = self.table.find(head.method, head.path, profile)
        if isinstance(lookup, Redirect):
            return Decision(answer.redirect(head.method, lookup.path, head.query))
        allow = (("Allow", ", ".join(lookup.allow)),) if isinstance(lookup, Missing) and lookup.allow else ()
        early, headers = self._origin(head)
        headers = allow + headers
        if early is None and guard_host:
            early = self._host(head)
        if early is not None:
            return Decision(early, headers)
        if isinstance(lookup, Missing):
            return Decision(answer.NOT_ALLOWED if lookup.allow else answer.NOT_FOUND, headers)
        return Decision(lookup, headers)

    def _origin(self, head: Head) -> tuple[Reply | None, Headers]:
        origin = head.headers.get("origin", "")
        if not origin or origin in (f"http://{head.host}", f"https://{head.host}"):
            return None, ()
        if not self.origins.allows(origin):
            return answer.FORBIDDEN, ()
        if head.method == "OPTIONS":
            return answer.NO_CONTENT, self.origins.preflight_headers(origin)
        return None, self.origins.answer_headers(origin)

    def _host(self, head: Head) -> Reply | None:
        verdict = judge_host(head.host, self.machine)
        if verdict == "refused":
            return answer.FORBIDDEN
        if verdict == "name" and head.method == "OPTIONS":
            return answer.NO_CONTENT
        return None
