"""What a provider, or a proxy before it, may do to one request, and what comes of it."""

import asyncio
import gzip
import json
import time
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest
import structlog
from aiohttp import web

from schemas import EtelecomFilter
from tests.contract.providers_kit import (
    KEYS,
    VARIANTS,
    Case,
    account,
    answering,
    client_of,
    command,
    ids,
    running,
    saying,
)
from worker.core.errors import (
    BadResponseError,
    FetchFailure,
    ForbiddenError,
    InternalError,
    InvalidCommandError,
    NotFoundError,
    ProviderUnavailableError,
    RateLimitedError,
    UnauthorizedError,
    UnsupportedError,
)
from worker.providers import open_client
from worker.providers.http.client import LONGEST_WAIT, failure_of, retry_after
from worker.providers.simulators import API_KEY, OA_ID, PARTNER_KEY, SECRET_KEY, SHOP_KEY, Fault

BOTH = pytest.mark.parametrize("variant", ["shop", "GetFollowers"])
HTML = b"<!DOCTYPE html><html><body>gateway</body></html>"
PHONE = "0912000111"


@pytest.fixture(params=VARIANTS)
async def case(request: pytest.FixtureRequest) -> AsyncIterator[Case]:
    async with running(request.param, followers={OA_ID: 120}) as case:
        yield case


def good(variant: str, user_id: str = "7800378501923859642", **row: object) -> bytes:
    """An answer with one follower."""
    if variant in KEYS:
        listed: dict[str, object] = {
            "followers": [{"zl_user_id": user_id, **row}],
            "paging": {"next": "abc"},
        }
    else:
        listed = {"CodeResult": "100", "Followers": [{"User_Id": user_id, **row}], "Total": 1}
    return json.dumps(listed).encode()


async def outcome(variant: str, body: bytes, status: int = 200, **headers: str) -> FetchFailure:
    """The error that an answer ends in."""
    async with client_of(variant, saying(body, status, **headers)) as client:
        with pytest.raises(FetchFailure) as caught:
            await client.fetch(command(variant), None)
    return caught.value


# Faults of the simulators, against every variant.


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Fault(kind="status", status=500), ProviderUnavailableError),
        (Fault(kind="status", status=502), ProviderUnavailableError),
        (Fault(kind="status", status=503), ProviderUnavailableError),
        (Fault(kind="status", status=504, body="empty"), ProviderUnavailableError),
        (Fault(kind="status", status=500, body="json"), ProviderUnavailableError),
        (Fault(kind="status", status=429, body="json"), RateLimitedError),
        (Fault(kind="html"), ProviderUnavailableError),
        (Fault(kind="empty"), ProviderUnavailableError),
        (Fault(kind="bad_json"), ProviderUnavailableError),
        (Fault(kind="broken_gzip"), ProviderUnavailableError),
        (Fault(kind="truncated"), ProviderUnavailableError),
        (Fault(kind="reset"), ProviderUnavailableError),
        (Fault(kind="missing_list"), ProviderUnavailableError),
        (Fault(kind="null_list"), ProviderUnavailableError),
    ],
    ids=lambda value: f"{value.kind}-{value.status}" if isinstance(value, Fault) else value.__name__,
)
async def test_a_fault_ends_in_its_error_and_the_next_try_works(
    case: Case, fault: Fault, expected: type[FetchFailure]
) -> None:
    await case.client.fetch(case.command(), None)  # the fallback of `auto` has happened
    case.simulator.inject(fault)

    with pytest.raises(expected) as caught:
        await case.client.fetch(case.command(), None)

    assert type(caught.value) is expected
    assert caught.value.requests == 1
    again = await case.client.fetch(case.command(), None)
    assert ids([again]) == case.simulator.ids(OA_ID)[: len(again.followers)]


async def test_a_reset_in_the_middle_of_the_body_can_be_retried(case: Case) -> None:
    await case.client.fetch(case.command(), None)
    case.simulator.inject(Fault(kind="reset_middle"))

    with pytest.raises(ProviderUnavailableError):
        await case.client.fetch(case.command(), None)


@pytest.mark.parametrize("kind", ["gzip", "content_type", "drip", "latency"])
async def test_odd_but_right_answers_are_read(case: Case, kind: str) -> None:
    case.simulator.inject(Fault(kind=kind, seconds=0.1))  # type: ignore[arg-type]

    page = await case.client.fetch(case.command(), None)

    assert ids([page]) == case.simulator.ids(OA_ID)[: len(page.followers)]


@pytest.mark.parametrize("kind", ["hang", "drip"])
async def test_the_whole_request_has_one_deadline(case: Case, kind: str) -> None:
    client = case.reopen(request_timeout=0.3)
    await client.fetch(case.command(), None)
    # A piece each 0.1 s would satisfy any timeout per read.
    case.simulator.inject(Fault(kind=kind, seconds=30, chunks=300))  # type: ignore[arg-type]

    with pytest.raises(ProviderUnavailableError, match=r"within 0\.3 s"):
        await client.fetch(case.command(), None)

    page = await client.fetch(case.command(), None)
    assert ids([page]) == case.simulator.ids(OA_ID)[: len(page.followers)]


async def test_cancelling_a_fetch_leaves_the_client_usable(case: Case) -> None:
    await case.client.fetch(case.command(), None)
    case.simulator.inject(Fault(kind="hang", times=20))
    tasks = [asyncio.create_task(case.client.fetch(case.command(), None)) for _ in range(20)]
    while case.simulator.journal.counters["in_flight"] < 20:
        await asyncio.sleep(0)

    for task in tasks:
        task.cancel()
    ended = await asyncio.gather(*tasks, return_exceptions=True)

    assert all(isinstance(end, asyncio.CancelledError) for end in ended)
    assert (await case.client.fetch(case.command(), None)).followers


@pytest.mark.parametrize("variant", ["shop", "GetFollowers"])
async def test_the_providers_own_rate_limit_is_known(variant: str) -> None:
    async with running(variant) as case:
        code = "resource_exhausted" if variant == "shop" else "160"
        case.simulator.inject(Fault(kind="error", code=code, retry_after="7"))

        with pytest.raises(RateLimitedError) as caught:
            await case.client.fetch(case.command(), None)

    assert (caught.value.provider_code, caught.value.retry_after) == (code, 7.0)


# Answers byte by byte.


@BOTH
@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("3", 3.0),
        (" 120 ", 120.0),
        ("0", 0.0),
        ("-5", 0.0),
        ("1.5", 1.5),
        ("0.5", 0.5),
        (".25", 0.25),
        ("7.", 7.0),
        ("31536000", 31_536_000.0),
        (f"{LONGEST_WAIT:.0f}", LONGEST_WAIT),
        ("9" * 400, LONGEST_WAIT),
        ("1e3", None),
        ("5, 10", None),
        ("inf", None),
        ("2026-11-30T00:01:00Z", None),
        ("soon", None),
        ("", None),
        ("٣", None),
        ("Thu, 32 Nov 2026 99:00:00 GMT", None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
    ],
)
async def test_retry_after_is_read_where_it_makes_sense(variant: str, value: str, seconds: float | None) -> None:
    for status, kind in ((429, RateLimitedError), (503, ProviderUnavailableError)):
        error = await outcome(variant, HTML, status, Retry_After=value)

        assert type(error) is kind
        assert error.retry_after == seconds


@BOTH
async def test_a_retry_after_date_counts_from_the_servers_own_clock(variant: str) -> None:
    theirs = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)
    until = format_datetime(theirs + timedelta(seconds=90), usegmt=True)

    error = await outcome(variant, HTML, 429, Retry_After=until, Date=format_datetime(theirs, usegmt=True))

    assert isinstance(error, RateLimitedError)
    assert error.retry_after == 90


@BOTH
@pytest.mark.parametrize(("unit", "text"), [(1, "{:.0f}"), (1, "{:.2f}"), (1000, "{:.0f}")], ids=["s", "s.00", "ms"])
@pytest.mark.parametrize("ahead", [90, -90, 300 * 86_400, 0])
async def test_a_retry_after_that_is_a_time_since_1970_is_taken_for_one(
    variant: str, unit: int, text: str, ahead: int
) -> None:
    theirs = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)
    value = text.format((theirs.timestamp() + ahead) * unit)

    error = await outcome(variant, HTML, 503, Retry_After=value, Date=format_datetime(theirs, usegmt=True))

    assert isinstance(error, ProviderUnavailableError)
    assert error.retry_after == max(ahead, 0)


def test_a_number_is_a_time_only_within_a_year_of_now_and_beyond_what_anybody_asks_for() -> None:
    now = datetime(2026, 11, 30, tzinfo=UTC)

    def read(number: float) -> float | None:
        return retry_after(f"{number:f}", "", lambda: now)

    assert read(now.timestamp() + LONGEST_WAIT) == LONGEST_WAIT
    assert read(now.timestamp() + LONGEST_WAIT + 1) == LONGEST_WAIT  # a wait again, and bounded as each is
    assert read(now.timestamp() - LONGEST_WAIT) == 0.0
    assert read(now.timestamp() - LONGEST_WAIT - 1) == LONGEST_WAIT
    assert read((now.timestamp() + 30) * 1000) == pytest.approx(30)
    # A clock that was never set is near 1970, where every wait is near now.
    assert retry_after("30", "Thu, 01 Jan 1970 00:10:00 GMT", lambda: now) == 30.0


@pytest.mark.parametrize("zone", ["Asia/Ho_Chi_Minh", "America/New_York"])
def test_a_retry_after_date_without_a_zone_is_gmt_wherever_the_worker_is(
    zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = datetime(2026, 11, 30, 12, 0, 0, tzinfo=UTC)
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        found = [
            retry_after(value, date, lambda: now)
            for value in ("Mon, 30 Nov 2026 12:01:30 GMT", "Mon, 30 Nov 2026 12:01:30", "30 Nov 2026 12:01:30 -0000")
            for date in ("", "Mon, 30 Nov 2026 12:00:00", "Mon, 30 Nov 2026 19:00:00 +0700")
        ]
    finally:
        monkeypatch.undo()
        time.tzset()

    assert found == [90.0] * 9


@BOTH
@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (204, ProviderUnavailableError),
        (206, ProviderUnavailableError),
        (300, BadResponseError),
        (301, BadResponseError),
        (302, ProviderUnavailableError),
        (303, ProviderUnavailableError),
        (307, ProviderUnavailableError),
        (308, BadResponseError),
        (400, BadResponseError),
        (401, UnauthorizedError),
        (403, ForbiddenError),
        (404, NotFoundError),
        (405, NotFoundError),
        (407, ForbiddenError),
        (408, ProviderUnavailableError),
        (410, NotFoundError),
        (418, BadResponseError),
        (429, RateLimitedError),
        (500, ProviderUnavailableError),
        (501, NotFoundError),
        (511, ProviderUnavailableError),
        (502, ProviderUnavailableError),
        (503, ProviderUnavailableError),
        (599, ProviderUnavailableError),
    ],
)
async def test_a_status_without_the_apis_own_words_is_judged_by_itself(
    variant: str, status: int, expected: type[FetchFailure]
) -> None:
    error = await outcome(variant, b"" if status == 204 else HTML, status)

    assert isinstance(error, expected)
    assert error.http_status == status


@BOTH
@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", ProviderUnavailableError),
        (b" \r\n", ProviderUnavailableError),
        (HTML, ProviderUnavailableError),
        (b'{"followers":[NaN]}', ProviderUnavailableError),
        ('{"followers":[]}'.encode("utf-16"), ProviderUnavailableError),
        (b'{"CodeResult":"100","followers":[{"zl_user_id":"\xff\xfe"}]}', BadResponseError),
        (b'{"CodeResult":"100","followers":[{"zl_user_id":"\xff\xfe"', ProviderUnavailableError),
        (b'{"followers":[],"paging":{}} trailing', ProviderUnavailableError),
        (b"[]", ProviderUnavailableError),
        (b"null", ProviderUnavailableError),
        (b'"text"', ProviderUnavailableError),
        (b"{}", ProviderUnavailableError),
        (b'{"CodeResult":"100","followers":"none"}', BadResponseError),
        (b'{"x":' * 100_000 + b"1" + b"}" * 100_000, BadResponseError),
        (b'{"followers":' + b"[" * 100_000 + b"]" * 100_000 + b"}", BadResponseError),
    ],
    ids=[
        "empty", "blank", "html", "nan", "utf-16", "utf-8", "utf-8-cut", "trailing", "array", "null", "text", "object",
        "list-type", "deep-object", "deep-array",
    ],
)  # fmt: skip
async def test_a_200_that_is_not_a_list_is_never_an_empty_list(
    variant: str, body: bytes, expected: type[FetchFailure]
) -> None:
    assert type(await outcome(variant, body)) is expected


@BOTH
@pytest.mark.parametrize(
    ("body", "quote"),
    [
        (b"<html><title>Sign in to\n Free&nbsp;WiFi &amp; go</title><p>x</p></html>", "Sign in to Free WiFi & go"),
        (b"<html><script>var a = 1;</script><h1>Back <b>soon</b></h1><!-- build 7 --></html>", "Back soon"),
        (b"upstream is away", "upstream is away"),
        (b'{"error":{"message":"maintenance until noon"}}', "maintenance until noon"),
        (b'{"Message":"no healthy upstream"}', "no healthy upstream"),
        (b"<title>call +84 912 000 111 or 0912\x1b000111, then KEY</title>", "call *** or ***, then ***"),
        (b"<title>\x1bin\x07 \x00red\xe2\x80\xae\r\nnow</title>", "in red now"),
    ],
    ids=["title", "text", "plain", "error", "message", "phones", "control"],
)  # fmt: skip
async def test_what_is_no_answer_of_the_api_is_told_in_its_own_words(variant: str, body: bytes, quote: str) -> None:
    body = body.replace(b"KEY", (SHOP_KEY.split(":")[1] if variant == "shop" else SECRET_KEY).encode())

    error = await outcome(variant, body, Content_Type="text/html", Retry_After="17")

    assert type(error) is ProviderUnavailableError
    assert (error.http_status, error.retry_after) == (200, 17.0)
    assert f"(“{quote}”)" in str(error)
    assert str(error).isprintable()
    assert "so it counts as away and is tried again later" in str(error)


@BOTH
@pytest.mark.parametrize("status", [203, 302, 303, 307, 503])
async def test_whatever_counts_as_away_is_asked_again_when_it_says(variant: str, status: int) -> None:
    error = await outcome(variant, HTML, status, Retry_After="17")

    assert type(error) is ProviderUnavailableError
    assert (error.http_status, error.retry_after) == (status, 17.0)
    assert "an HTML page" in str(error) or "redirect" in str(error)
    assert "(“gateway”)" in str(error)


@BOTH
@pytest.mark.parametrize("cut", [0, 1, 30, 200])
async def test_of_json_that_was_cut_nothing_is_repeated(variant: str, cut: int) -> None:
    whole = good(variant, full_name="Trần Thị Mẫu", phone=PHONE) + b" " * 300
    whole = whole.rstrip() if cut else b"[" + whole

    error = await outcome(variant, whole[: len(whole) - max(cut, 1)])

    assert type(error) is ProviderUnavailableError
    assert "“" not in str(error)


@BOTH
async def test_a_long_page_is_told_in_few_words(variant: str) -> None:
    error = await outcome(variant, b"<p>" + b"come back later " * 100_000, 502)

    assert type(error) is ProviderUnavailableError
    assert "come back later come back" in str(error)
    assert len(str(error)) < 500


@pytest.mark.parametrize(
    ("code", "expected", "asks"),
    [
        ("unavailable", ProviderUnavailableError, 9.0),
        ("internal", ProviderUnavailableError, 9.0),
        ("resource_exhausted", RateLimitedError, 9.0),
        ("unauthenticated", UnauthorizedError, None),
        ("permission_denied", ForbiddenError, None),
        ("invalid_argument", InvalidCommandError, None),
        ("not_found", NotFoundError, None),
        ("unimplemented", UnsupportedError, None),
    ],
)
@pytest.mark.parametrize("rest", [{}, {"followers": []}, {"followers": None, "paging": {"next": ""}}])
async def test_an_error_object_of_etelecom_in_a_200_is_what_it_says(
    code: str, expected: type[FetchFailure], asks: float | None, rest: dict[str, object]
) -> None:
    body = json.dumps({"code": code, "msg": f"as eTelecom puts it {PHONE}", **rest}).encode()

    error = await outcome("shop", body, Retry_After="9")

    assert type(error) is expected
    assert (error.provider_code, error.http_status, getattr(error, "retry_after", None)) == (code, 200, asks)
    assert "“as eTelecom puts it ***”" in str(error)


async def test_the_precise_code_of_an_error_object_in_a_200_wins_too() -> None:
    body = b'{"code":"new_word","msg":"closed","meta":{"xcode":"account_closed"}}'

    error = await outcome("shop", body)

    assert type(error) is ForbiddenError
    assert error.provider_code == "account_closed"


@BOTH
async def test_a_ten_thousand_digit_number_does_no_harm(variant: str) -> None:
    number = b"9" * 10_000
    as_id = good(variant).replace(b'"7800378501923859642"', number)

    assert isinstance(await outcome(variant, as_id), BadResponseError)

    async with client_of(variant, saying(good(variant)[:-1] + b',"other":' + number + b"}")) as client:
        assert ids([await client.fetch(command(variant), None)]) == ["7800378501923859642"]


@BOTH
async def test_a_byte_order_mark_is_skipped(variant: str) -> None:
    async with client_of(variant, saying(b"\xef\xbb\xbf" + good(variant))) as client:
        assert ids([await client.fetch(command(variant), None)]) == ["7800378501923859642"]


@BOTH
@pytest.mark.parametrize("user_id", ["", "0", None])
async def test_a_follower_without_an_id_stops_the_job(variant: str, user_id: str) -> None:
    error = await outcome(variant, good(variant, user_id))

    assert type(error) is BadResponseError
    assert "id" in str(error)


@BOTH
async def test_bare_ids_keep_all_their_digits(variant: str) -> None:
    async with client_of(variant, saying(good(variant, 961919545811768483))) as client:  # type: ignore[arg-type]
        assert ids([await client.fetch(command(variant), None)]) == ["961919545811768483"]


@BOTH
async def test_an_id_that_came_as_a_float_is_refused(variant: str) -> None:
    error = await outcome(variant, good(variant).replace(b'"7800378501923859642"', b"7.8003785019238596e18"))

    assert type(error) is BadResponseError


# Size and compression.


@BOTH
async def test_a_large_body_is_refused_before_it_is_held(variant: str) -> None:
    async with client_of(variant, saying(b" " * 3_000_000), max_response_bytes=1_000_000) as client:
        with pytest.raises(BadResponseError, match="larger than 1000000 bytes"):
            await client.fetch(command(variant), None)


@BOTH
async def test_a_gzip_bomb_does_not_swell(variant: str) -> None:
    bomb = gzip.compress(bytes(100_000_000), 1)
    async with client_of(variant, saying(bomb, Content_Encoding="gzip"), max_response_bytes=1_000_000) as client:
        await asyncio.sleep(0)
        tracemalloc.start()
        try:
            with pytest.raises(BadResponseError, match="larger than"):
                await client.fetch(command(variant), None)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak < 8_000_000


@BOTH
@pytest.mark.parametrize("encoding", ["gzip", "X-GZIP"])
async def test_gzip_of_several_members_is_read(variant: str, encoding: str) -> None:
    body = good(variant)
    packed = gzip.compress(body[:20]) + gzip.compress(body[20:])

    async with client_of(variant, saying(packed, Content_Encoding=encoding)) as client:
        assert ids([await client.fetch(command(variant), None)]) == ["7800378501923859642"]


@BOTH
@pytest.mark.parametrize(
    ("packed", "encoding"),
    [
        (gzip.compress(b"{}" * 500, mtime=0)[:-9], "gzip"),
        (b"\x1f\x8b nonsense", "gzip"),
        (b"{}", "gzip"),
        (b"anything", "br"),
        (b"anything", "gzip, gzip"),
    ],
    ids=["cut", "damaged", "plain", "brotli", "twice"],
)
async def test_encodings_that_cannot_be_read_count_as_away(variant: str, packed: bytes, encoding: str) -> None:
    assert type(await outcome(variant, packed, Content_Encoding=encoding)) is ProviderUnavailableError


@BOTH
@pytest.mark.parametrize(
    ("body", "encoding"), [(b"\x1f\x8b nonsense", "gzip"), (b"x", "br"), (b"x" * 2000, "identity")]
)
async def test_an_error_page_that_cannot_be_read_does_not_hide_the_wait(
    variant: str, body: bytes, encoding: str
) -> None:
    handler = saying(body, 429, Content_Encoding=encoding, Retry_After="9")
    async with client_of(variant, handler, max_response_bytes=1000) as client:
        with pytest.raises(RateLimitedError) as caught:
            await client.fetch(command(variant), None)

    assert caught.value.retry_after == 9


# Where a key may go.


@BOTH
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_refused_and_the_key_stays(variant: str, status: int) -> None:
    strangers: list[str] = []

    async def stranger(request: web.BaseRequest) -> web.StreamResponse:
        strangers.append(await request.text())
        return web.Response()

    async with answering(stranger) as elsewhere:
        error = await outcome(variant, b"", status, Location=f"{elsewhere}/x")

    assert type(error) is (BadResponseError if status in (301, 308) else ProviderUnavailableError)
    assert "redirect, refused so that no key travels" in str(error)
    assert strangers == []


@BOTH
async def test_a_proxy_of_the_environment_gets_nothing(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def stranger(request: web.BaseRequest) -> web.StreamResponse:
        raise AssertionError("the proxy was asked")

    async with answering(stranger) as proxy:
        monkeypatch.setenv("http_proxy", proxy)
        monkeypatch.setenv("ALL_PROXY", proxy)
        async with running(variant) as case:
            assert (await case.client.fetch(case.command(), None)).followers


@BOTH
async def test_nobody_listening_is_an_outage(variant: str) -> None:
    async with answering(saying(b"")) as url:
        pass
    client = open_client(account(variant, url), request_timeout=5, max_response_bytes=1 << 20)

    with pytest.raises(ProviderUnavailableError, match="can't be reached"):
        await client.fetch(command(variant), None)

    await client.close()


@BOTH
async def test_a_server_that_speaks_no_tls_is_an_outage(variant: str) -> None:
    async with answering(saying(b"")) as url:
        secure = account(variant, url.replace("http:", "https:"))
        client = open_client(secure, request_timeout=5, max_response_bytes=1 << 20)
        with pytest.raises(ProviderUnavailableError):
            await client.fetch(command(variant), None)
        await client.close()


@asynccontextmanager
async def speaking(reply: bytes) -> AsyncIterator[str]:
    """A server below HTTP: it reads something, says `reply` and hangs up."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65_536)
        writer.write(reply)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@BOTH
@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n{",
    ],
    ids=["nothing", "ssh", "status", "length", "chunk-size", "chunk-cut", "header", "close-delimited"],
)
async def test_broken_http_can_be_retried_and_is_nobody_elses_exception(variant: str, reply: bytes) -> None:
    async with speaking(reply) as url:
        client = open_client(account(variant, url), request_timeout=5, max_response_bytes=1 << 20)
        with pytest.raises(ProviderUnavailableError) as caught:
            await client.fetch(command(variant), None)
        await client.close()

    assert caught.value.__cause__ is not None


def subclasses(kind: type[Exception]) -> list[type[Exception]]:
    found = [kind]
    for each in kind.__subclasses__():
        found += subclasses(each)
    return found


@pytest.mark.parametrize("kind", subclasses(httpx.TransportError), ids=lambda kind: kind.__name__)
def test_every_transport_error_of_httpx_has_a_place(kind: type[Exception]) -> None:
    failure = failure_of(kind("https://host/?secret=1"), "host")

    permanent = issubclass(kind, httpx.UnsupportedProtocol | httpx.LocalProtocolError)
    assert isinstance(failure, InternalError) is permanent
    assert failure.retryable is not permanent
    assert "secret" not in str(failure)
    assert kind.__name__ in str(failure)


def test_what_nobody_foresaw_is_internal_and_not_retried() -> None:
    assert type(failure_of(ValueError("boom"), "host")) is InternalError


# What errors and logs may say.


@BOTH
async def test_a_provider_that_repeats_keys_and_people_is_not_repeated(
    variant: str, caplog: pytest.LogCaptureFixture
) -> None:
    talkative = (
        f"no {SHOP_KEY} {API_KEY} {SECRET_KEY.lower()} {PHONE} +84 912 000 111 Trần Thị Mẫu\n\x1b[31m" + "x" * 900
    )
    said = {"code": "invalid_argument", "msg": talkative, "CodeResult": "161", "ErrorMessage": talkative}
    wanted = command(variant)
    if variant == "shop":
        wanted = command(variant, filter=EtelecomFilter(name="Trần Thị Mẫu", phone=PHONE))

    with structlog.testing.capture_logs() as logs:
        async with client_of(variant, saying(json.dumps(said).encode(), 400)) as client:
            with pytest.raises(FetchFailure) as caught:
                await client.fetch(wanted, None)

    seen = f"{caught.value} {caught.value!r} {logs} {caplog.text}"
    secrets = [SHOP_KEY.split(":")[1], PHONE, "912 000"] if variant == "shop" else [API_KEY, SECRET_KEY.lower(), PHONE]
    assert not [canary for canary in (*secrets, "\n", "\x1b") if canary in str(caught.value)]
    assert not [canary for canary in secrets if canary in seen]
    assert ("Trần" in seen) is (variant != "shop")
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("part", [slice(20), slice(-20, None), slice(6, 26), slice(8), slice(-8, None)])
@BOTH
async def test_a_part_of_a_key_that_a_provider_repeats_is_not_repeated(variant: str, part: slice) -> None:
    keys = [SHOP_KEY.split(":")[1]] if variant == "shop" else [API_KEY, SECRET_KEY]
    parts = [key[part] for key in keys]
    text = f"the key beginning with {' or '.join(parts)}... is wrong"
    said = {"code": "unauthenticated", "msg": text, "CodeResult": "101", "ErrorMessage": text}
    bodies = [(json.dumps(said).encode(), 400), (f"<title>{text}</title>".encode(), 403), (text.encode(), 503)]
    errors = []

    for body, status in bodies:
        async with client_of(variant, saying(body, status)) as client:
            with pytest.raises(FetchFailure) as caught:
                await client.fetch(command(variant), None)
        errors.append(str(caught.value))

    assert all(len(canary) >= 8 for canary in parts)
    assert not [canary for canary in parts for error in errors if canary[:8] in error or canary[-8:] in error]
    assert all("the key beginning with ***" in error for error in errors)


async def test_no_error_of_any_fault_holds_a_key(case: Case, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    kinds = (
        "html",
        "empty",
        "bad_json",
        "broken_gzip",
        "truncated",
        "reset",
        "missing_list",
        "null_list",
        "status",
    )
    await case.client.fetch(case.command(), None)
    case.simulator.inject(*(Fault(kind=kind) for kind in kinds))  # type: ignore[arg-type]
    said = []

    with structlog.testing.capture_logs() as logs:
        for _ in kinds:
            try:
                await case.client.fetch(case.command(), None)
            except FetchFailure as error:
                said.append(f"{error} {error.__cause__!r}")

    everything = " ".join([*said, repr(logs), caplog.text])
    assert len(said) == len(kinds)
    for key in (SHOP_KEY, PARTNER_KEY, API_KEY, SECRET_KEY):
        assert key not in everything
        assert key.split(":")[-1] not in everything


@pytest.mark.parametrize("key", ["two words", "line\nbreak", "dấu", " "])
async def test_a_key_that_fits_no_header_is_not_sent(key: str) -> None:
    async with running("shop") as case:
        with pytest.raises(UnauthorizedError, match=r"accounts\.mine\.api_key") as caught:
            await case.reopen(key=key).fetch(case.command(), None)

        assert case.simulator.requests == []
    assert caught.value.requests == 0
    assert key == " " or key not in str(caught.value)


async def test_unimplemented_is_unsupported() -> None:
    error = await outcome("shop", b'{"code":"unimplemented","msg":"later"}', 501)

    assert type(error) is UnsupportedError
