"""The table of hostile behaviours: what the provider does, what comes of the job, and within which bound.

HOSTILE.md is made of this table and compared with it, so neither can drift.
"""

from dataclasses import replace

from schemas.types import Provider
from tests.integration import hostile_acts as acts
from tests.integration.hostile_outcomes import (
    DOWN,
    IMPATIENT,
    REQUEST_TIMEOUT,
    SLOW,
    UNREADABLE,
    Outcome,
    ProcessRow,
    Row,
    again,
    given_up,
    read,
    refused,
)
from tests.integration.hostile_server import PAGES, Act

EVERY = frozenset(range(1, 2 * PAGES))
"""Of the requests too, of which a list that is read by row numbers takes some more than pages."""
ESMS: tuple[Provider, ...] = ("esms",)
ETELECOM: tuple[Provider, ...] = ("etelecom",)


def cut(key: str, behaviour: str, act: Act) -> Row:
    return Row(key=key, behaviour=behaviour, act=act, passing=again(), lasting=DOWN)


def no_answer(key: str, behaviour: str, act: Act) -> Row:
    return Row(key=key, behaviour=behaviour, act=act, passing=again(), lasting=UNREADABLE)


def slow(key: str, behaviour: str, act: Act) -> Row:
    return Row(key=key, behaviour=behaviour, act=act, passing=again(1, after=REQUEST_TIMEOUT), lasting=SLOW, times=1)


def fatal(key: str, behaviour: str, act: Act, http_status: int | None = None) -> Row:
    return Row(key=key, behaviour=behaviour, act=act, lasting=refused(http_status=http_status))


def harmless(key: str, behaviour: str, act: Act) -> Row:
    return Row(key=key, behaviour=behaviour, act=act, lasting=read(), pages=EVERY)


def down(status: int) -> Row:
    return Row(
        key=f"html-{status}",
        behaviour=f"{status} with an HTML page",
        act=acts.html(status),
        passing=again(),
        lasting=given_up("provider_unavailable", (4, 12), http_status=status),
    )


ROWS = [
    Row(
        key="429-seconds", behaviour="429, `Retry-After: 2`", act=acts.limited("2"), times=1,
        passing=again(1, waits="rate_limited", after=2.0, until=1.9),
        lasting=replace(IMPATIENT, asked=(1, 3), waits="rate_limited"),
    ),
    Row(
        key="429-date", behaviour="429, `Retry-After` as a date 3 s ahead", act=acts.limited("date+3"), times=1,
        # A date has whole seconds.
        passing=again(1, waits="rate_limited", after=1.9, until=1.9),
    ),
    Row(
        key="429-epoch", behaviour="429, `Retry-After` as a time since 1970, 3 s ahead", act=acts.limited("epoch+3"),
        times=1, passing=again(1, waits="rate_limited", after=1.9, until=1.9),
    ),
    Row(
        key="503-epoch-ms", behaviour="503, `Retry-After` as milliseconds since 1970, 2 s ahead",
        act=acts.unavailable("epoch-ms+2"), times=1,
        passing=again(1, waits="provider_unavailable", after=0.9, until=0.9),
    ),
    Row(
        key="503-fraction", behaviour="503, `Retry-After: 1.5`", act=acts.unavailable("1.5"), times=1,
        passing=again(1, waits="provider_unavailable", after=1.5, until=1.4),
    ),
    Row(
        key="503-absurd", behaviour="503, `Retry-After: 31536000`: no longer than `retry_for`",
        act=acts.unavailable("31536000"),
        lasting=given_up("provider_unavailable", (2, 2), http_status=503, waits="provider_unavailable", until=2.9),
    ),
    Row(
        key="429-absurd", behaviour="429, `Retry-After: 999999999999`", act=acts.limited("9" * 12), next_job="other",
        lasting=Outcome(
            end="deadline_exceeded", asked=(1, 1), seconds=10.0, pages=1, not_after=3.0,
            waits="rate_limited", until=86_000.0,
        ),
    ),
    Row(
        key="429-junk", behaviour="429, `Retry-After: soon`", act=acts.limited("soon"),
        passing=again(), lasting=IMPATIENT,
    ),
    Row(key="429-absent", behaviour="429 alone", act=acts.limited(""), passing=again(), lasting=IMPATIENT),
    Row(
        key="own-rate-limit", behaviour="its own word for too many requests (`resource_exhausted`, `160`)",
        act=acts.own_rate_limit, passing=again(), lasting=IMPATIENT,
    ),
    down(500), down(502), down(503),
    Row(
        key="503-seconds", behaviour="503, `Retry-After: 2`", act=acts.unavailable("2"), times=1,
        passing=again(1, waits="provider_unavailable", after=2.0, until=1.9),
    ),
    slow("hang", "hang before the headers", acts.hang),
    slow("drip-headers", "headers that drip, a byte each 50 ms", acts.drip_headers),
    slow("drip-body", "a body that drips, a byte each 50 ms", acts.drip_body),
    Row(key="reset", behaviour="reset before the answer", act=acts.reset, passing=again(), lasting=DOWN),
    Row(key="closed", behaviour="closed before the answer", act=acts.close, passing=again(), lasting=DOWN),
    cut("reset-middle", "reset in the middle of the body", acts.reset_middle),
    cut("cut-by-length", "body cut short of its Content-Length", acts.cut_by_length),
    cut("cut-by-chunk", "body cut in the middle of a chunk", acts.cut_by_chunk),
    cut("cut-by-close", "body without a length, cut by the close", acts.cut_by_close),
    no_answer("html-200", "HTML with 200", acts.html(200)),
    no_answer("html-as-json", "HTML labelled JSON", acts.html_as_json),
    harmless("json-as-text", "JSON labelled text/plain", acts.json_as_text),
    no_answer("empty-body", "empty body", acts.saying(b"")),
    no_answer("null-list", "null instead of the list", acts.null_list),
    no_answer("array", "a top-level array", acts.array),
    no_answer("missing-list", "no list", acts.missing_list),
    no_answer("portal-json", "JSON of somebody else's", acts.saying(b'{"error":{"message":"no healthy upstream"}}')),
    fatal("list-type", "text instead of the list", acts.text_list),
    Row(
        key="error-in-200", behaviour="an error object with 200: `unavailable`", act=acts.error_in_200("unavailable"),
        providers=ETELECOM, passing=again(), lasting=UNREADABLE,
    ),
    Row(
        key="refusal-in-200", behaviour="an error object with 200: `unauthenticated`", providers=ETELECOM,
        act=acts.error_in_200("unauthenticated"), lasting=refused("unauthorized", http_status=200),
    ),
    harmless("gzip", "gzip", acts.gzipped),
    cut("broken-gzip", "broken gzip", acts.broken_gzip),
    cut("long-header", "a header of 100 KB", acts.long_header),
    fatal("deep", "JSON nested 10,000 deep", acts.deep),
    fatal("long-integer", "an integer of 10,000 digits for an id", acts.long_integer),
    harmless("long-integer-elsewhere", "an integer of 10,000 digits in a field that nobody reads", acts.long_extra),
    no_answer("nan", "NaN for an id", acts.nan),
    harmless("duplicate-keys", "the list's key twice: the last one counts", acts.duplicate_keys),
    harmless("bom", "UTF-8 with a byte order mark", acts.bom),
    no_answer("utf-16", "UTF-16", acts.utf_16),
    fatal("invalid-utf-8", "invalid UTF-8 in a name or id", acts.invalid_utf_8),
    Row(
        key="combining", behaviour="a name of 200,000 combining signs", act=acts.combining, providers=ETELECOM,
        lasting=read(),
    ),
    Row(
        key="redirect", behaviour="307 to another host: nothing arrives there", act=acts.redirect, passing=again(),
        lasting=given_up("provider_unavailable", (4, 12), http_status=307),
    ),
    Row(
        key="redirect-loop", behaviour="302 to itself", act=acts.redirect_loop, passing=again(),
        lasting=given_up("provider_unavailable", (4, 12), http_status=302),
    ),
    fatal("redirect-for-good", "308 to another host: nothing arrives there", acts.moved, http_status=308),
    Row(
        key="cursor-loop", behaviour="the next cursor is the one asked for", act=acts.next_is("c1"),
        providers=ETELECOM, lasting=refused(),
    ),
    Row(
        key="cursor-long", behaviour="cursors of 100,000 characters", act=acts.long_cursor(100_000), pages=EVERY,
        providers=ETELECOM, lasting=read(),
    ),
    Row(
        key="cursor-too-long", behaviour="cursors of 600,000 characters: page 2 holds two, more than a message takes",
        act=acts.long_cursor(600_000), pages=EVERY, providers=ETELECOM, lasting=refused(),
    ),
    Row(
        key="cursor-a-b-a", behaviour="cursors A, B, A", act=acts.next_is("c1"), pages=frozenset({3}),
        providers=ETELECOM, lasting=refused(pages=2),
    ),
    Row(
        key="same-page", behaviour="page 1 again in place of page 2, with its cursor", act=acts.first_page_again,
        providers=ETELECOM, lasting=refused(),
    ),
    Row(
        key="same-rows", behaviour="page 1's rows in place of page 2's, with page 2's cursor",
        act=acts.first_rows_again, providers=ETELECOM, lasting=refused(),
    ),
    Row(
        key="new-cursors", behaviour="page 1's rows for ever, with ever new cursors", act=acts.new_cursors,
        pages=frozenset(range(2, 100)), providers=ETELECOM, lasting=refused(),
    ),
    Row(
        key="same-page", behaviour="page 1 again in place of page 2", act=acts.first_page_again, providers=ESMS,
        lasting=read("drifted", followers=11, dropped=2, asked=(1, 10)),
    ),
    Row(
        key="offset-ignored", behaviour="page 1 whatever the offset", act=acts.first_page_again, pages=EVERY,
        providers=ESMS, lasting=read("drifted", pages=2, followers=3, dropped=12, asked=(1, 10)),
    ),
    Row(
        key="offset-ignored-no-total", behaviour="page 1 whatever the offset, without a total: forty requests in vain",
        act=acts.fifty_for_ever, pages=frozenset(range(1, 10_000)), providers=ESMS, page_size=50,
        lasting=read("drifted", pages=1, followers=50, dropped=2107, asked=(1, 60)),
    ),
    Row(
        key="total-shrinks", behaviour="total 12, then 9, with the rows gone", act=acts.total(9),
        pages=EVERY - {1}, providers=ESMS, lasting=read("drifted", pages=3, asked=(1, 10)),
    ),
    Row(
        key="total-too-low", behaviour="total 12, then 4, with the rows still there", act=acts.total(4),
        pages=EVERY - {1}, providers=ESMS, lasting=read("drifted", asked=(1, 10)),
    ),
    Row(
        key="total-grows", behaviour="total 12, then 15, with the rows there", act=acts.growing,
        pages=frozenset(range(2, 20)), providers=ESMS, lasting=read("drifted", pages=5, asked=(1, 10)),
    ),
    Row(
        key="empty-page", behaviour="an empty page in the middle, while the total says that there is more: asked again",
        act=acts.empty_page, providers=ESMS, lasting=read("drifted", pages=4, followers=12, asked=(1, 30)),
    ),
    Row(
        key="empty-page",
        behaviour="an empty page in the middle, with a next cursor: passed over",
        act=acts.empty_page, providers=ETELECOM, lasting=read(pages=3, followers=9),
    ),
    harmless("ids-as-numbers", "ids as numbers beyond 2^53: no digit is lost", acts.ids_as_numbers),
    Row(
        key="expired-key", behaviour="the key is refused from page 2 on", act=acts.expired_key,
        pages=EVERY - {1}, lasting=refused("unauthorized"),
    ),
    Row(
        key="rotated-key", behaviour="the key is refused from page 2 on, with a new one in its file: read again",
        act=acts.rotated_key, times=1, passing=again(1),
    ),
    harmless("keep-alive-dropped", "closed after every answer in spite of its `Connection: keep-alive`", acts.dropped),
]  # fmt: skip


PROCESS_ROWS = [
    ProcessRow(
        key="gzip-bomb", behaviour="gzip of 0.4 MB that inflates to 400 MB, for every page but the first",
        outcome="failed `bad_response`; 1 page", bound="1 request, memory +30 MB",
    ),
    ProcessRow(
        key="300-mb", behaviour="a body of 300 MB, for every page but the first",
        outcome="failed `bad_response`; 1 page",
        bound="1 request, memory +30 MB",
    ),
    ProcessRow(
        key="tiny-values", behaviour="15 MB of `{},{},{}…` for every page but the first; one takes 385–470 MB decoded",
        outcome="failed `bad_response`; 1 page", bound="1 request, memory +60 MB",
    ),
    ProcessRow(
        key="429-for-ever", behaviour="429 for ever: `rate_limited_for` ends it (2 s here, a day by default)",
        outcome="asked again, then failed `rate_limited`; 1 page", bound="15 requests, 25 s",
    ),
    ProcessRow(
        key="429-year",
        behaviour="429, `Retry-After: 31536000`, for ever: it is left alone for `rate_limited_for` (2 s)",
        outcome="`waiting` `rate_limited`, then failed `rate_limited`; 1 page; the next job completes",
        bound="1–2 requests, 25 s",
    ),
    ProcessRow(
        key="tls-silent", behaviour="TLS that never answers",
        outcome="asked again, then failed `provider_unavailable`; 0 pages", bound="5 handshakes, 25 s",
    ),
    ProcessRow(
        key="tls-wrong-name", behaviour="TLS with a certificate of a trusted authority for another name",
        outcome="asked again, then failed `provider_unavailable`; 0 pages, no request gets through",
        bound="15 handshakes, 25 s",
    ),
    ProcessRow(
        key="tls-unknown", behaviour="TLS with a certificate of an unknown authority",
        outcome="asked again, then failed `provider_unavailable`; 0 pages, no request gets through",
        bound="15 handshakes, 25 s",
    ),
]  # fmt: skip
