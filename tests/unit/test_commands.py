from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import FetchEsmsFollowers, FetchEtelecomFollowers
from schemas.commands import MAX_COMMAND_BYTES
from worker.core.errors import InvalidCommandError, UnsupportedError
from worker.core.job import Address
from worker.core.jobs.parse import RejectedError, _plain, read_job, retry_of


@dataclass
class Command:
    """A delivery of which only the content matters."""

    data: bytes
    subject: str = "followers.fetch.etelecom"
    headers: Mapping[str, str] = field(default_factory=dict)
    sequence: int = 7
    timestamp_us: int = 1_700_000_000_000_001
    deliveries: int = 1

    async def ack(self) -> None:
        raise AssertionError("reading must not settle")

    async def nak(self, delay: float) -> None:
        raise AssertionError("reading must not settle")

    async def in_progress(self) -> None:
        raise AssertionError("reading must not settle")


def _json(**fields: object) -> bytes:
    return msgspec.json.encode({"provider": "etelecom", "oa_id": "579745863508352884"} | fields)


def _esms(**fields: object) -> Command:
    return Command(_json(provider="esms", **fields), subject="followers.fetch.esms")


def _rejection(command: Command) -> RejectedError:
    with pytest.raises(RejectedError) as caught:
        read_job(command)
    return caught.value


def test_a_command_is_read_with_its_address():
    job = read_job(Command(_json(id="j1", account="shop", labels={"a": "b"}), headers={"traceparent": "00-ab"}))

    assert isinstance(job.command, FetchEtelecomFollowers)
    assert job.address == Address(
        provider="etelecom", oa_id="579745863508352884", job_id="j1", account="shop", labels={"a": "b"}
    )
    assert (job.sequence, job.traceparent) == (7, "00-ab")


@pytest.mark.parametrize("given", ["", "x" * 500_000, "00-ab\r\nNats-Msg-Id: 1", "00-é"])
def test_what_is_no_trace_context_is_not_passed_on(given):
    assert read_job(Command(_json(), headers={"Traceparent": given})).traceparent is None


def test_messagepack_is_read_by_its_content_type():
    body = msgspec.msgpack.encode({"provider": "esms", "oa_id": "1", "page_size": 10})

    job = read_job(Command(body, "followers.fetch.esms", {"Content-Type": "application/msgpack"}))

    assert job.command == FetchEsmsFollowers(oa_id="1", page_size=10)


def test_the_job_id_is_the_commands_then_the_message_ids_then_derived_from_the_stream():
    named = {"Nats-Msg-Id": "m-1"}

    assert read_job(Command(_json(id="j1"), headers=named)).address.job_id == "j1"
    assert read_job(Command(_json(), headers=named)).address.job_id == "m-1"
    assert read_job(Command(_json())).address.job_id == "t1700000000000001-7"


def test_a_message_id_that_fits_no_subject_still_gives_the_same_job_each_time():
    first, again, other = (
        read_job(Command(_json(), headers={"Nats-Msg-Id": text})).address.job_id for text in ("a.b c", "a.b c", "a.b d")
    )

    assert first == again != other
    assert first.isalnum()


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "the command is empty"),
        (b"{", "can't be decoded"),
        (b"\xff\xfe", "can't be decoded"),
        (b'{"labels":' * 6_000, "can't be decoded"),
        (b"[]", "Expected `object`, got `array`"),
        (b"7", "Expected `object`, got `int`"),
        (_json(provider="zalo"), '`provider` must be "etelecom" or "esms"'),
        (b'{"oa_id":"1"}', '`provider` must be "etelecom" or "esms"'),
        (_json(provider="esms"), "publish it on followers.fetch.esms"),
        (_json(fliter={}), "unknown field `fliter`"),
        (_json(filter={"nmae": "x"}), "unknown field `filter.nmae`"),
        (_json(oa_id="a b"), "$.oa_id"),
        (_json(oa_id="1\n"), "$.oa_id"),
        (_json(oa_id=1), "$.oa_id"),
        (_json(page_size=101), "$.page_size"),
        (_json(page_size=0), "$.page_size"),
        (_json(page_size="7"), "$.page_size"),
        (_json(labels={str(n): "" for n in range(17)}), "$.labels"),
        (_json(not_after="2026-01-01T00:00:00"), "$.not_after"),
        (_json(filter={"date_from": "yesterday"}), "$.filter.date_from"),
        (_json(max_pages=0), "$.max_pages"),
        (b"x" * (MAX_COMMAND_BYTES + 1), "more than the 65536 allowed"),
    ],
)
def test_a_wrong_command_is_refused_with_what_to_change(body, says):
    rejection = _rejection(Command(body))

    assert isinstance(rejection.error, InvalidCommandError)
    assert says in rejection.error.message


def test_a_command_of_just_the_bytes_allowed_is_read():
    assert read_job(Command(_json().ljust(65_536))).command == FetchEtelecomFollowers(oa_id="579745863508352884")


WIDE = {
    "filter": {"tags": ["ệ" * 256] * 100},
    "labels": {f"l{number}": "x" * 256 for number in range(16)},
    "Mai": "x" * 100,
}


@pytest.mark.parametrize(
    ("body", "shares"),
    [
        (msgspec.json.encode(WIDE), True),
        (msgspec.json.encode(WIDE) + b"}", False),
        (msgspec.json.encode(WIDE | {"Mai": "x" * 2**20}), False),
    ],
    ids=["known fields", "no JSON", "too large to be looked into"],
)
def test_a_command_that_is_too_large_is_refused_with_its_largest_fields(body: bytes, shares: bool):
    largest = ", ".join(f"`{name}` {len(msgspec.json.encode(WIDE[name])):,}" for name in ("filter", "labels"))
    says = f"has {len(body)} bytes{f' ({largest})' if shares else ''}, more than the 65536 allowed"

    message = _rejection(Command(body)).error.message

    assert says in message
    assert "labels, filter and all else together" in message
    assert "Mai" not in message


def test_a_command_that_is_too_large_and_no_json_either_is_refused():
    body = msgspec.msgpack.encode({"labels": {1: b"x" * MAX_COMMAND_BYTES}, "filter": msgspec.msgpack.Ext(1, b"")})

    rejection = _rejection(Command(body, headers={"content-type": "application/msgpack"}))

    assert "more than the 65536 allowed" in rejection.error.message


def test_what_a_filter_and_labels_may_be_in_latin_letters_is_within_the_bound():
    wide = {
        "filter": {
            "zl_user_ids": ["1" * 19] * 1000, "tags": ["x" * 256] * 100, "name": "x" * 256, "phone": "1" * 32,
            "assigned_user_id": "1" * 19, "zl_user_id": "1" * 19, "gender": "unknown", "state": "unfollow",
            "date_from": "2026-01-31T00:00:00.123456789+07:00", "date_to": "2026-01-31T00:00:00.123456789+07:00",
        },
        "labels": {f"{number:064}": "x" * 256 for number in range(16)},
    }  # fmt: skip

    job = read_job(Command(_json(**wide)))

    assert len(job.address.labels) == 16


@pytest.mark.parametrize("content_type", ["text/plain", "text/plain; charset=utf-8", "application/octet-stream"])
def test_whatever_is_not_said_to_be_messagepack_is_read_as_json(content_type: str):
    job = read_job(Command(_json(), headers={"content-type": content_type}))

    assert job.address.oa_id == "579745863508352884"


def test_what_is_no_json_and_not_said_to_be_messagepack_says_how_to_say_so():
    rejection = _rejection(Command(b"\x81\xa1", headers={"content-type": "application/xml"}))

    assert "MessagePack with Content-Type application/msgpack" in rejection.error.message


def test_an_envelope_is_refused_by_name():
    rejection = _rejection(Command(_json(), headers={"content-type": "application/cloudevents+json"}))

    assert "application/cloudevents+json" in rejection.error.message


def test_what_only_the_other_provider_can_do_is_unsupported_and_named():
    of_esms = _rejection(_esms(filter={"name": "x"}))
    sort = _rejection(_esms(sort="-created_at"))
    of_etelecom = _rejection(Command(_json(filter={"tag": "vip"})))

    assert all(isinstance(rejection.error, UnsupportedError) for rejection in (of_esms, sort, of_etelecom))
    assert [rejection.error.message for rejection in (of_esms, sort, of_etelecom)] == [
        "eSMS can't do `filter.name`: leave it out",
        "eSMS can't do `sort`: leave it out",
        "eTelecom can't do `filter.tag`: leave it out",
    ]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (
            Command(b'{"oa_id": "1"}'),
            '`provider` must be "etelecom" or "esms", as the last token of the subject says',
        ),
        (
            Command(_json(provider="zalo")),
            '`provider` must be "etelecom" or "esms", as the last token of the subject says',
        ),
        (
            Command(b"[]"),
            "the command is no object (Expected `object`, got `array`) when read as its Content-Type says: "
            "send an object, as JSON, or as MessagePack with Content-Type application/msgpack",
        ),
        (
            Command(_json(filter=[])),
            "the command is invalid: Expected `object | null`, got `array` - at `$.filter`; correct that field and "
            "publish it again",
        ),
        (
            _esms(filter={"shape": 1}),
            "the command has the unknown field `filter.shape`: correct its name or leave it out",
        ),
        (_esms(shape=1), "the command has the unknown field `shape`: correct its name or leave it out"),
        (Command(_json(tag="x")), "the command has the unknown field `tag`: correct its name or leave it out"),
        (Command(b""), 'the command is empty: send an object such as {"provider": …, "oa_id": …}'),
        (
            Command(b"x" * 65_537),
            "the command has 65537 bytes, more than the 65536 allowed for labels, filter and all else together: fetch "
            "with fewer `zl_user_ids`, tags or labels, or in several commands",
        ),
    ],
)
def test_a_refusal_says_in_one_sentence_what_to_correct(command: Command, message: str):
    assert _rejection(command).error.message == message


def test_what_a_decoder_says_is_cut_to_300_signs():
    assert [len(_plain("y" * length)) for length in (299, 300, 301)] == [299, 300, 300]
    assert _plain("Invalid value 'a name' \x07 at 'x'") == "Invalid value (value) ? at (value)"
    assert _plain("Expected 'int'") == "Expected 'int'"


@pytest.mark.parametrize(
    ("given", "failure"),
    [
        ({"Followers-Retry": "7"}, (7, 1)),
        ({"followers-retry": "7", "FOLLOWERS-GENERATION": "3"}, (7, 3)),
        ({"Followers-Retry": "9" * 19}, (int("9" * 19), 1)),
        ({"Followers-Retry": "9" * 20}, None),
        ({"Followers-Retry": "7x"}, None),
        ({"Followers-Retry": "7", "Followers-Generation": "x"}, None),
        ({"Followers-Generation": "3"}, None),
        ({}, None),
    ],
)
def test_a_retry_names_the_failure_and_its_generation(given: dict[str, str], failure: tuple[int, int] | None):
    found = retry_of(Command(_json(), headers=given))

    assert (found and (found.sequence, found.generation)) == failure


def test_a_refused_command_keeps_its_address_where_that_can_be_read():
    readable = _rejection(Command(_json(id="j1", account="shop", labels={"a": "b"}, page_size=999)))
    by_header = _rejection(Command(_json(page_size=999), headers={"Nats-Msg-Id": "m-1"}))
    unreadable = [_rejection(Command(body)) for body in (b"{", b"[]", _json(oa_id="a b"), _json(id="no spaces"))]

    assert readable.address == Address(
        provider="etelecom", oa_id="579745863508352884", job_id="j1", account="shop", labels={"a": "b"}
    )
    assert by_header.address is not None
    assert by_header.address.job_id == "m-1"
    assert [rejection.address for rejection in unreadable] == [None] * 4


@pytest.mark.parametrize(
    ("labels", "kept"),
    [
        ({"": "a", "k" * 64: "v" * 256, "k" * 65: "a", "b": "v" * 257, "c": 3, "d": ""}, ["k" * 64, "d"]),
        ({str(n): "" for n in range(16)}, [str(n) for n in range(16)]),
        ({str(n): "" for n in range(17)}, []),
        (["a"], []),
    ],
)
def test_a_refused_command_keeps_the_labels_that_are_labels(labels, kept):
    address = _rejection(Command(_json(id="j1", labels=labels, page_size=999))).address

    assert address is not None
    assert [*address.labels] == kept


def test_a_wrong_value_is_not_repeated_in_the_message():
    rejection = _rejection(Command(_json(filter={"gender": "0901234567"})))

    assert "0901234567" not in rejection.error.message
    assert "gender" in rejection.error.message


@given(st.binary(max_size=300), st.sampled_from([None, "application/json", "application/msgpack"]))
def test_no_bytes_make_reading_fail_otherwise(body, content_type):
    headers = {"Content-Type": content_type} if content_type else {}

    rejection = _rejection(Command(body, headers=headers))

    assert rejection.error.message.isprintable()


def test_what_is_shown_of_a_decoders_words_is_short_and_without_values_or_control_signs() -> None:
    assert _plain("Expected `str` matching regex '^[0-9]+$' - at `$.oa_id`") == (
        "Expected `str` matching regex '^[0-9]+$' - at `$.oa_id`"
    ), "there the quoted text is ours"
    assert _plain("Invalid enum value 'Hoa Binh' - at `$.filter.gender`") == (
        "Invalid enum value (value) - at `$.filter.gender`"
    )
    assert _plain("a\x1b[31m\nb") == "a?[31m?b"
    assert len(_plain("x" * 301)) == 300
