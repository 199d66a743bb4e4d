"""One HTTP/1.1 server for all listeners: bind, route table, limits, origins, access log.

The server is our own and stands on `asyncio.Protocol`. aiohttp.web was measured first: its import costs
16 MB and 0.15 s of a daemon that has 60 MB and 0.5 s, and its parser refuses what Ollama's accepts
(Content-Length beside chunked, a body whose sender half-closed) and has no time-out for headers.

`parse` and `body` turn bytes into requests, `routing`, `origins`, `hosts` and `authorize` decide without
doing I/O, `connection` acts. Nothing here knows an API's JSON.
"""

from ollamad.http.access import AccessRecord
from ollamad.http.authorize import Authorize, AuthorizeLocal
from ollamad.http.limits import Limits, raise_descriptor_limit
from ollamad.http.listener import Bound
from ollamad.http.origins import DEFAULT_ORIGINS, Origins
from ollamad.http.routing import RouteTable
from ollamad.http.server import HttpServer, HttpSettings

__all__ = [
    "DEFAULT_ORIGINS",
    "AccessRecord",
    "Authorize",
    "AuthorizeLocal",
    "Bound",
    "HttpServer",
    "HttpSettings",
    "Limits",
    "Origins",
    "RouteTable",
    "raise_descriptor_limit",
]
