"""What the stand-in can serve at most, to plain sockets that look at nothing."""

import os
import socket
import threading
import time
from urllib.parse import urlsplit

from tests.bench.processes import MEASURED, OTHERS
from tests.bench.rivals import ETELECOM
from tests.bench.stage import Stage

CONNECTIONS = 4
SECONDS = 2.0

_BODY = b'{"filter":{"oa_id":"p100-l0"},"paging":{"limit":50,"after":"c5"}}'
_REQUEST = b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (ETELECOM.encode(), len(_BODY), _BODY)


def ceiling(stage: Stage) -> float:
    """Return the pages of 50 it serves a second to a client on the other core."""
    host = urlsplit(stage.provider)
    assert host.hostname is not None
    assert host.port is not None
    counts: list[int] = []
    end = time.monotonic() + SECONDS
    address = (host.hostname, host.port)
    asking = [threading.Thread(target=_ask, args=(address, end, counts)) for _ in range(CONNECTIONS)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    return sum(counts) / SECONDS


def _ask(address: tuple[str, int], end: float, counts: list[int]) -> None:
    os.sched_setaffinity(threading.get_native_id(), MEASURED)
    count = 0
    with socket.create_connection(address) as connection:
        while time.monotonic() < end:
            connection.sendall(_REQUEST)
            head, _, rest = connection.recv(65536).partition(b"\r\n\r\n")
            left = int(head.rpartition(b":")[2]) - len(rest)
            while left > 0:
                left -= len(connection.recv(65536))
            count += 1
    counts.append(count)
    os.sched_setaffinity(threading.get_native_id(), OTHERS)
