"""What `followers doctor` tries, beside all that it reads: a write that can't succeed, and a question to the workers.

nats-server 2.10 to 2.15 looks at the expected sequence before anything else: a stream that is full, an account out of
storage and a disk that fails each write all answer the trial as a healthy stream does, and store nothing. So the trial
shows that the stream has a leader that answers and that this user may write; whether it has room is read from its
limits; and what only a real write meets, the workers have met: they are asked about the commands in hand.
"""

import asyncio
import json

import nats.errors
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import RawStreamMsg
from nats.js.errors import NotFoundError

from schemas.jobs import JobStatus
from schemas.subjects import COMMANDS_STREAM, EVENTS_STREAM, PROVIDERS, command_subject, consumer_name, status_subject
from schemas.types import Provider
from schemas.wire import decode
from worker.core.cures import cure
from worker.core.diagnostics import Finding
from worker.core.jobs.parse import RejectedError, read_job
from worker.jetstream.client.writes import Writes
from worker.jetstream.commands.max_deliveries import ExhaustedDelivery
from worker.jetstream.events.log import EXPECTED_SEQUENCE, WRONG_SEQUENCE_CODES
from worker.jetstream.topology.permissions import JOBS_STREAM

TRIALS = {EVENTS_STREAM: "followers.job.doctor.doctor.doctor", JOBS_STREAM: "$KV.FOLLOWERS_JOBS.doctor"}
"""Nobody's job: nothing is ever stored there."""
NEVER = 2**62
"""A sequence that no stream comes to."""
ASKED = 3
"""Commands in hand of each provider about which workers are asked, from the oldest on."""
_TIMEOUT = 3.0
_ANSWERED_WITHIN = 1.0


async def try_to_write(client: Client, stream: str) -> list[Finding]:
    """Try a write that stores nothing whatever comes; return what stands in the way, nothing when nothing does."""
    headers = {EXPECTED_SEQUENCE: str(NEVER)}
    try:
        answer = await client.request(TRIALS[stream], b"", timeout=_TIMEOUT, headers=headers)
        error = json.loads(answer.data).get("error") or {}
    except (nats.errors.Error, OSError, ValueError) as failure:
        words = Writes().explain(failure)[1]
        advice = "may this user publish there? Else look at nats-server: it doesn't answer for this stream"
        return [_finding("nats.write", stream, f"a trial that stores nothing fails: {words}", advice)]
    code, words = error.get("err_code"), error.get("description", "it was stored")
    if code in WRONG_SEQUENCE_CODES:
        return []
    return [_finding("nats.write", stream, f"a trial that stores nothing fails: {words} (error {code})",
                     cure(code, words, stream))]  # fmt: skip


async def held_up(client: Client) -> list[Finding]:
    """Ask workers about commands in hand; return what NATS doesn't take from them, or give to them."""
    js = client.jetstream(timeout=_TIMEOUT)
    listed = await asyncio.gather(*(_in_hand(js, provider) for provider in PROVIDERS))
    asked = await asyncio.gather(*(_ask(client, job_id) for jobs in listed for job_id in jobs))
    told = [status for status in asked if status is not None and status.wait is not None]
    return [
        _finding("nats.jobs", f"job {status.job_id}", *_halves(status.wait.text))
        for status in told
        if status.wait is not None and status.wait.owner == "nats"
    ]


async def _in_hand(js: JetStreamContext, provider: Provider) -> list[str]:
    found: list[str] = []
    try:
        info = await js.consumer_info(COMMANDS_STREAM, consumer_name(provider))
        last = info.delivered.stream_seq if info.delivered and info.num_ack_pending else 0
        sequence = 1
        while len(found) < ASKED and sequence <= last:
            message = await js.get_msg(COMMANDS_STREAM, seq=sequence, subject=command_subject(provider), next=True)
            sequence = (message.seq or last) + 1
            if (job_id := _job_id(js, message)) is not None and sequence <= last + 1:
                found.append(job_id)
    except (NotFoundError, nats.errors.Error, OSError):
        pass  # the findings about streams and consumers say so
    return found


def _job_id(js: JetStreamContext, message: RawStreamMsg) -> str | None:
    try:
        return read_job(ExhaustedDelivery(js, message)).address.job_id
    except RejectedError:
        return None


async def _ask(client: Client, job_id: str) -> JobStatus | None:
    try:
        return decode((await client.request(status_subject(job_id), timeout=_ANSWERED_WITHIN)).data, JobStatus)
    except (nats.errors.Error, OSError, ValueError):
        return None


def _halves(text: str) -> tuple[str, str]:
    """Part what is the matter from what to do."""
    detail, _, advice = text.rpartition(": ")
    return detail, advice


def _finding(check: str, subject: str, detail: str, advice: str) -> Finding:
    return Finding(check=check, subject=subject, state="fail", detail=detail, advice=advice)
