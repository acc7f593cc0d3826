"""Reading pages without losing, doubling or disordering one: an async iterator over a durable consumer.

Needs nats-py beside msgspec (`pip install "followers-schemas[consume]"`), and loads it only when a reader is opened::

    async with Pages(client.jetstream(), "crm") as pages:
        async for page in pages:
            ...  # store it; the page is acknowledged when the body has finished

The durable is made by `followers setup --consumer crm`: whoever may make consumers could have the server write into
any subject, so a consumer's user may only read from one that is there.
"""

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from schemas.events import FollowerPage
from schemas.order import AlteredError, ConsumeError, GapError, Order, Place, UnreadableError
from schemas.pulls import Said, said
from schemas.subjects import EVENTS_STREAM
from schemas.wire import content_type, decode, why_unreadable

if TYPE_CHECKING:
    from nats.aio.msg import Msg
    from nats.js import JetStreamContext

__all__ = ["AlteredError", "ConsumeError", "ConsumerError", "GapError", "Pages", "Place", "UnreadableError"]

_log = logging.getLogger(__name__)
_FETCH = 2.0
"""Seconds for one request for a page. It can't be taken back: so long an end takes while there is none, and a process
that dies in between may leave a page behind until `ack_wait` is over."""
_LOST_AFTER = 1.0
"""Seconds behind that in which the server says that there was no page: a request that died with it is made again."""
_AGAIN_AFTER = 1.0
"""Seconds until a page whose body failed comes again."""


class ConsumerError(ConsumeError):
    """The durable consumer is missing, or not one that keeps the order."""


class Pages:
    """The pages on a durable consumer, each job's in order, each once, without a gap. Use as `async with`.

    A page is acknowledged when its body has finished: at the next turn of the loop, or at the end of `async with`.
    When the body raises, or the process dies, the same page comes first the next time, here or in another process
    that reads the same durable; two at once take turns. While the server is away, it waits.
    """

    def __init__(
        self,
        js: "JetStreamContext",
        durable: str,
        *,
        after: Mapping[str, Place] | None = None,
        on_error: Callable[[ConsumeError], None] | None = None,
        stream: str = EVENTS_STREAM,
        skip_unreadable: bool = True,
    ) -> None:
        """Read what `durable` on `stream` delivers, over `js`, which stays the caller's.

        `after`: per subject the page that was stored last, where the caller keeps that with the data: then a page
        that was stored but not acknowledged is left out, and a gap shows across restarts too; with its `digest`, so
        does an altered page. `on_error` is called with a GapError, AlteredError or UnreadableError: what it raises
        ends the loop, as without it the error itself does; returning goes on, with the page behind the gap, with the
        altered page as it is, or without the message that can't be read. `skip_unreadable`: without `on_error`, such a
        message is acknowledged and left out, with a warning by `logging` that names it; where it stood in the place of
        a page, a GapError follows. False: it is an error as well, and comes again until somebody deletes it.
        """
        self._js = js
        self._durable = durable
        self._stream = stream
        self._after = after
        self._on_error = on_error
        self._skip_unreadable = skip_unreadable
        self._held: Msg | None = None
        self._heartbeat: asyncio.Task[None] | None = None
        self._client = js._nc  # nats-py says nowhere else whose context it is, and what its API is called
        self._request = f"{js._prefix}.CONSUMER.MSG.NEXT.{stream}.{durable}"
        self._pulls = 0
        self._open_until = 0.0
        """When the newest pull has ended, whatever was heard of it."""

    async def __aenter__(self) -> Self:
        """Find the consumer. Raises ConsumerError when it is missing or can't keep the order."""
        info = await self._look()
        self._delivered = info.delivered.consumer_seq if info.delivered else 0
        self._order = Order(self._after, from_start=self._delivered == 0 and info.config.deliver_policy == "all")
        self._ack_wait = float(info.config.ack_wait or 30)
        self._inbox = self._client.new_inbox()
        self._arrivals = await self._client.subscribe(f"{self._inbox}.*")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Acknowledge the page in hand, or give it back when its body failed."""
        import nats.errors

        message = self._let_go()
        # Without an answer the page comes once more; that is told apart where `after` is kept.
        with contextlib.suppress(nats.errors.Error, TimeoutError, OSError):
            if message is not None and kind is None:
                await message.ack_sync()
            elif message is not None:
                await message.nak(delay=_AGAIN_AFTER)
        try:
            await self._end_pull()
        finally:
            with contextlib.suppress(nats.errors.Error, OSError):
                await self._arrivals.unsubscribe()

    async def _end_pull(self) -> None:
        """Give back what the pull that is open still brings.

        The server that has the stream may not see that nobody listens any more, when another one or another account is
        between: a page sent then would wait for `ack_wait`, and all behind it.
        """
        import nats.errors

        with contextlib.suppress(nats.errors.Error, TimeoutError, OSError):
            while (left := self._open_until - time.monotonic()) > 0 and self._client.is_connected:
                message = await self._arrivals.next_msg(left)
                what = said(message)
                if what is Said.MESSAGE:
                    await message.nak()
                if what is Said.MESSAGE or (message.subject == self._reply and what is not Said.ALIVE):
                    return

    def __aiter__(self) -> Self:
        """Itself."""
        return self

    async def __anext__(self) -> FollowerPage:
        """Acknowledge the page before and return the next one, however long that takes."""
        page = None
        while page is None:
            done = self._let_go()
            if done is not None:
                await done.ack()
            message = self._held = await self._next()
            page = self._page(message)
        self._heartbeat = asyncio.create_task(self._beat(message))
        return page

    def _page(self, message: "Msg") -> FollowerPage | None:
        """Return the page in `message`, None when there is nothing to do about it."""
        delivery = message.metadata.sequence.consumer
        # A number that was skipped went to another reader. A lower one again means that the server was killed before
        # it had written down what it delivered: then what we know is all the better.
        if delivery > self._delivered + 1:
            self._order.forget()
        self._delivered = delivery
        if not message.subject.startswith("followers.page."):
            return None
        page = self._decoded(message)
        if page is None:
            return None
        try:
            if not self._order.admit(message.subject, page):
                return None
        except GapError as gap:
            self._refuse(gap)
        try:
            self._order.check(message.subject, page)
        except AlteredError as error:
            self._refuse(error)
        self._order.took(message.subject, page)
        return page

    def _decoded(self, message: "Msg") -> FollowerPage | None:
        try:
            page = decode(message.data, FollowerPage, content_type(message.headers))
        except ValueError as error:
            why = why_unreadable(error)
        else:
            if message.subject == f"followers.page.{page.provider}.{page.oa_id}.{page.job_id}":
                return page
            why = "it is a page of another job"
        # Outside of the handler: the error's cause would quote people's data.
        self._refuse(UnreadableError(message.subject, message.metadata.sequence.stream, why, self._stream))
        return None

    def _refuse(self, problem: ConsumeError) -> None:
        if self._on_error is not None:
            self._on_error(problem)
        elif self._skip_unreadable and isinstance(problem, UnreadableError):
            _log.warning("left out: %s", problem)
        else:
            raise problem

    async def _next(self) -> "Msg":
        import nats.errors

        while True:
            try:
                message = await self._arrival()
            except (nats.errors.ConnectionClosedError, nats.errors.BadSubscriptionError) as error:
                raise ConsumeError("the NATS connection is closed: open another one, and read again") from error
            except (nats.errors.TimeoutError, TimeoutError):
                continue
            except nats.errors.Error:
                # The server is away, or the consumer is: only its absence is worth giving up for.
                await asyncio.sleep(0.5)
                with contextlib.suppress(nats.errors.Error, TimeoutError):
                    await self._look()
                continue
            if message is not None:
                return message

    async def _arrival(self) -> "Msg | None":
        """Return what comes next, None for a word of the server. One pull at a time: two would bring two pages."""
        import nats.errors

        if time.monotonic() >= self._open_until:
            await self._pull()
        message = await self._arrivals.next_msg(max(0.001, self._open_until - time.monotonic()))
        what = said(message)
        if what is Said.MESSAGE:
            self._open_until = 0.0
            return message
        if message.subject != self._reply or what is Said.ALIVE:
            return None
        self._open_until = 0.0
        if what is not Said.OVER:
            raise nats.errors.Error(f"nats: {what.value}")
        return None

    @property
    def _reply(self) -> str:
        """Where the server says what it has to say of the newest pull."""
        return f"{self._inbox}.{self._pulls}"

    async def _pull(self) -> None:
        self._pulls += 1
        request = {"batch": 1, "expires": int(_FETCH * 1e9)}
        await self._client.publish(self._request, json.dumps(request).encode(), reply=self._reply)
        self._open_until = time.monotonic() + _FETCH + _LOST_AFTER

    async def _look(self) -> Any:
        from nats.js.errors import NotFoundError

        try:
            info = await self._js.consumer_info(self._stream, self._durable)
        except NotFoundError as error:
            raise ConsumerError(
                f"consumer {self._durable} on {self._stream} is missing:"
                f" have it made by `followers setup --consumer {self._durable}`"
            ) from error
        config = info.config
        # With more than one page on its way, a crash would let the later ones come before the earlier; with a
        # max_deliver, a page whose body failed often enough would be lost.
        ordered = config.ack_policy == "explicit" and config.max_ack_pending == 1 and (config.max_deliver or -1) < 0
        if not ordered or config.deliver_subject:
            raise ConsumerError(
                f"consumer {self._durable} on {self._stream} can't keep the order of pages: it must be a pull consumer"
                " with ack_policy explicit, max_ack_pending 1 and max_deliver -1, as `followers setup --consumer"
                f" {self._durable}` makes it"
            )
        return info

    def _let_go(self) -> "Msg | None":
        message, self._held = self._held, None
        if self._heartbeat is not None:
            self._heartbeat.cancel()
            self._heartbeat = None
        return message

    async def _beat(self, message: "Msg") -> None:
        """Keep the page ours while its body works."""
        import nats.errors

        while True:
            await asyncio.sleep(self._ack_wait / 3)
            try:
                await message.in_progress()
            except (nats.errors.Error, OSError):
                continue  # the next one comes well before `ack_wait` ends
            except Exception:
                _log.exception("a heartbeat failed: when the next ones do too, another reader gets the page")
