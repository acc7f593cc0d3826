"""What needs a worker in a process of its own: how much memory it takes, and whom it trusts (HOSTILE.md)."""

import asyncio
import contextlib
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nats
import pytest

from schemas.events import JobCompleted, JobFailed, JobWaiting
from schemas.types import Provider
from tests.acceptance import product
from tests.integration import hostile_acts as acts
from tests.integration import hostile_table
from tests.integration.hostile_outcomes import BOTH
from tests.integration.hostile_rows import PROCESS_ROWS
from tests.integration.hostile_runs import KEY, Jobs, Run, account, fresh_streams
from tests.integration.hostile_server import Act, HostileServer, Trial, serving, silent, user_ids
from worker.embedded import EmbeddedServer

MEMORY = {"gzip-bomb": 30_000_000, "300-mb": 30_000_000, "tiny-values": 60_000_000}
"""Bytes that a worker may grow by, at most."""
SECONDS = 25.0
_SIZES: dict[str, Act] = {"gzip-bomb": acts.gzip_bomb, "300-mb": acts.huge_body, "tiny-values": acts.tiny_values}
_ROWS = {row.key: row for row in PROCESS_ROWS}
_OPENSSL = shutil.which("openssl")


@dataclass(frozen=True, kw_only=True)
class Front:
    """A TLS listener with a certificate."""

    server: HostileServer
    hellos: list[None]
    """One for each handshake that a client began."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A worker process and the providers around it."""

    worker: product.Worker
    jobs: Jobs
    server: HostileServer
    fronts: dict[str, Front]
    said: list[bytes]
    """What clients said first to the listener that never answers."""

    def memory(self, field: str) -> int:
        """Bytes: VmRSS is what the worker has, VmHWM the most it had since `forget_peak`."""
        status = Path(f"/proc/{self.worker.process.pid}/status").read_text(encoding="ascii")
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith(f"{field}:"))

    def forget_peak(self) -> None:
        """Count the peak from now on."""
        Path(f"/proc/{self.worker.process.pid}/clear_refs").write_text("5", encoding="ascii")


@pytest.fixture(scope="module")
async def stage(nats_server: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """A worker that trusts one authority and gives up soon."""
    folder = tmp_path_factory.mktemp("hostile")
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(fresh_streams(nats_server.url))
        server = await stack.enter_async_context(serving())
        quiet, said = await stack.enter_async_context(silent())
        fronts = {}
        if _OPENSSL:
            certificates = await asyncio.to_thread(make_certificates, folder / "tls")
            for name, tls in certificates.items():
                fronts[name] = Front(server=await stack.enter_async_context(serving(tls)), hellos=count_hellos(tls))
        accounts: dict[str, Any] = {}
        for provider in BOTH:
            for name, act in {**_SIZES, "429-for-ever": acts.limited(""), "429-year": acts.limited("31536000")}.items():
                trial = Trial(f"{name}-{provider}", provider, act, frozenset({2, 3, 4}), None, KEY)
                server.trials[trial.name] = trial
                accounts[trial.name] = account(trial, server.url)
            for name, front in fronts.items():
                trial = Trial(f"tls-{name}-{provider}", provider, acts.hang, frozenset(), 0, KEY)
                front.server.trials[trial.name] = trial
                accounts[trial.name] = account(trial, front.server.url)
            mute = Trial(f"tls-silent-{provider}", provider, acts.hang, frozenset(), 0, KEY)
            accounts[mute.name] = account(mute, f"https://{quiet}")
        config = {
            "nats": {"servers": [nats_server.url]},
            "worker": {"request_timeout": 3.0, "retry_for": 2.0, "rate_limited_for": 2.0},
            "accounts": accounts,
        }
        client = await nats.connect(nats_server.url, allow_reconnect=False)
        stack.push_async_callback(client.close)
        jobs = Jobs(client)
        await jobs.listen()
        trusted = {"SSL_CERT_FILE": str(folder / "tls" / "known.pem")} if _OPENSSL else {}
        worker = await stack.enter_async_context(product.worker(config, folder / "worker", trusted))
        yield Stage(worker=worker, jobs=jobs, server=server, fronts=fronts, said=said)
        assert worker.process.poll() is None


# How much memory.


@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="reads the peak of a process's memory from Linux"
)
@pytest.mark.parametrize("provider", BOTH)
@pytest.mark.parametrize("size", list(_SIZES))
async def test_an_answer_made_to_swell_fails_the_job_and_the_worker_stays_small(
    stage: Stage, size: str, provider: Provider
) -> None:
    trial = stage.server.trials[f"{size}-{provider}"]
    trial.healed = True
    for _ in range(3):
        await stage.jobs.run(provider, trial.name)
    trial.healed, trial.visits[:] = False, []
    before = stage.memory("VmRSS")
    stage.forget_peak()

    run = await stage.jobs.run(provider, trial.name)

    growth = stage.memory("VmHWM") - before
    hostile_table.MEASURED.say_worst(_ROWS[size], growth / 1e6, lambda worst: f"1 request, +{worst:.1f} MB")
    assert growth < MEMORY[size]
    assert failure(run).code == "bad_response"
    assert ("more than 100000 values" if size == "tiny-values" else "larger than 16777216 bytes") in failure(
        run
    ).message
    assert [page.page for page in run.pages] == [1]
    [visit] = trial.asked(2)
    assert visit.sent < 40_000_000, "the rest was read all the same"
    trial.healed = True
    assert completed(await stage.jobs.run(provider, trial.name))


# Patience and trust.


class Late:
    """The jobs that only wait: all begun together."""

    def __init__(self, stage: Stage) -> None:
        names = ["429-for-ever", "429-year", "tls-silent", *(f"tls-{name}" for name in stage.fronts)]
        self.runs = {
            (name, provider): asyncio.create_task(stage.jobs.run(provider, f"{name}-{provider}"))
            for name in names
            for provider in BOTH
        }


@pytest.fixture(scope="module")
async def late(stage: Stage) -> AsyncIterator[Late]:
    late = Late(stage)
    yield late
    for run in late.runs.values():
        run.cancel()
    await asyncio.gather(*late.runs.values(), return_exceptions=True)


@pytest.mark.parametrize("provider", BOTH)
async def test_a_provider_that_only_says_too_many_requests_is_given_up(
    stage: Stage, late: Late, provider: Provider
) -> None:
    run = await late.runs["429-for-ever", provider]

    asked = len(stage.server.trials[f"429-for-ever-{provider}"].asked(2))
    measure("429-for-ever", run, asked)
    assert failure(run).code == "rate_limited"
    assert 2 <= asked <= 15
    assert all(event.reason == "rate_limited" for event in run.events if isinstance(event, JobWaiting))
    assert len(run.pages) == 1


@pytest.mark.parametrize("provider", BOTH)
async def test_a_provider_that_asks_for_a_year_parks_neither_job_nor_account(
    stage: Stage, late: Late, provider: Provider
) -> None:
    run = await late.runs["429-year", provider]

    trial = stage.server.trials[f"429-year-{provider}"]
    asked = len(trial.asked(2))
    measure("429-year", run, asked)
    assert 1 <= asked <= 2
    assert failure(run).code == "rate_limited"
    assert "worker.rate_limited_for" in failure(run).message
    [told, *_] = [event for event in run.events if isinstance(event, JobWaiting)]
    assert told.wait is not None
    assert "(it asked for 31,536,000 s, more than worker.rate_limited_for leaves)" in told.wait.text
    assert (told.until - run.at).total_seconds() <= 2.0 + SECONDS / 2
    trial.healed = True
    after = await stage.jobs.run(provider, trial.name)
    assert completed(after)
    assert after.seconds < SECONDS / 2


@pytest.mark.parametrize("provider", BOTH)
async def test_tls_that_never_answers_is_given_up(stage: Stage, late: Late, provider: Provider) -> None:
    run = await late.runs["tls-silent", provider]

    # Both providers' handshakes come to the same listener.
    await asyncio.gather(*(late.runs["tls-silent", each] for each in BOTH))
    measure("tls-silent", run, len(stage.said) // 2)
    assert failure(run).code == "provider_unavailable"
    assert 4 <= len(stage.said) <= 10
    assert not [hello for hello in stage.said if KEY.encode() in hello or b"POST" in hello]
    assert run.pages == []


@pytest.mark.skipif(not _OPENSSL, reason="makes its certificates with openssl")
@pytest.mark.parametrize("provider", BOTH)
@pytest.mark.parametrize("name", ["wrong-name", "unknown"])
async def test_a_certificate_that_is_not_the_providers_gets_no_request(
    stage: Stage, late: Late, name: str, provider: Provider
) -> None:
    run = await late.runs[f"tls-{name}", provider]

    await asyncio.gather(*(late.runs[f"tls-{name}", each] for each in BOTH))
    front = stage.fronts[name]
    measure(f"tls-{name}", run, len(front.hellos) // 2)
    assert failure(run).code == "provider_unavailable"
    assert "Certificate" in failure(run).message
    assert 4 <= len(front.hellos) <= 30
    assert front.server.trials[f"tls-{name}-{provider}"].visits == []
    assert run.pages == []


@pytest.mark.skipif(not _OPENSSL, reason="makes its certificates with openssl")
@pytest.mark.parametrize("provider", BOTH)
async def test_the_right_certificate_is_trusted(late: Late, provider: Provider) -> None:
    assert completed(await late.runs["tls-known", provider])


def test_the_table_says_what_the_tests_check() -> None:
    hostile_table.check()


def failure(run: Run) -> Any:
    end = run.events[-1]
    assert isinstance(end, JobFailed), end
    return end.error


def completed(run: Run) -> bool:
    return isinstance(run.events[-1], JobCompleted) and run.user_ids == user_ids()


def measure(key: str, run: Run, asked: int) -> None:
    assert run.seconds < SECONDS
    what = "requests" if key.startswith("429") else "handshakes"
    hostile_table.MEASURED.say_worst(_ROWS[key], run.seconds, lambda worst: f"{asked} {what}, {worst:.1f} s")


def count_hellos(tls: ssl.SSLContext) -> list[None]:
    hellos: list[None] = []
    tls.sni_callback = lambda connection, name, context: hellos.append(None)
    return hellos


def make_certificates(folder: Path) -> dict[str, ssl.SSLContext]:
    """Servers' contexts: of the known authority for this host, for another one, and of an unknown authority."""
    folder.mkdir()
    for authority in ("known", "stranger"):
        openssl(
            folder, f"req -x509 -nodes -newkey rsa:2048 -days 2 -subj /CN={authority} -config ca.cnf -extensions ca",
            f"-keyout {authority}.key -out {authority}.pem",
            **{"ca.cnf": "[req]\ndistinguished_name=dn\n[dn]\n[ca]\nbasicConstraints=critical,CA:true\n"
               "keyUsage=critical,keyCertSign\nsubjectKeyIdentifier=hash\n"},
        )  # fmt: skip
    wanted = {
        "known": ("known", "IP:127.0.0.1"),
        "wrong-name": ("known", "DNS:provider.invalid"),
        "unknown": ("stranger", "IP:127.0.0.1"),
    }
    return {name: _context(folder, f"leaf-{name}", *issuer) for name, issuer in wanted.items()}


def _context(folder: Path, name: str, authority: str, host: str) -> ssl.SSLContext:
    extensions = f"subjectAltName={host}\nauthorityKeyIdentifier=keyid\nsubjectKeyIdentifier=hash\n"
    openssl(folder, f"req -new -nodes -newkey rsa:2048 -subj /CN={name} -keyout {name}.key -out {name}.csr")
    openssl(
        folder, f"x509 -req -days 2 -in {name}.csr -CA {authority}.pem -CAkey {authority}.key -CAcreateserial",
        f"-extfile {name}.cnf -out {name}.pem", **{f"{name}.cnf": extensions},
    )  # fmt: skip
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / f"{name}.pem", folder / f"{name}.key")
    return context


def openssl(folder: Path, *arguments: str, **files: str) -> None:
    for name, text in files.items():
        (folder / name).write_text(text, encoding="ascii")
    words = " ".join(arguments).split()
    subprocess.run([str(_OPENSSL), *words], cwd=folder, check=True, capture_output=True)
