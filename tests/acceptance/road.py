"""The way from a worker to NATS, which can be cut at an exact byte: so a worker dies at an exact moment."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

from tests.acceptance.product import free_port


class Road:
    """A TCP proxy that carries all until the worker has sent `marks` one after the other, then nothing from it.

    The message with the last mark doesn't arrive any more.
    """

    def __init__(self, target: str, marks: Sequence[bytes]) -> None:
        self.url = ""
        self.reached = asyncio.Event()
        """The worker has sent the last mark; NATS has not seen it."""
        self._host, port = target.removeprefix("nats://").split(":")
        self._port = int(port)
        self._marks = list(marks)
        self._tasks: set[asyncio.Task[None]] = set()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection, both ways."""
        far_reader, far_writer = await asyncio.open_connection(self._host, self._port)
        self._tasks |= {
            asyncio.create_task(self._carry(reader, far_writer, self._marks)),
            asyncio.create_task(self._carry(far_reader, writer, [])),
        }

    async def close(self) -> None:
        """Break all connections."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, marks: list[bytes]) -> None:
        held = b""  # may be the beginning of a mark
        with contextlib.suppress(ConnectionError):
            try:
                while data := await reader.read(65_536):
                    held += data
                    while marks and marks[0] in held:
                        if len(marks) == 1:
                            self.reached.set()
                            await asyncio.Event().wait()
                        mark = marks.pop(0)
                        end = held.index(mark) + len(mark)
                        writer.write(held[:end])
                        held = held[end:]
                    keep = _overlap(held, marks[0]) if marks else 0
                    writer.write(held[: len(held) - keep])
                    held = held[len(held) - keep :]
                    await writer.drain()
            finally:
                writer.close()
                await writer.wait_closed()


@contextlib.asynccontextmanager
async def road(target: str, *marks: bytes) -> AsyncIterator[Road]:
    """A road to the nats-server at `target`, on a port of its own."""
    made, port = Road(target, marks), free_port()
    made.url = f"nats://127.0.0.1:{port}"
    server = await asyncio.start_server(made.accept, "127.0.0.1", port)
    try:
        yield made
    finally:
        server.close()
        await made.close()


def _overlap(data: bytes, wanted: bytes) -> int:
    """How many bytes at the end of `data` may be the beginning of `wanted`."""
    return next((n for n in range(min(len(wanted) - 1, len(data)), 0, -1) if data.endswith(wanted[:n])), 0)
