"""Who may use a route; one decision, asked after routing. It allows all until keys exist."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from ollamad.plugin.frontend import Reply, RequestContext, Route

#: Says None to allow, or the answer that refuses.
Authorize: TypeAlias = Callable[[RequestContext, Route], Reply | None]

_REFUSED = Reply(403, b'{"error":"only root, the user of the daemon and the service group may use this"}')


@dataclass(frozen=True, slots=True)
class AuthorizeLocal:
    """Admin routes over a Unix socket are for root, the daemon's own user and the service group.

    A TCP listener proves no user: whoever gave it profile admin has decided that all may come in.
    """

    daemon_uid: int
    service_gid: int | None = None

    def __call__(self, context: RequestContext, route: Route) -> Reply | None:
        principal = context.principal
        if route.profile != "admin" or principal.uid is None:
            return None
        if principal.uid in (0, self.daemon_uid):
            return None
        if self.service_gid is not None and self.service_gid in (principal.gid, *principal.groups):
            return None
        return _REFUSED
