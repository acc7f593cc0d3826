"""Three nats-servers on loopback that form one cluster."""

import asyncio
import socket
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Self

from worker.embedded import EmbeddedServer

NODES = 3
START_LIMIT = 60.0
"""Seconds until all nodes must be healthy: they elect a leader first."""


class Cluster:
    """`async with Cluster(binary) as cluster`; nodes are named n0, n1, n2 and keep port and data over a restart."""

    def __init__(self, binary: Path | None, extra_config: str = "") -> None:
        """`binary` and `extra_config` as for EmbeddedServer."""
        ports = _free_ports(NODES)
        routes = ", ".join(f"nats-route://127.0.0.1:{port}" for port in ports)
        self.nodes = {
            f"n{number}": EmbeddedServer(
                binary=binary,
                start_timeout=START_LIMIT,
                extra_config=f"server_name: n{number}\n"
                f"cluster {{ name: chaos, listen: 127.0.0.1:{port}, routes: [{routes}] }}\n{extra_config}",
            )
            for number, port in enumerate(ports)
        }
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Start all nodes at once: alone, none gets healthy."""
        for node in self.nodes.values():
            self._stack.push_async_callback(node.stop)
        try:
            await asyncio.gather(*(node.start() for node in self.nodes.values()))
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """End all nodes."""
        await self._stack.aclose()

    @property
    def urls(self) -> list[str]:
        """Where clients connect."""
        return [node.url for node in self.nodes.values()]


def _free_ports(count: int) -> list[int]:
    # The routes must be known before the first node starts, so the server can't choose these itself.
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(server.getsockname()[1]) for server in sockets]
    for server in sockets:
        server.close()
    return ports
