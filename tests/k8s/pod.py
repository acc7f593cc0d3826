"""A worker as Kubernetes runs it: process 1, uid 65532, no capability, a root that can't be written, mounted files."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from tests.integration import stage

INIT = "tini-static"
TOOLS = ("bwrap", "setpriv", INIT)
USER = 65532
GRACE = 60.0
"""Seconds, as terminationGracePeriodSeconds says."""
_SEEN_BY_ALL = ("/usr", "/etc/ssl", "/etc/ld.so.cache", "/etc/hosts", "/etc/nsswitch.conf", "/etc/localtime")


def need_tools() -> None:
    """Skip the test where a pod can't be played; fail it where that is not to happen."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if os.geteuid() != 0:
        missing.append("root")
    if missing:
        reason = f"a pod needs {', '.join(missing)}: run as root after apt-get install bubblewrap tini util-linux"
        (pytest.fail if os.environ.get("ALL_TOOLS") else pytest.skip)(reason)
    probe = subprocess.run(["bwrap", "--unshare-pid", "--ro-bind", "/", "/", "true"], capture_output=True, text=True)
    if probe.returncode:
        pytest.skip(f"namespaces are not allowed here: {probe.stderr.strip()}")


class SecretFolder:
    """A Secret's volume as the kubelet makes it: files are links through `..data`, which is swapped in one step."""

    def __init__(self, folder: Path, values: Mapping[str, str]) -> None:
        """Make the folder with `values` in it."""
        folder.mkdir()
        self.path = folder
        self._generation = 0
        self.swap(values)
        for name in values:
            (folder / name).symlink_to(f"..data/{name}")

    def swap(self, values: Mapping[str, str]) -> None:
        """Put other values there, as the kubelet does when the Secret has changed."""
        old = self.path / f"..{self._generation}"
        self._generation += 1
        new = self.path / f"..{self._generation}"
        new.mkdir()
        for name, value in values.items():
            file = new / name
            file.write_text(value, "utf-8")
            os.chown(file, 0, USER)
            file.chmod(0o440)
        (self.path / "..next").symlink_to(new.name)
        (self.path / "..next").rename(self.path / "..data")
        shutil.rmtree(old, ignore_errors=True)


class Pod(stage.Replica):
    """One worker under a pod's constraints. `process` is the sandbox around it, `pid` the image's init in it."""

    def __init__(
        self,
        folder: Path,
        config: str,
        mounts: Mapping[str, Path],
        *,
        command: Sequence[str] = ("worker",),
        environment: Mapping[str, str] | None = None,
        memory: Path | None = None,
        shared: bool = False,
    ) -> None:
        """Start it. `config` is the text of its settings with the port in braces, `mounts` folders by place.

        `memory`: a cgroup that it joins before anything else runs. `shared`: another process is process 1, as with
        shareProcessNamespace.
        """
        self.port = stage.free_port()
        # Not by the port alone: a pod that has ended may have had the same one.
        folder = Path(tempfile.mkdtemp(prefix=f"pod-{self.port}-", dir=folder))
        folder.chmod(0o755)
        (folder / "worker.toml").write_text(config.replace("{port}", str(self.port)), "utf-8")
        self._log = folder / "log"
        reads, writes = os.pipe()
        variables = {"FOLLOWERS_CONFIG": "/etc/followers/worker.toml", **(environment or {})}
        joined = [] if memory is None else ["sh", "-c", f'echo $$ >{memory}/cgroup.procs && exec "$@"', "sh"]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    *joined,
                    *_sandbox({"/etc/followers": folder, **mounts}, variables, status=writes, shared=shared),
                    *_privileges(),
                    *(INIT, "-s", "-e", "143", "--", sys.executable, "-m", "worker", *command),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[writes],
            )
        os.close(writes)
        # Open until the end: the sandbox writes there how process 1 ended, and would fail if it could not.
        self._status = os.fdopen(reads)
        self.pid = int(json.loads(self._status.readline() or "{}").get("child-pid", 0))
        while shared and not (below := _children(self.pid)):
            assert self.process.poll() is None, self.log
        if shared:
            self.pid = below[0]

    def execed(self) -> None:
        """Wait until the image's init runs, and has done its first thing, which is to hold signals back.

        Between its exec and that, no program can help it: the system drops what process 1 has no handler for.
        """
        while not _children(self.pid):
            assert self.process.poll() is None, self.log

    def worker_pid(self) -> int:
        """The worker itself, below the init."""
        return _children(self.pid)[0]

    def status(self) -> dict[str, str]:
        """What the system says of the worker: `Uid`, `CapEff`, `NoNewPrivs`, ..."""
        lines = Path(f"/proc/{self.worker_pid()}/status").read_text("utf-8").splitlines()
        return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}

    def rss_of_worker(self) -> int:
        """Bytes of memory that the worker holds."""
        pages = int(Path(f"/proc/{self.worker_pid()}/statm").read_text("utf-8").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def close(self) -> None:
        """End the sandbox, and with it everything in it."""
        if self.process.poll() is None and self.pid:
            # Not only the sandbox: it would die alone, because a process that changes its user loses the tie.
            os.kill(self.pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()
        self._status.close()

    def terminate(self) -> None:
        """SIGTERM to process 1, as the kubelet has it sent."""
        os.kill(self.pid, signal.SIGTERM)

    async def stop(self, timeout: float = GRACE) -> int:
        """SIGTERM; return the exit code within the grace period."""
        self.terminate()
        return await self.ended(timeout)


@contextlib.asynccontextmanager
async def pod(*args: Any, ready: bool = True, **options: Any) -> AsyncIterator[Pod]:
    """A pod, ready unless told otherwise; nothing of it is left afterwards."""
    started = Pod(*args, **options)
    try:
        if ready:
            await started.answers("/readyz", 200)
        yield started
    finally:
        started.close()


@contextlib.contextmanager
def memory_limit(limit: int) -> Iterator[Path]:
    """A cgroup with a limit of so many bytes; skips where none can be made."""
    group = _limited_group(limit)
    if group is None:
        pytest.skip("no memory cgroup can be made here: neither version is writable")
    try:
        yield group
    finally:
        group.rmdir()


def _limited_group(limit: int) -> Path | None:
    for root, file in (("/sys/fs/cgroup", "memory.max"), ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")):
        group = Path(root, f"followers-{os.getpid()}")
        # Where it is no cgroup file system, a folder can be made too, and it stays empty.
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            if (group / file).exists():
                (group / file).write_text(str(limit), "utf-8")
                return group
        except OSError:
            pass
        group.rmdir()
    return None


def memory_peak(group: Path) -> int:
    """The most bytes that were in use in a cgroup, page cache included."""
    for file in ("memory.peak", "memory.max_usage_in_bytes"):
        if (group / file).exists():
            return int((group / file).read_text("utf-8"))
    return 0


def out_of_memory(group: Path) -> int:
    """How often the kernel killed in a cgroup."""
    for file in ("memory.events", "memory.oom_control"):
        with contextlib.suppress(OSError):
            lines = dict(line.split() for line in (group / file).read_text("utf-8").splitlines())
            return int(lines.get("oom_kill", 0))
    return 0


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text("utf-8").split()]


def _privileges() -> list[str]:
    without = [f"--{kind}={what}" for kind, what in (("bounding-set", "-all"), ("inh-caps", "-all"))]
    return ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--no-new-privs", *without]


def _sandbox(mounts: Mapping[str, Path], variables: Mapping[str, str], *, status: int, shared: bool) -> list[str]:
    program = ["bwrap", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--die-with-parent"]
    program += [] if shared else ["--as-pid-1"]
    program += ["--json-status-fd", str(status), "--clearenv", "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp"]
    program += ["--chmod", "1777", "/tmp"]
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": "/tmp",
        "PYTHONPATH": str(stage.ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
        **variables,
    }
    for name, value in environment.items():
        program += ["--setenv", name, value]
    for link in ("bin", "lib", "lib64", "sbin"):
        if Path("/", link).is_symlink():
            program += ["--symlink", f"usr/{link}", f"/{link}"]
        elif Path("/", link).exists():
            program += ["--ro-bind", f"/{link}", f"/{link}"]
    ours = [sys.base_prefix, sys.prefix, sysconfig.get_path("stdlib"), str(stage.ROOT)]
    bound = {path: Path(path) for path in (*_SEEN_BY_ALL, *ours) if Path(path).exists()} | dict(mounts)
    made = {"/", "/tmp", "/usr"}
    for place, source in sorted(bound.items()):
        # bwrap makes parents that only root may enter.
        for parent in [str(one) for one in reversed(PurePosixPath(place).parents) if str(one) not in made]:
            program += ["--perms", "0755", "--dir", parent]
            made.add(parent)
        if not any(place != other and PurePosixPath(place).is_relative_to(other) for other in bound):
            program += ["--ro-bind", str(source), place]
    return [*program, "--remount-ro", "/", "--chdir", "/", "--"]
