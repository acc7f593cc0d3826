"""Where an export goes: a file that appears whole, or something that takes it as it comes."""

import contextlib
import errno
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

from worker.cli.console import USAGE, Stop
from worker.visible import visible, visible_json

if TYPE_CHECKING:
    from worker.cli.export_files import Format

STDOUT = "-"
STREAMED = ("jsonl", "csv")
"""Formats that are written from the beginning to the end, and so into a pipe, too."""
_LOOK_EVERY = 0.1
"""Seconds between two looks whether somebody has opened a named pipe for reading."""


class Sink(Protocol):
    """Something that takes bytes."""

    def write(self, data: bytes, /) -> int:
        """Take `data`. Raises OSError."""
        ...


@dataclass(frozen=True, kw_only=True)
class Target:
    """Where an export goes."""

    name: str
    """As it was given."""
    path: Path | None
    """What is written, behind all links; None is stdout."""
    is_file: bool
    """A regular file, or to become one; else what takes the list as it comes."""


def find_target(name: str, format: "Format | None", *, force: bool) -> "tuple[Target, Format]":
    """Return where `name` leads and the format for it. Raises Stop when that can't be written, or needs `--force`.

    A link is followed: what it leads to is written, and the link stays. A named pipe and a character device such as
    /dev/stdout take the list as it comes; a folder, a block device and a socket are refused.
    """
    from worker.cli.export_files import ENDINGS, check_installed

    kind = format or ENDINGS.get(Path(name).suffix.lower())
    if kind is None and name == STDOUT:
        raise Stop("- is stdout: choose its format with --format jsonl or --format csv", code=USAGE)
    if kind is None:
        raise Stop(f"{name}: the ending must be one of {', '.join(ENDINGS)}, or use --format", code=USAGE)
    target = Target(name=name, path=None, is_file=False) if name == STDOUT else _look(name, force=force)
    if not target.is_file and kind not in STREAMED:
        raise Stop(f"{name}: {kind} needs a file of its own; {' and '.join(STREAMED)} can be streamed", code=USAGE)
    check_installed(kind)
    return target, kind


@contextlib.contextmanager
def whole_file(target: Target) -> Iterator[Path]:
    """Give a path beside the file whose content takes its place at the end, or goes. Raises Stop."""
    assert target.path is not None
    path = target.path
    try:
        # A folder, because a database writes more files than one; readable by nobody else while it grows.
        folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as error:
        raise _unwritable(target, error) from error
    try:
        yield folder / path.name
        _sync(folder / path.name)
        _look(str(path), force=True)  # what was put there meanwhile may be no file
        (folder / path.name).replace(path)
    except OSError as error:
        raise _unwritable(target, error) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.asynccontextmanager
async def stream(target: Target, format: "Format") -> AsyncIterator[Sink]:
    """Give what takes the list as it comes; waits until somebody reads a named pipe. Raises Stop."""
    if target.path is None:
        yield _for_people(sys.stdout.buffer, format) if sys.stdout.isatty() else sys.stdout.buffer
        return
    try:
        file = os.fdopen(await _open(target.path), "wb")
        try:
            yield _for_people(file, format) if file.isatty() else file
            file.flush()
        finally:
            _close(file)
    except OSError as error:
        raise Stop(f"{target.name} can't be written: {error.strerror or error}; what came before stays") from error


class _Shown:
    """A terminal, which nothing that people are called may steer."""

    def __init__(self, file: BinaryIO, shown: Callable[[bytes], bytes]) -> None:
        self._file = file
        self._shown = shown

    def write(self, data: bytes, /) -> int:
        return self._file.write(self._shown(data))


def _for_people(file: BinaryIO, format: "Format") -> Sink:
    return _Shown(file, visible_json if format == "jsonl" else _visible_text)


def _visible_text(data: bytes) -> bytes:
    return visible(data.decode(errors="replace"), keep="\r\n").encode()


def _look(name: str, *, force: bool) -> Target:
    try:
        path = Path(os.path.realpath(name))
        found = _kind(name)
        if found is None and not path.parent.is_dir():
            folder = path.parent if os.path.islink(name) else Path(name).parent
            raise Stop(f"{name}: the folder {folder} isn't there", code=USAGE)
    except OSError as error:
        raise Stop(f"{name} can't be written: {error.strerror or error}", code=USAGE) from error
    if found is None or stat.S_ISREG(found):
        if found is not None and not force:
            raise Stop(f"{name} is there already: use --force to replace it", code=USAGE)
        return Target(name=name, path=path, is_file=True)
    if stat.S_ISFIFO(found) or stat.S_ISCHR(found):
        # Not the path behind the links: that of /dev/stdout leads to no file.
        return Target(name=name, path=Path(name), is_file=False)
    what = "a folder" if stat.S_ISDIR(found) else "a device" if stat.S_ISBLK(found) else "no file"
    raise Stop(f"{name} is {what}, and stays as it is: name a file", code=USAGE)


def _kind(name: str) -> int | None:
    """Return what the name leads to, None when nothing is there yet. Raises OSError."""
    try:
        return os.stat(name).st_mode
    except FileNotFoundError:
        return None


async def _open(path: Path) -> int:
    """Open for writing without creating or emptying anything. Raises OSError."""
    import asyncio

    while True:
        try:
            # A blocking open would hold up everything, Ctrl-C too, until there is a reader.
            opened = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno != errno.ENXIO or not stat.S_ISFIFO(os.stat(path).st_mode):
                raise
            await asyncio.sleep(_LOOK_EVERY)
        else:
            os.set_blocking(opened, True)
            return opened


def _close(file: BinaryIO) -> None:
    with contextlib.suppress(OSError):
        file.close()


def _sync(path: Path) -> None:
    # Else a power cut may leave the name with nothing behind it.
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _unwritable(target: Target, error: OSError) -> Stop:
    return Stop(f"{target.name} can't be written: {error.strerror or error}")
