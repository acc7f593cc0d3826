"""A way to NATS on which acknowledgements stall: the end of a command is heard late, all else at once."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Coroutine
from typing import Any

from tests.integration.stage import free_port

ACKS = "$JS.ACK."


class Stalling:
    """A TCP proxy that holds back each confirmed acknowledgement for `seconds`, in `share` of the cases."""

    def __init__(self, target: str, *, seconds: tuple[float, float], share: float, seed: int) -> None:
        self.url = ""
        self.stalled = 0
        """Acknowledgements that were held back."""
        self._host, port = target.removeprefix("nats://").split(":")
        self._port = int(port)
        self._seconds, self._share, self._rng = seconds, share, random.Random(seed)
        self._tasks: set[asyncio.Task[None]] = set()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection, both ways."""
        far_reader, far_writer = await asyncio.open_connection(self._host, self._port)
        self._begin(self._carry(reader, far_writer))
        self._begin(self._pass_on(far_reader, writer))

    async def close(self) -> None:
        """Break all connections."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while line := await reader.readline():
                words = line.decode().split()
                body = b""
                if words and words[0] in ("PUB", "HPUB"):
                    body = await reader.readexactly(int(words[-1]) + 2)
                # A heartbeat and a nak have no reply subject: four words or more are an acknowledgement.
                if len(words) > 3 and words[1].startswith(ACKS) and self._rng.random() < self._share:
                    self.stalled += 1
                    self._begin(self._later(writer, line + body))
                else:
                    writer.write(line + body)
                    await writer.drain()
        writer.close()

    async def _later(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        await asyncio.sleep(self._rng.uniform(*self._seconds))
        if not writer.is_closing():
            writer.write(data)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def stalling(
    target: str, *, seconds: tuple[float, float], share: float = 1.0, seed: int = 1
) -> AsyncIterator[Stalling]:
    """A stalling way to the nats-server at `target`, on a port of its own."""
    made, port = Stalling(target, seconds=seconds, share=share, seed=seed), free_port()
    made.url = f"nats://127.0.0.1:{port}"
    server = await asyncio.start_server(made.accept, "127.0.0.1", port, limit=2**22)
    try:
        yield made
    finally:
        server.close()
        await made.close()
