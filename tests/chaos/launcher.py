"""Starts worker processes faster than Python can: imports the product once and forks, a whole worker each.

A program: `python -m tests.chaos.launcher CONFIG fork|exec [MUTANT]`. Each child is `followers worker --config
CONFIG` from its first line on, with an event loop, connections and a name of its own; `exec` starts it as a new
program instead. Reads `{"do": "spawn", "id": 7}` and `{"do": "signal", "id": 7, "signal": 9}` from stdin, one a line;
writes `{"id": 7, "pid": 123}` and `{"id": 7, "exit": -9}`. Signals go through here because only who reaps a process
knows that its id isn't somebody else's by now. When stdin closes, every child is killed.
"""

import contextlib
import faulthandler
import gc
import json
import os
import select
import signal
import sys
from typing import Any


def main(config: str, way: str, mutant: str) -> None:
    """Serve stdin until it closes."""
    if way == "fork":
        _import_the_product()
    if mutant:
        from tests.chaos.mutants import plant

        plant(mutant)
    gc.freeze()
    _Launcher(config, way).serve()


def _import_the_product() -> None:
    import uvloop  # noqa: F401

    import worker.app
    import worker.cli
    import worker.logs  # noqa: F401


class _Launcher:
    def __init__(self, config: str, way: str) -> None:
        self._arguments = ["worker", "--config", config]
        self._way = way
        self._pids: dict[int, int] = {}
        self._wake, self._woken = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(self._woken, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._woken)

    def serve(self) -> None:
        rest = b""
        try:
            while True:
                ready, _, _ = select.select([0, self._wake], [], [])
                if self._wake in ready:
                    with contextlib.suppress(BlockingIOError):
                        os.read(self._wake, 4096)
                    self._reap()
                if 0 in ready:
                    data = os.read(0, 65536)
                    if not data:
                        return
                    *lines, rest = (rest + data).split(b"\n")
                    for line in lines:
                        self._obey(json.loads(line))
        finally:
            for pid in self._pids.values():
                os.kill(pid, signal.SIGKILL)

    def _obey(self, order: dict[str, Any]) -> None:
        if order["do"] == "spawn":
            self._spawn(order["id"])
        elif order["id"] in self._pids:
            os.kill(self._pids[order["id"]], order["signal"])

    def _spawn(self, number: int) -> None:
        pid = os.fork()
        if pid == 0:
            self._become_a_worker()
        self._pids[number] = pid
        _say({"id": number, "pid": pid})

    def _reap(self) -> None:
        for number, pid in list(self._pids.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                del self._pids[number]
                _say({"id": number, "exit": os.waitstatus_to_exitcode(status)})

    def _become_a_worker(self) -> None:
        code: object = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for fd in (self._wake, self._woken):
                os.close(fd)
            nothing = os.open(os.devnull, os.O_RDWR)
            os.dup2(nothing, 0)
            os.dup2(nothing, 1)
            faulthandler.enable()
            if self._way == "exec":
                os.execv(sys.executable, [sys.executable, "-m", "worker", *self._arguments])
            from worker.cli import main

            sys.argv = ["followers", *self._arguments]
            main()
        except SystemExit as end:
            code = end.code or 0
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            sys.stderr.flush()
            os._exit(code if isinstance(code, int) else 1)


def _say(what: dict[str, Any]) -> None:
    os.write(1, json.dumps(what).encode() + b"\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else "")
