"""A way to NATS on which the answers to some requests are lost."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from tests.integration.stage import free_port


class Lossy:
    """A TCP proxy that carries all but the answers to the first `losses` requests on `subject`."""

    def __init__(self, target: str, subject: str, losses: int) -> None:
        self.url = ""
        self.lost = 0
        """Requests whose answers were lost."""
        self._host, port = target.removeprefix("nats://").split(":")
        self._port = int(port)
        self._subject = subject
        self.losses = losses
        """So many requests lose their answers, from the first one on."""
        self._unheard: set[str] = set()
        """Where answers that are lost would go."""
        self._tasks: set[asyncio.Task[None]] = set()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection, both ways."""
        far_reader, far_writer = await asyncio.open_connection(self._host, self._port)
        self._tasks |= {
            asyncio.create_task(_carry(reader, far_writer, self._asks)),
            asyncio.create_task(_carry(far_reader, writer, self._answers)),
        }

    async def close(self) -> None:
        """Break all connections."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _asks(self, words: list[str]) -> bool:
        if words[0] in ("PUB", "HPUB") and words[1] == self._subject and self.lost < self.losses:
            self.lost += 1
            self._unheard.add(words[2])
        return True

    def _answers(self, words: list[str]) -> bool:
        return not (words[0] in ("MSG", "HMSG") and words[1] in self._unheard)


async def _carry(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, wanted: Callable[[list[str]], bool]
) -> None:
    """Carry what `wanted` lets through, command by command of the NATS protocol."""
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        try:
            while line := await reader.readline():
                words = line.decode().split()
                body = b""
                if words and words[0] in ("PUB", "HPUB", "MSG", "HMSG"):
                    body = await reader.readexactly(int(words[-1]) + 2)
                if not words or wanted(words):
                    writer.write(line + body)
                    await writer.drain()
        finally:
            writer.close()
            await writer.wait_closed()


@contextlib.asynccontextmanager
async def lossy(target: str, subject: str, losses: int = 1) -> AsyncIterator[Lossy]:
    """A lossy way to the nats-server at `target`, on a port of its own."""
    made, port = Lossy(target, subject, losses), free_port()
    made.url = f"nats://127.0.0.1:{port}"
    server = await asyncio.start_server(made.accept, "127.0.0.1", port, limit=2**22)
    try:
        yield made
    finally:
        server.close()
        await made.close()
