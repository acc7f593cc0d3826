"""Puts an answer on the wire, whole or damaged."""

import asyncio
import email.utils
import gzip
import socket
import struct
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

import msgspec
from aiohttp import web

from worker.simulators.exchange import Answer
from worker.simulators.faults import Fault

_HTML = b"<!DOCTYPE html><html><head><title>Service unavailable</title></head><body><h1>%d</h1></body></html>"


def replaced(fault: Fault, failure: Callable[[str, str], Answer]) -> Answer:
    """The answer that a fault gives in the provider's stead. `failure` writes the provider's own errors."""
    headers = {"Retry-After": _retry_after(fault.retry_after)} if fault.retry_after else {}
    if fault.kind == "html":
        return Answer(body=_HTML % 200, content_type="text/html; charset=utf-8", headers=headers)
    if fault.kind == "empty":
        return Answer(headers=headers)
    if fault.code:
        answer = failure(fault.code, fault.message)
        answer.headers = {**answer.headers, **headers}
        return answer
    status = fault.status or (429 if fault.kind == "rate_limit" else 503)
    bodies = {
        "html": (_HTML % status, "text/html"),
        "json": (b'{"message":"unavailable"}', "application/json"),
        "empty": (b"", "text/plain"),
    }
    body, content_type = bodies[fault.body]
    return Answer(status=status, body=body, content_type=content_type, headers=headers)


def without_list(answer: Answer, path: tuple[str, ...], *, null: bool) -> Answer:
    """The same answer with the list at `path` null or gone; unchanged where it has none."""
    document = msgspec.json.decode(answer.body)
    holder = document
    for key in path[:-1]:
        holder = holder.get(key) or {}
    if path[-1] in holder:
        if null:
            holder[path[-1]] = None
        else:
            del holder[path[-1]]
    return Answer(body=msgspec.json.encode(document), headers=answer.headers, code=answer.code)


async def deliver(request: web.BaseRequest, answer: Answer, fault: Fault | None) -> web.StreamResponse:
    """Send the answer, damaged as `fault` says."""
    kind = fault.kind if fault else ""
    headers = {**answer.headers, "Content-Type": answer.content_type}
    body = answer.body
    if kind == "content_type":
        headers["Content-Type"] = "text/html; charset=utf-8"
    elif kind == "bad_json":
        body = body[: len(body) * 2 // 3]
    elif kind in ("gzip", "broken_gzip"):
        headers["Content-Encoding"] = "gzip"
        body = gzip.compress(body, 1) if kind == "gzip" else b"\x1f\x8b\x08\x00not gzip at all"
    if fault and kind in ("drip", "reset_middle", "truncated"):
        return await _in_pieces(request, answer.status, headers, body, fault)
    return web.Response(status=answer.status, body=body, headers=headers)


def reset(request: web.BaseRequest) -> None:
    """Break the connection with a TCP reset."""
    if (transport := request.transport) is not None:
        if (sock := transport.get_extra_info("socket")) is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()


async def _in_pieces(
    request: web.BaseRequest, status: int, headers: Mapping[str, str], body: bytes, fault: Fault
) -> web.StreamResponse:
    response = web.StreamResponse(status=status, headers=headers)
    response.content_length = len(body)
    # The client may leave in the middle; that is what these faults are for.
    with suppress(ConnectionError):
        await response.prepare(request)
        if fault.kind == "drip":
            await _drip(response, body, fault)
            return response
        await response.write(body[: len(body) // 2])
        # A reset throws away what the peer has not read yet: give it a moment to see the first half.
        await asyncio.sleep(0.02)
        if fault.kind == "reset_middle":
            reset(request)
        elif request.transport is not None:
            request.transport.close()
    return response


async def _drip(response: web.StreamResponse, body: bytes, fault: Fault) -> None:
    size = max(-(-len(body) // fault.chunks), 1)
    for start in range(0, len(body), size):
        await asyncio.sleep(fault.seconds / fault.chunks)
        await response.write(body[start : start + size])


def _retry_after(text: str) -> str:
    if text.startswith("date+"):
        return email.utils.formatdate(time.time() + float(text.removeprefix("date+")), usegmt=True)
    return text
