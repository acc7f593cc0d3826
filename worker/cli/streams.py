"""The three standard streams, made so that trouble with them is one kind of error, or none."""

import errno
import io
import os
import sys
from typing import TextIO

_ERROR_STREAM = 2


class OutputError(Exception):
    """Something could not be written to stdout. No OSError: nobody on the way takes it for another file's."""

    def __init__(self, cause: OSError) -> None:
        """Keep why."""
        self.reason = "it is closed" if cause.errno == errno.EBADF else cause.strerror or type(cause).__name__
        super().__init__(self.reason)
        self.has_no_reader = cause.errno == errno.EPIPE
        """Whoever read a pipe has what they wanted (`| head`)."""


def prepare() -> None:
    """Make the process's streams ready for a command: called once, before anything is written.

    What the encoding lacks is shown as an escape. A closed stream gets its descriptor back, which a connection would
    otherwise take: stdout then refuses what is written, stderr loses it, stdin is empty.
    """
    if sys.platform == "win32":
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        return
    for descriptor in range(_ERROR_STREAM + 1):
        _occupy(descriptor)
    sys.stdin = sys.stdin or open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - for the process's life
    sys.stdout = _text(_Out(1, "wb", closefd=False), sys.stdout)
    sys.stderr = _text(_Err(_ERROR_STREAM, "wb", closefd=False), sys.stderr, line_buffering=True)


def give_up_stdout() -> None:
    """Let what is still to be written to stdout go nowhere: Python tries once more at its end, and complains."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


class _Out(io.FileIO):
    """Raises OutputError where a file raises OSError."""

    def write(self, data: object) -> int:
        try:
            return super().write(data)  # type: ignore[arg-type]
        except OSError as error:
            raise OutputError(error) from error


class _Err(io.FileIO):
    """Loses what can't be written: there is nobody to tell."""

    def write(self, data: object) -> int:
        try:
            return super().write(data)  # type: ignore[arg-type]
        except OSError:
            return len(data)  # type: ignore[arg-type]


def _occupy(descriptor: int) -> None:
    """Open what nothing can be written to, or on stderr everything, where the descriptor is closed."""
    try:
        os.fstat(descriptor)
    except OSError:
        opened = os.open(os.devnull, os.O_WRONLY if descriptor == _ERROR_STREAM else os.O_RDONLY)
        if opened != descriptor:
            os.dup2(opened, descriptor)
            os.close(opened)


def _text(file: io.FileIO, before: TextIO | None, *, line_buffering: bool = False) -> io.TextIOWrapper:
    if before is not None:
        before.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(file),
        encoding=before.encoding if before is not None else "utf-8",
        errors="backslashreplace",
        newline="\n",
        line_buffering=line_buffering or file.isatty(),
        write_through=getattr(before, "write_through", False),
    )
