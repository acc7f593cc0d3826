"""The control endpoints, for tests that only see a simulator's address.

- `POST /_control/faults`: one Fault or a list; `DELETE`: none any more; `GET`: those pending
- `POST /_control/list`: a ListChange; answers with a Changed
- `GET /_control/requests?endpoint=&oa_id=&after=`: `{"requests": […], "counters": {…}}`
- `GET /_control/ids?oa_id=&state=`: `{"ids": […]}` in the order served by default
- `POST /_control/reset`: as new
"""

from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

from worker.simulators.changes import Changed, ListChange
from worker.simulators.faults import Fault

if TYPE_CHECKING:
    from worker.simulators.server import Server

__all__ = ["Changed", "handle"]

_FAULTS = msgspec.json.Decoder(list[Fault] | Fault)
_CHANGE = msgspec.json.Decoder(ListChange)


def handle(server: "Server", request: web.BaseRequest, raw: bytes) -> web.Response:
    """Answer a control request; 400 with `{"error": …}` for one that makes no sense."""
    try:
        result = _dispatch(server, request, raw)
    except (msgspec.DecodeError, KeyError, ValueError) as error:
        text = str(error.args[0]) if error.args else str(error)
        return _json(400, {"error": f"{request.method} {request.path}: {text}"})
    return _json(200, result)


def _dispatch(server: "Server", request: web.BaseRequest, raw: bytes) -> object:
    query = {key: value for key, value in request.query.items() if value}
    match (request.method, request.path.removeprefix("/_control/")):
        case ("POST", "faults"):
            decoded = _FAULTS.decode(raw)
            server.inject(*(decoded if isinstance(decoded, list) else [decoded]))
            return {"pending": server.faults.pending}
        case ("DELETE", "faults"):
            server.faults.clear()
            return {"pending": []}
        case ("GET", "faults"):
            return {"pending": server.faults.pending}
        case ("POST", "list"):
            return server.change(_CHANGE.decode(raw))
        case ("GET", "requests"):
            return {"requests": server.journal.select(query), "counters": dict(server.journal.counters)}
        case ("GET", "ids"):
            return {"ids": server.ids(query.get("oa_id", ""), state=query.get("state"))}
        case ("POST", "reset"):
            server.reset()
            return {}
    raise ValueError("no such control; see worker/simulators/control.py")


def _json(status: int, body: object) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(body), content_type="application/json")
