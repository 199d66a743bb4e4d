"""What admins may see."""

import json

from ollamad.config.load import load
from ollamad.plugin._manager import Record
from ollamad.service.admin import AdminService


async def test_views_are_json() -> None:
    """Configuration, plugins and status come as JSON can hold them, read when asked."""
    pid = [1]
    config = load(environ={"HOME": "/h"})
    records = [Record("broken", "failed", "raised", "ValueError: raised", "dist", "1.0")]

    async def runners() -> list[dict[str, int]]:
        return [{"step": pid[0]}]

    admin = AdminService(
        config=config.explain, plugins=lambda: records, status=lambda: {"pid": pid[0]}, runners=runners
    )
    rows = await admin.config_show()
    assert rows[0] == {
        "key": "server.host",
        "value": "127.0.0.1",
        "default": "127.0.0.1",
        "source": "default",
        "detail": "",
        "applies": "restart",
        "text": '"127.0.0.1"',
    }
    (plugin,) = await admin.plugins()
    assert (plugin["name"], plugin["status"], plugin["reason"]) == ("broken", "failed", "raised")
    pid[0] = 2
    assert await admin.status() == {"pid": 2, "runners": [{"step": 2}]}
    json.dumps([rows, plugin])
