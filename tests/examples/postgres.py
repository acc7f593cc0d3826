"""A real PostgreSQL for one test: its own data folder, a Unix socket, nothing of it left."""

import asyncio
import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest


def programs() -> Path:
    """The folder with `initdb` and `postgres`. Without one the test is skipped, and fails in CI."""
    packaged = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
    on_path = shutil.which("initdb")
    folders = [*reversed(packaged), *([Path(on_path).parent] if on_path else [])]
    for folder in folders:
        if (folder / "postgres").exists():
            return folder
    missing = "no PostgreSQL here: apt-get install postgresql, or put its initdb on PATH"
    if os.environ.get("ALL_TOOLS"):
        pytest.fail(missing)
    pytest.skip(missing)


@contextlib.asynccontextmanager
async def postgres() -> AsyncIterator[str]:
    """A running server; yields its connection string."""
    folder = programs()
    # PostgreSQL refuses to run as root; Debian's package has made a user for it.
    user = "postgres" if os.getuid() == 0 else None
    place = Path(tempfile.mkdtemp(prefix="followers-pg-"))
    name = user or pwd.getpwuid(os.getuid()).pw_name
    process: subprocess.Popen[bytes] | None = None
    try:
        if user:
            shutil.chown(place, user)
        with (place / "log").open("wb") as log:

            def start(program: str, *options: str) -> subprocess.Popen[bytes]:
                words = (str(folder / program), "-D", str(place / "data"), *options)
                return subprocess.Popen(words, user=user, cwd=place, stdout=log, stderr=log)

            made = start("initdb", "-U", name, "-A", "trust", "-N", "-E", "UTF8", "--locale=C")
            assert await asyncio.to_thread(made.wait) == 0, (place / "log").read_text("utf-8")
            process = start("postgres", "-k", str(place), "-c", "listen_addresses=", "-c", "fsync=off")
        async with asyncio.timeout(30):
            while not (place / ".s.PGSQL.5432").exists():
                assert process.poll() is None, (place / "log").read_text("utf-8")
                await asyncio.sleep(0.05)
        yield f"host={place} user={name} dbname=postgres"
    finally:
        if process is not None:
            process.terminate()
            await asyncio.to_thread(process.wait)
        shutil.rmtree(place, ignore_errors=True)
