"""The composition root: one replica under FastStream. The only file that knows FastStream.

`faststream run worker.app:app` and `followers worker` run the same thing; nothing connects or reads on import.
"""

import asyncio
import contextlib
import gc
import itertools
import logging
import os
import random
import signal
import socket
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from datetime import UTC, datetime
from functools import partial
from typing import Any, Self

import nats.errors
import structlog
import uvloop
from faststream import AckPolicy, FastStream
from faststream.nats import JStream, NatsBroker, NatsMessage, PullSub
from faststream.nats.security import NatsJWT, NatsNKey, NatsSecurity, NatsToken, NatsUserPassword
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from prometheus_client import CollectorRegistry

from schemas.changes import Feed
from schemas.jobs import JobStatus
from schemas.subjects import (
    CANCEL_SUBJECTS,
    COMMANDS_STREAM,
    CONTROL_QUEUE,
    PROVIDERS,
    RELEASE_SUBJECTS,
    STATUS_SUBJECTS,
    command_subject,
    consumer_name,
    exhausted_subject,
)
from schemas.types import Provider
from schemas.wire import CONTENT_TYPE, JSON, encode
from worker.connections import most_within, viewers_within
from worker.core.account import EtelecomAccount
from worker.core.changes.feeds import ChangeFeeds
from worker.core.changes.release import Releases
from worker.core.cures import NOT_CONNECTED, paused_text, resume
from worker.core.jobs.handler import CommandHandler, OpenAccount
from worker.core.jobs.shares import Slots
from worker.core.memory import Budget
from worker.core.ports.tracing import NoTracer
from worker.core.ratelimit.admission import open_gate
from worker.core.ratelimit.gcra import Limit
from worker.core.ratelimit.shared import Share
from worker.core.retry import RetryPolicy
from worker.core.schedules.scheduler import Scheduler
from worker.core.services import World
from worker.core.status.askers import Questions, asker_of
from worker.core.status.control import ENDS_WITHIN, Answer, Control, overloaded
from worker.core.status.end_in_log import with_end
from worker.core.status.searches import Searches
from worker.core.tasks import begin, begin_lasting, end
from worker.descriptors import raise_limit
from worker.jetstream.changes.open import open_changes
from worker.jetstream.client.connect import ConnectError, NatsOptions, check_files, options, public_url, tls_context
from worker.jetstream.client.inboxes import FROM_ANOTHER_ACCOUNT, REQUEST_INFO, Inboxes
from worker.jetstream.client.monitor import Complaints, because
from worker.jetstream.client.pull_backoff import CommandPull
from worker.jetstream.client.secure import CredentialsFile, GuardedClient
from worker.jetstream.client.writes import Writes
from worker.jetstream.commands.delivery import JetStreamDelivery
from worker.jetstream.commands.lag import queued
from worker.jetstream.commands.max_deliveries import find_exhausted
from worker.jetstream.commands.paused import look_for_paused
from worker.jetstream.commands.queue import JetStreamCommandQueue
from worker.jetstream.commands.stranded import StrandedCommands
from worker.jetstream.dead_letters.writer import JetStreamDeadLetters
from worker.jetstream.events.identity import keeps_ids
from worker.jetstream.events.latest_time import LatestTime
from worker.jetstream.events.log import JetStreamLog
from worker.jetstream.kv.cancellations import JetStreamCancellations
from worker.jetstream.kv.job_status import JetStreamStatusBoard
from worker.jetstream.kv.rate_limits import JetStreamLimit, ServerClock
from worker.jetstream.kv.schedules import JetStreamScheduleDesk
from worker.jetstream.topology.assets import TopologyConfig
from worker.jetstream.topology.doctor import lacking
from worker.jetstream.topology.permissions import SCHEDULING
from worker.jetstream.topology.reconcile import TopologyError, UnansweredError, check_server, missing, reconcile
from worker.metrics import PrometheusMeter, product_version
from worker.ops import OpsServer, Readiness
from worker.page import Page
from worker.page_backend import LiveSources, LiveSteering
from worker.providers import open_client
from worker.settings import Settings, load
from worker.traces import OtlpTracer, TracesError

PULL_TIMEOUT = 2.0
"""Seconds that one pull request stays open: a request that died with the server costs no more than this."""
WATCH_EVERY = 2.0
"""Seconds between two looks at the consumers; what FastStream doesn't notice, this does."""
COUNT_EVERY = 2.0
"""Seconds between two counts of the commands in the queue, for the metrics."""
LOOK_EVERY = 0.25
"""Seconds between two looks at what is waited for."""
OPEN_CHANGES_WITHIN = 30.0
"""Seconds in which JetStream may not answer at the start before the change feed is off."""
TELL_UNREACHABLE_EVERY = 10.0
"""Seconds between two log lines while NATS can't be reached."""
DRAIN_WITHOUT_NATS = 2.0
"""Seconds that a worker told to stop waits for NATS to come back, with jobs in hand."""
END_WITHIN = 3.0
"""Seconds that jobs which are cancelled have for handing their commands back; whoever goes on then is left behind."""
LEAVE_AFTER = 10.0
"""Seconds after `worker.drain_timeout` at which a worker told to stop is gone, whatever still holds it up."""
CLOSED_EXIT = 70
"""The exit code when the server closed the connection for good: only a new process gets another."""
STRANDED_LOOK = 5
"""Times `ack_wait`: between two looks for commands that the server has forgotten to deliver again."""
GARBAGE_LOOK = 10_000
"""New objects between two looks for garbage; a page of 50 followers is some hundreds."""
PATIENCE = 1.0
"""Seconds without a free slot after which commands of accounts that have none are looked for behind all others."""
SENT_BACK_AT_ONCE = 64
"""Commands that are asked for together while those that come go back, each at once."""
TELL_SENT_BACK_EVERY = 30.0
"""Seconds between two log lines about an account whose commands go back."""

_log = structlog.get_logger(__name__)


class StartError(Exception):
    """The worker can't start as it is configured; the message says what to change. Exit code 2."""


class Worker:
    """One replica: subscribers, the jobs in hand, the HTTP server beside them."""

    def __init__(self, settings: Settings) -> None:
        """Take the settings; nothing is opened before the start."""
        self.settings = settings
        self.interrupted: bool | None = None
        """None: somebody else owns the signals. Else: SIGINT came, so the exit code is 130."""
        # Not the pod's name alone: a restarted pod keeps its name, and must not take itself for its predecessor.
        self.name = f"{socket.gethostname()[:40]}-{uuid.uuid4().hex[:8]}"
        self.readiness = Readiness()
        self._latest = LatestTime()
        self._limits: dict[str, int] = {}
        """What the start has found, for the log: only one that succeeds says more than why it doesn't."""
        self.draining = asyncio.Event()
        self._started = asyncio.Event()
        self._registry = CollectorRegistry()
        self._meter = PrometheusMeter(self._registry, tuple(settings.schedules))
        self._meter.watch(ready=lambda: self.readiness.ready, waiting=self._waiting)
        self._tasks: dict[Provider, set[asyncio.Task[None]]] = {provider: set() for provider in PROVIDERS}
        self._room: dict[Provider, asyncio.Event] = {provider: asyncio.Event() for provider in PROVIDERS}
        self._slots = {provider: self._open_slots(provider) for provider in PROVIDERS}
        self._looks_on: dict[Provider, bool] = dict.fromkeys(PROVIDERS, False)
        """No slot has become free for a while, and what comes goes back unless its account has none."""
        self._taken: dict[str, tuple[str | None, JetStreamDelivery]] = {}
        """Commands on their way from the pull to `_take`, by the subject that acknowledges them."""
        self._told_sent_back: dict[str, float] = {}
        self._handler: CommandHandler | None = None
        self._control: Control | None = None
        self._releases: Releases | None = None
        self._accounts: dict[str, OpenAccount] = {}
        self._tracer = self._open_tracer()
        self._open = contextlib.AsyncExitStack()
        self._questions: list[Questions[Msg]] = []
        self._complaints = Complaints()
        self._writes = Writes(self._unheard)
        self._tells_own = False
        """Requests about the status of the jobs in hand are answered before anybody looks into the bucket."""
        self._client: Client | None = None
        self._inboxes: Inboxes | None = None
        self._world: World | None = None
        self._pulls: list[CommandPull] = []
        self.broker = self._make_broker()
        for provider in PROVIDERS:
            self._subscribe(provider)
            self._subscribe_exhausted(provider)
        self._listen(CANCEL_SUBJECTS, self._hear_cancel)
        self._answer(CANCEL_SUBJECTS, lambda control, job_id: control.cancel(job_id))
        self._answer(STATUS_SUBJECTS, lambda control, job_id: control.status(job_id))
        self.app = FastStream(self.broker, logger=None, lifespan=self._lifespan)
        self.app.on_startup(self._connect)
        self.app.after_startup(self._ready)
        self.app.on_shutdown(self._drain)

    async def __aenter__(self) -> Self:
        """Start as a part of a program that owns the signals itself. Raises StartError."""
        await self._open.enter_async_context(self._lifespan())
        try:
            await self.app.start()
        except BaseException:
            await self._open.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Drain and stop."""
        try:
            await self.app.stop()
        finally:
            await self._open.aclose()

    def _open_tracer(self) -> OtlpTracer | None:
        endpoint = self.settings.worker.otlp_endpoint
        try:
            return OtlpTracer(endpoint, worker=self.name, version=product_version()) if endpoint else None
        except TracesError as error:
            raise StartError(str(error)) from error

    def _make_broker(self) -> NatsBroker:
        try:
            security = _security(nats_options(self.settings, self.name))
        except ConnectError as error:
            raise StartError(str(error)) from error
        arguments: dict[str, Any] = options(nats_options(self.settings, self.name))
        arguments |= {
            "graceful_timeout": 5.0,
            "logger": logging.getLogger("faststream"),
            "log_level": logging.DEBUG,
            "apply_types": False,
            "security": security,
        }
        callbacks = {
            "error_cb": self._complaints.on_error,
            "reconnected_cb": self._complaints.on_reconnected,
            "closed_cb": self._closed,
        }
        return _Broker(self._pull, callbacks, **arguments)

    async def _pull(self, js: JetStreamContext, client: Client, *, stream: str, durable: str, **_: object) -> object:
        provider = next(provider for provider in PROVIDERS if consumer_name(provider) == durable)
        at_once = partial(self._slots[provider].at_once, SENT_BACK_AT_ONCE)
        send_back = partial(self._send_back, provider)
        pull = await CommandPull.open(js, client, at_once, send_back, stream=stream, durable=durable)
        self._pulls.append(pull)
        if self.draining.is_set():
            await pull.end(within=DRAIN_WITHOUT_NATS)
        return pull

    def _subscribe(self, provider: Provider) -> None:
        async def take(message: NatsMessage) -> None:
            await self._take(provider, message)

        subscriber = self.broker.subscriber(
            command_subject(provider),
            stream=JStream(COMMANDS_STREAM, declare=False),
            durable=consumer_name(provider),
            # One message at a time, and none before there is a slot for it: a message that waits in here would use
            # up its ack_wait with nobody beating for it.
            pull_sub=PullSub(batch_size=1, timeout=PULL_TIMEOUT),
            ack_policy=AckPolicy.MANUAL,
            decoder=_as_it_is,
            # FastStream would publish an answer wherever a command's header `reply_to` says, with our rights.
            no_reply=True,
        )
        subscriber(take)

    def _listen(self, subject: str, take: Callable[[NatsMessage], Awaitable[None]], *, queue: str = "") -> None:
        self.broker.subscriber(subject, queue=queue, decoder=_as_it_is, no_reply=True)(take)

    def _answer(self, subject: str, ask: Callable[[Control, str], Awaitable[Answer]]) -> None:
        async def answer(message: Msg) -> None:
            assert self._control is not None
            job_id = message.subject.rpartition(".")[2]
            if not (self._tells_own and message.subject.startswith("followers.status.") and self._held(job_id)):
                await self._reply(message.reply, await ask(self._control, job_id))

        questions = self._line(answer)

        async def take(message: NatsMessage) -> None:
            questions.put(_asker(message.raw_message), message.raw_message)

        self._listen(subject, take, queue=CONTROL_QUEUE)

    def _line(self, answer: Callable[[Msg], Coroutine[Any, Any, None]]) -> Questions[Msg]:
        async def shed(message: Msg) -> None:
            await self._reply(message.reply, overloaded(message.subject.rpartition(".")[2]))

        questions = Questions(answer, shed)
        self._questions.append(questions)
        return questions

    async def _reply(self, reply: str, given: Answer | Feed) -> None:
        assert self._client is not None
        assert self._inboxes is not None
        if not reply:
            return  # told, not asked
        if not await self._inboxes.may_answer(reply):
            _log.warning("control.not_answered", advice="ask with a reply subject that starts with _INBOX")
            return
        await self._client.publish(reply, encode(given), headers={CONTENT_TYPE: JSON})

    async def _open_changes(self, client: Client, world: World, timeout: float) -> ChangeFeeds | None:
        changes = self.settings.changes
        if not changes.enabled:
            return None
        give_up_at = time.monotonic() + OPEN_CHANGES_WITHIN
        while True:
            try:
                return await open_changes(
                    client, world, threshold=changes.threshold, drifted=changes.drifted, timeout=timeout
                )
            except TopologyError as error:
                # A server that restarts as we start must not turn the feed off for as long as this replica lives:
                # what it completes would be compared with nothing.
                if self.draining.is_set() or time.monotonic() >= give_up_at:
                    _log.warning("changes.off", reason=str(error), advice="restart once the server answers")
                    return None
            await asyncio.sleep(LOOK_EVERY)

    def _held(self, job_id: str) -> JobStatus | None:
        return self._world.status.in_hand(job_id) if self._world is not None else None

    async def _tell_own(self, client: Client) -> None:
        """Answer what is asked of jobs in hand, in all replicas: whoever else is asked has only the bucket's word.

        A user of the previous version may not listen; then one replica answers, as before.
        """
        if await lacking(client, (), (STATUS_SUBJECTS,)):
            return

        asking: set[asyncio.Task[None]] = set()

        async def tell(held: JobStatus, reply: str) -> None:
            assert self._world is not None
            await self._reply(reply, await with_end(held, self._world.log, self._world.now))

        async def take(message: Msg) -> None:
            if (held := self._held(message.subject.rpartition(".")[2])) is not None:
                # Not in line: the log is asked, too.
                task = begin(tell(held, message.reply), "control.tell")
                asking.add(task)
                task.add_done_callback(asking.discard)

        await client.subscribe(STATUS_SUBJECTS, cb=take)
        self._tells_own = True

    def _unheard(self) -> str | None:
        """Return why no answer to a write can come, None when one can."""
        if self._client is not None and not self._client.is_connected:
            return NOT_CONNECTED
        return self._complaints.denied

    async def _listen_for_releases(self, client: Client, releases: Releases) -> None:
        """Take requests only where there is a feed: a user of the previous version may not even listen."""

        async def answer(message: Msg) -> None:
            await self._reply(message.reply, await releases.answer(message.subject.rpartition(".")[2]))

        questions = self._line(answer)

        async def take(message: Msg) -> None:
            questions.put(_asker(message), message)

        await client.subscribe(RELEASE_SUBJECTS, queue=CONTROL_QUEUE, cb=take)
        self._background.append(begin_lasting(releases.watch, "changes.resume"))

    async def _hear_cancel(self, message: NatsMessage) -> None:
        assert self._handler is not None
        self._handler.cancel(message.raw_message.subject.rpartition(".")[2])

    def _subscribe_exhausted(self, provider: Provider) -> None:
        async def take(message: NatsMessage) -> None:
            task = begin(self._end_exhausted(message.body), "command.exhausted")
            self._tasks[provider].add(task)
            task.add_done_callback(self._tasks[provider].discard)

        self._listen(exhausted_subject(provider), take, queue=CONTROL_QUEUE)

    async def _end_exhausted(self, advisory: bytes) -> None:
        assert self._handler is not None
        delivery = await find_exhausted(await self.broker.connect(), advisory, timeout=5.0)
        while delivery is not None and not delivery.settled and not self.draining.is_set():
            await self._handler.handle_exhausted(delivery)
            if not delivery.settled:  # its job is in other hands
                await asyncio.sleep(self.settings.worker.ack_wait)

    async def _rescue_stranded(self, client: Client) -> None:
        """Work on the commands that the server keeps without delivering them."""
        assert self._handler is not None
        every = STRANDED_LOOK * self.settings.worker.ack_wait
        looks = {provider: StrandedCommands(client, provider, timeout=5.0) for provider in PROVIDERS}
        while True:
            # Not all replicas at the same moment: the first one that works on a job is seen by the others.
            await asyncio.sleep(every * random.uniform(0.8, 1.2))
            for provider, stranded in looks.items():
                for delivery in await stranded.look():
                    if self._slots[provider].comes_again(self._handler.account_of(delivery), delivery.sequence):
                        continue
                    task = begin(self._handler.handle_stranded(delivery), "command.stranded")
                    self._tasks[provider].add(task)
                    task.add_done_callback(self._tasks[provider].discard)

    async def _keep_schedules(self, client: Client) -> None:
        """Publish the commands that are due, with all other replicas; off where the NATS user may not."""
        assert self._world is not None
        if denied := await lacking(client, SCHEDULING):
            _log.error("schedules.off", reason=f"the NATS user lacks {'; '.join(denied)}: grant it (schedules=True)")
            return
        scheduler = Scheduler(
            self.settings.schedule_list(),
            JetStreamScheduleDesk(client, timeout=5.0),
            self._world,
            self._meter,
            lost_after=self.settings.streams.commands_max_age,
        )
        await scheduler.run(self.draining)

    def _open_slots(self, provider: Provider) -> Slots:
        accounts = sum(account.provider == provider for account in self.settings.accounts.values())
        return Slots(self.settings.worker.max_jobs, accounts, partial(self._waiting, provider))

    async def _take(self, provider: Provider, message: NatsMessage) -> None:
        """Start a job for `message`, or send it back; return when another one may come. Raises nothing."""
        raw: Msg = message.raw_message
        if raw.reply in self._taken or not await self._send_back(provider, raw):
            self._begin(provider, *self._taken.pop(raw.reply))
        await self._room_for_more(provider)

    async def _send_back(self, provider: Provider, message: Msg) -> bool:
        """Take `message`, or send it back and return True. Raises nothing."""
        assert self._handler is not None
        slots = self._slots[provider]
        delivery = JetStreamDelivery(message, ack_wait=self.settings.worker.ack_wait)
        self._latest.hear(delivery.timestamp_us)
        account = self._handler.account_of(delivery) if slots.are_shared else None
        now = asyncio.get_running_loop().time()
        delay = slots.take(account, delivery.sequence, now)
        if delay is None:
            self._taken[message.reply] = account, delivery
            return False
        self._tell_sent_back(account or "", slots.share, now)
        await delivery.nak(delay)
        return True

    def _begin(self, provider: Provider, account: str | None, delivery: JetStreamDelivery) -> None:
        assert self._handler is not None
        tasks, gauge = self._tasks[provider], self._meter.in_flight.labels(provider)
        task = begin(self._handler.handle(delivery), "command")
        tasks.add(task)
        gauge.inc()

        def done(task: asyncio.Task[None]) -> None:
            tasks.discard(task)
            gauge.dec()
            self._slots[provider].done(account, asyncio.get_running_loop().time())
            self._room[provider].set()

        task.add_done_callback(done)

    async def _room_for_more(self, provider: Provider) -> None:
        """Wait for a slot; no longer than PATIENCE where another account's command may be behind the next ones."""
        slots, room = self._slots[provider], self._room[provider]
        while slots.is_full and not self.draining.is_set():
            if self._looks_on[provider] and not slots.is_crammed:
                return
            room.clear()
            try:
                async with asyncio.timeout(PATIENCE if slots.are_shared else None):
                    await room.wait()
            except TimeoutError:
                self._looks_on[provider] = True
        self._looks_on[provider] = False

    def _tell_sent_back(self, account: str, share: int, now: float) -> None:
        if now - self._told_sent_back.get(account, float("-inf")) >= TELL_SENT_BACK_EVERY:
            self._told_sent_back[account] = now
            _log.info("account.commands_sent_back", account=account, in_hand_at_most=share)

    def _waiting(self, provider: Provider) -> int:
        return self._handler.waiting(provider) if self._handler is not None else 0

    @contextlib.asynccontextmanager
    async def _lifespan(self) -> AsyncIterator[None]:
        if self.interrupted is not None:
            # In place of FastStream's own handler, which takes SIGINT for SIGTERM.
            asyncio.get_running_loop().add_signal_handler(signal.SIGINT, self._interrupt)
        worker = self.settings.worker
        descriptors, before = raise_limit()
        places = viewers_within(most_within(descriptors))
        page = self.page = Page(self.name, lambda: self.readiness.why, worker.page_secret, places=places)
        ops = OpsServer(
            self.readiness,
            self._registry,
            page.routes(),
            descriptors=descriptors,
            hosts=(worker.http_host, *worker.http_hosts),
        )
        http = ops.most_connections if worker.http_port else 0
        self._limits = {"limit": descriptors, "before": before, "http_at_most": http}
        if worker.http_port:
            try:
                await ops.start(worker.http_host, worker.http_port)
            except OSError as error:
                raise StartError(
                    f"worker.http_port: {worker.http_host}:{worker.http_port} can't be listened on "
                    f"({error.strerror or error}); choose another, or 0 for none"
                ) from error
        background: list[asyncio.Task[None]] = []
        self._background = background
        try:
            yield
        finally:
            if self._releases is not None:
                self._releases.close()
            await end(background, within=END_WITHIN)
            await page.close()
            for account in self._accounts.values():
                if account.gate is not None:
                    account.gate.close()
                await account.client.close()
            if self._tracer is not None:
                await self._tracer.close()
            await ops.stop()

    def _interrupt(self) -> None:
        self.interrupted = not self.draining.is_set()
        self.app.exit()

    async def _connect(self) -> None:
        client = self._client = await self._reach()
        self._inboxes = Inboxes(client)
        await self._check(client)
        worker = self.settings.worker
        timeout = max(1.0, min(5.0, worker.ack_wait / 4))
        status = JetStreamStatusBoard(client, timeout=timeout, writes=self._writes)
        self._background.append(begin_lasting(status.run, "status.write"))
        world = self._world = World(
            log=JetStreamLog(client, timeout=timeout, writes=self._writes),
            status=status,
            cancellations=JetStreamCancellations(client, timeout=timeout),
            dead_letters=JetStreamDeadLetters(client, timeout=timeout, writes=self._writes),
            meter=self._meter,
            now=lambda: datetime.now(UTC),
            dice=random.random,
            token=_tokens(),
            worker=self.name,
            policy=RetryPolicy(retry_for=worker.retry_for, rate_limited_for=worker.rate_limited_for),
            prefetch=worker.prefetch,
            encoding=worker.encoding,
            cloudevents=worker.cloudevents,
            ack_wait=worker.ack_wait,
            budget=Budget(worker.max_bytes_in_flight),
            tracer=self._tracer or NoTracer(),
            queue=Searches(JetStreamCommandQueue(client, timeout=timeout)),
            keeps_ids=await keeps_ids(client),
        )
        self._open_accounts(client, world)
        self._handler = CommandHandler(self._accounts, world, self.draining)
        self._control = Control(world)
        changes = self._handler.changes = await self._open_changes(client, world, timeout)
        self._releases = Releases(changes, self.draining) if changes is not None else None
        rates = {account.name: account.rate_limit for account in self.settings.account_list()}
        self.page.open(
            LiveSources(client, world, lambda: self._accounts, rates, timeout=timeout),
            LiveSteering(client, self._control, timeout=timeout),
        )
        self._handler.on_waiting = lambda provider: self._room[provider].set()

    async def _reach(self) -> Client:
        """Wait for NATS as long as it takes, whatever keeps us out: the server's side can mend that. Say so."""
        where = ", ".join(public_url(server) for server in self.settings.nats.servers)
        attempt = asyncio.create_task(self.broker.connect())
        told = -TELL_UNREACHABLE_EVERY
        try:
            while not attempt.done():
                self.readiness.why = self._complaints.outside or "NATS is not connected"
                await asyncio.wait([attempt], timeout=LOOK_EVERY)
                if not attempt.done() and time.monotonic() - told >= TELL_UNREACHABLE_EVERY:
                    told = time.monotonic()
                    reason = self._complaints.outside or "start nats-server, or set nats.servers"
                    _log.warning("nats.unreachable", servers=where, reason=reason)
            self._complaints.connected()
            return attempt.result()
        finally:
            attempt.cancel()

    async def _check(self, client: Client) -> None:
        """Raise StartError when the server isn't as it should be; wait for one that went away since we connected."""
        while True:
            try:
                check_server(str(client.connected_server_version))
                if self.settings.nats.auto_setup:
                    await reconcile(client, topology(self.settings))
                problem = await missing(client)
            except TopologyError as error:
                denied = self._complaints.denied
                if denied or not isinstance(error, UnansweredError):
                    raise StartError(" ".join(filter(None, (str(error), denied)))) from error
                self.readiness.why = "NATS does not answer"
                _log.warning("nats.unanswered", reason=str(error))
                await asyncio.sleep(WATCH_EVERY)
            else:
                break
        if problem is not None:
            raise StartError(problem)

    def _open_accounts(self, nats_client: Client, world: World) -> None:
        worker, clock = self.settings.worker, ServerClock()
        for account in self.settings.account_list():
            provider: Provider = "etelecom" if isinstance(account, EtelecomAccount) else "esms"
            client = open_client(
                account,
                request_timeout=worker.request_timeout,
                max_response_bytes=worker.max_response_bytes,
                now=self._latest,
            )
            share = None
            if account.rate_limit > 0:
                limit = Limit(account.rate_limit)
                shared = JetStreamLimit(nats_client, clock, account.name, limit)
                share = Share(account.name, limit, shared, world.dice)
            gate = open_gate(account.name, provider, world, share)
            self._accounts[account.name] = OpenAccount(account.name, provider, client, gate)
        if not self._accounts:
            _log.warning("accounts.none", advice="add [accounts.NAME] to the configuration")

    async def _ready(self) -> None:
        assert self._client is not None
        if self._releases is not None:
            await self._listen_for_releases(self._client, self._releases)
        await self._tell_own(self._client)
        # A round trip behind the subscriptions: once it is back, the server has them all.
        trouble = await self._trouble(self._client)
        self._started.set()
        if self.draining.is_set():
            return
        self.readiness.why = trouble
        self._background.append(begin_lasting(self._watch, "worker.watch"))
        if self.settings.worker.http_port:
            self._background.append(begin_lasting(partial(self._count_commands, self._client), "commands.count"))
        self._background.append(begin_lasting(partial(self._rescue_stranded, self._client), "commands.stranded"))
        if self.settings.schedules:
            self._background.append(begin_lasting(partial(self._keep_schedules, self._client), "schedules"))
        _log.info("worker.descriptors", **self._limits)
        _log.info("worker.ready", worker=self.name, accounts=sorted(self._accounts))

    async def _watch(self) -> None:
        """Keep readiness true: consumers and streams can vanish without FastStream noticing."""
        client = await self.broker.connect()
        while True:
            why = await self._trouble(client)
            if why != self.readiness.why and not self.draining.is_set():
                _log.log(logging.INFO if why is None else logging.ERROR, "worker.readiness", why=why)
                self.readiness.why = why
            if why is None:
                await self._note_paused(client)
            await asyncio.sleep(WATCH_EVERY)

    async def _note_paused(self, client: Client) -> None:
        paused = await look_for_paused(client, timeout=WATCH_EVERY)
        notes = [f"{paused_text(provider, until)}: {resume(provider)}" for provider, until in paused.items()]
        if notes != self.readiness.notes:
            for note in notes:
                _log.warning("consumer.paused", reason=note)
            self.readiness.notes = notes

    async def _count_commands(self, client: Client) -> None:
        """Keep the gauges of the queue current."""
        while True:
            for provider in PROVIDERS:
                counts = await queued(client, provider, timeout=COUNT_EVERY) if client.is_connected else None
                self._meter.commands(provider, counts)
            await asyncio.sleep(COUNT_EVERY)

    async def _trouble(self, client: Client) -> str | None:
        if not client.is_connected:
            return self._complaints.outside or "NATS is not connected"
        if self._complaints.denied:
            # Denied pulls and acks raise nothing anywhere: without this the worker would look well and do nothing.
            return self._complaints.denied
        look = asyncio.create_task(missing(client))
        try:
            while not look.done() and client.is_connected:
                await asyncio.wait([look], timeout=LOOK_EVERY)
            if not look.done():  # asked just before the connection broke: no answer will come
                return self._complaints.outside or "NATS is not connected"
            return look.result() or self._writes.why
        except (nats.errors.Error, TopologyError, OSError) as error:
            return f"NATS does not answer ({type(error).__name__})"
        finally:
            look.cancel()

    async def _drain(self) -> None:
        """Finish the pages in hand, hand the jobs back, and only then let the connection go."""
        self.draining.set()
        self._leave_in_time()
        for room in self._room.values():
            room.set()
        self.readiness.why = "stopping"
        await self._let_start_finish()
        await asyncio.gather(*(pull.end(within=DRAIN_WITHOUT_NATS) for pull in self._pulls))
        tasks = [task for tasks in self._tasks.values() for task in tasks]
        _log.info("worker.draining", jobs=len(tasks))
        if tasks and (left := await end(await self._wait_for(tasks), within=END_WITHIN)):
            _log.error("worker.jobs_left_behind", jobs=len(left), advice="`ack_wait` brings them to other workers")
        await asyncio.gather(*(questions.close(ENDS_WITHIN) for questions in self._questions))

    def _leave_in_time(self) -> None:
        """See to it that this process ends: closing the connection waits, too, where the server says nothing."""
        if self.interrupted is not None:
            seconds = self.settings.worker.drain_timeout + LEAVE_AFTER
            asyncio.get_running_loop().call_later(seconds, lambda: _leave(130 if self.interrupted else 0))

    async def _let_start_finish(self) -> None:
        """Told to stop while starting: what the first pulls bring would lie with nobody until `ack_wait`."""
        if self._handler is None or self._started.is_set():
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._started.wait(), DRAIN_WITHOUT_NATS)

    async def _wait_for(self, tasks: list[asyncio.Task[None]]) -> set[asyncio.Task[None]]:
        """Return the jobs that are still in hand when the time to drain is over, or NATS has been away too long."""
        loop = asyncio.get_running_loop()
        deadline, left, away_since = loop.time() + self.settings.worker.drain_timeout, set(tasks), None
        while left and loop.time() < deadline:
            _, left = await asyncio.wait(left, timeout=min(LOOK_EVERY, deadline - loop.time()))
            if self._client is None or self._client.is_connected:
                away_since = None
            elif (away_since := away_since or loop.time()) < loop.time() - DRAIN_WITHOUT_NATS:
                # Nothing can be published or handed back: `ack_wait` brings the commands to others.
                break
        return left

    async def _closed(self) -> None:
        if not self.draining.is_set():
            # A closed connection never comes back, and FastStream's pull loop then spins without yielding.
            last = self._client.last_error if self._client else None
            reason = because(last) if last else None
            _log.critical("nats.closed", exit_code=CLOSED_EXIT, error=type(last).__name__, reason=reason)
            os._exit(CLOSED_EXIT)


class _Broker(NatsBroker):
    """A broker on our client and with our callbacks: FastStream's say "connection broken" for every error."""

    def __init__(self, pull: Callable[..., Awaitable[object]], callbacks: dict[str, Any], **arguments: Any) -> None:
        super().__init__(**arguments)
        self._pull, self._callbacks = pull, callbacks

    async def _connect(self) -> Client:
        client = GuardedClient()
        await client.connect(**(self._connection_kwargs | self._callbacks))
        self.config.connect(client)
        # FastStream subscribes by a look at the consumer, fails for good when the server is away just then, and
        # makes the consumer with other settings when it is gone. It has been looked at, so binding is enough.
        stream: Any = self.config.connection_state.stream
        stream.pull_subscribe = partial(self._pull, stream, client)
        return client


def _asker(request: Msg) -> str:
    info = (request.headers or {}).get(REQUEST_INFO) if request.reply.startswith(FROM_ANOTHER_ACCOUNT) else None
    return asker_of(request.reply, info)


async def run_worker(settings: Settings) -> int:
    """Run one replica until SIGTERM or SIGINT, draining it then.

    Returns the exit code: 0 stopped, 130 interrupted, 2 can't start as configured, 70 ended without being told.
    """
    try:
        worker = Worker(settings)
        worker.interrupted = False
        worker.app.after_startup(_spare_collections)
        await worker.app.run()
    except StartError as error:
        _log.error("worker.not_started", reason=str(error), docs="README.md#when-something-is-wrong")
        return 2
    except (nats.errors.ConnectionReconnectingError, nats.errors.ConnectionClosedError):
        # Told to stop while NATS is away: nothing can be handed back, and ack_wait brings the commands to others.
        _log.warning("worker.stopped_without_nats")
    if not worker.draining.is_set():
        # A task of FastStream's that is cancelled from below ends all the others without a word.
        _log.critical("worker.ended_untold", exit_code=CLOSED_EXIT, advice="start it again")
        return CLOSED_EXIT
    _log.info("worker.stopped")
    return 130 if worker.interrupted else 0


async def _run_to_the_end(settings: Settings) -> int:
    code = await run_worker(settings)
    if await end(asyncio.all_tasks() - {asyncio.current_task()}, within=END_WITHIN):
        _leave(code)  # else the event loop would wait for them as it closes
    return code


def _leave(code: int) -> None:
    """End this process at once; whatever is unfinished comes back after `ack_wait`."""
    _log.error("worker.left", exit_code=code, advice="what it had in hand comes back after ack_wait")
    os._exit(code)


def _tokens() -> Callable[[], str]:
    """Return a source of texts that never come twice, in whatever process: drawing each one would cost more."""
    own, numbers = uuid.uuid4().hex, itertools.count(1)
    return lambda: f"{own}{next(numbers)}"


async def _spare_collections() -> None:
    # Pages in flight make Python look for cycles all the time, each time through everything that was ever imported:
    # that took as long as reading the pages. What there is by now stays for good, so it need not be looked at.
    gc.freeze()
    gc.set_threshold(GARBAGE_LOOK, 10, 10)


def run(settings: Settings) -> int:
    """As `run_worker`, with an event loop of its own."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run_to_the_end(settings))


def nats_options(settings: Settings, name: str) -> NatsOptions:
    """Return how `settings` say to connect, under the client name `name`."""
    section = settings.nats
    return NatsOptions(
        servers=tuple(section.servers),
        name=name,
        creds_file=_text(section.creds_file),
        nkey_seed_file=_text(section.nkey_seed_file),
        user=section.user,
        password=section.password.reveal() if section.password else None,
        token=section.token.reveal() if section.token else None,
        tls_ca=_text(section.tls_ca),
        tls_cert=_text(section.tls_cert),
        tls_key=_text(section.tls_key),
        inbox_prefix=section.inbox_prefix,
    )


def topology(settings: Settings) -> TopologyConfig:
    """Return the streams, consumers and buckets that `settings` ask for."""
    return TopologyConfig(
        replicas=settings.nats.replicas,
        ack_wait=settings.worker.ack_wait,
        **settings.streams.model_dump(),
    )


def _security(nats_options: NatsOptions) -> NatsSecurity | None:
    tls = tls_context(nats_options)
    check_files(nats_options)
    if nats_options.creds_file:
        file = CredentialsFile(nats_options.creds_file)
        return NatsJWT(file.jwt, file.sign, ssl_context=tls)
    if nats_options.nkey_seed_file:
        return NatsNKey(nats_options.nkey_seed_file, ssl_context=tls)
    if nats_options.user and nats_options.password:
        return NatsUserPassword(nats_options.user, nats_options.password, ssl_context=tls)
    if nats_options.token:
        return NatsToken(nats_options.token, ssl_context=tls)
    return NatsSecurity(ssl_context=tls) if tls else None


async def _as_it_is(message: NatsMessage) -> NatsMessage:
    """Decode nothing: what can't be decoded must become a dead letter, not FastStream's exception."""
    return message


def _text(path: object) -> str | None:
    return None if path is None else str(path)


def __getattr__(name: str) -> Any:
    """Make `app` when `faststream run worker.app:app` asks for it, from the configuration of this process."""
    if name == "app":
        return Worker(load()).app
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
