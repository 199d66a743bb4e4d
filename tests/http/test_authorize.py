"""Who may use admin routes."""

import pytest

from ollamad.http import AuthorizeLocal
from ollamad.plugin import HttpRequest, Principal, Profile, Reply, RequestContext, Route


async def handler(request: HttpRequest) -> Reply:
    return Reply()


@pytest.mark.parametrize(
    ("profile", "principal", "allowed"),
    [
        ("admin", Principal(uid=0, gid=0), True),
        ("admin", Principal(uid=990, gid=990), True),
        ("admin", Principal(uid=1000, gid=1000), False),
        ("admin", Principal(uid=1000, gid=44), True),
        ("admin", Principal(uid=1000, gid=1000, groups=(27, 44)), True),
        ("admin", Principal(), True),
        ("manage", Principal(uid=1000, gid=1000), True),
    ],
)
def test_admin_routes(profile: Profile, principal: Principal, allowed: bool) -> None:
    """Admin routes over a Unix socket are for root, the daemon's user and the service group."""
    context = RequestContext("id", 0, "unix", "admin", "unix:1", principal)
    refused = AuthorizeLocal(990, 44)(context, Route("GET", "/x", handler, profile))
    assert (refused is None) is allowed
    assert refused is None or refused.status == 403
