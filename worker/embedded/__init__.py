"""Runs a nats-server of our own, for the demo and the tests; it goes away with us, whatever ends us.

JetStream is on, every write is synced, and everything listens on loopback at ports that the server chooses.
"""

from worker.embedded.program import EmbeddedServerError, ServerProgram, find_server
from worker.embedded.server import EmbeddedServer

__all__ = ["EmbeddedServer", "EmbeddedServerError", "ServerProgram", "find_server"]
