"""The messages: what they accept, what they refuse, and that they survive the wire in both encodings."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import jsonschema
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas import (
    JSON,
    MSGPACK,
    ChangeCounts,
    ChangeEvent,
    EsmsFilter,
    EtelecomFilter,
    Feed,
    FetchError,
    FetchEsmsFollowers,
    FetchEtelecomFollowers,
    FetchFollowers,
    FieldChange,
    Follower,
    FollowerPage,
    JobCancelled,
    JobCompleted,
    JobEvent,
    JobFailed,
    JobStarted,
    JobStatus,
    JobWaiting,
    Progress,
    SharedInfo,
    Wait,
    decode,
    encode,
)
from schemas.render import MESSAGES, schema
from schemas.wire import Encoding

AT = datetime(2026, 3, 1, 8, 30, 0, 123456, tzinfo=UTC)
HANOI = timezone(timedelta(hours=7))
OA = "579745863508352884"
JOB: dict[str, Any] = {
    "job_id": "job-1",
    "provider": "esms",
    "account": "shop",
    "oa_id": OA,
    "labels": {"chiến dịch": "tết"},
}
COMMANDS: list[FetchFollowers] = [
    FetchEtelecomFollowers(oa_id=OA),
    FetchEsmsFollowers(oa_id=OA),
    FetchEtelecomFollowers(
        oa_id=OA,
        id="Job_1-a",
        account="shop",
        filter=EtelecomFilter(
            assigned_user_id="0",
            date_from="2026-01-31T00:00:00+07:00",
            date_to="2026-02-28T23:59:59.999Z",
            gender="female",
            has_conversation=False,
            name="Mận",
            phone="0900000000",
            state="follow",
            tags=["khách quý"],
            zl_user_id="7800378501923859642",
            zl_user_ids=["7800378501923859642", "1"],
        ),
        sort="-created_at",
        page_size=1,
        max_pages=1,
        max_followers=10,
        not_after=AT,
        labels={"campaign": "tet-2027"},
    ),
    FetchEsmsFollowers(
        oa_id=OA,
        filter=EsmsFilter(date_from="2026-01-31", date_to="28/02/2026", state="unfollow", tag="khách quý"),
        page_size=50,
    ),
]
FOLLOWERS = [
    Follower(user_id="7800378501923859642"),
    Follower(
        user_id="7800378501923859642",
        user_id_by_app="1",
        provider_id="2",
        shop_id="3",
        display_name="Trần Thị Bưởi 🌸",
        avatar="https://a.example/1.jpg",
        avatars={"120": "https://a.example/120.jpg"},
        gender="female",
        state="follow",
        phone="+84900000000",
        phone_raw="0900 000 000",
        shared_info=SharedInfo(name="Bưởi", phone="+84900000000", address="1 Phố Huế", city="Hà Nội"),
        tags=["khách quý"],
        notes=["gọi lại"],
        assigned_user_id="9",
        has_conversation=False,
        created_at=AT,
        updated_at=AT,
    ),
]
PAGE = FollowerPage(
    **JOB,
    page=1,
    followers=FOLLOWERS,
    total=2,
    cursor=None,
    next_cursor=None,
    last=True,
    fetched_at=AT,
    progress=Progress(followers=2, duplicates_dropped=0, total_first=2, requests=1, started_at=AT),
)
ERROR = FetchError(code="not_found", message="the OA isn't there: check `oa_id`", retryable=False, http_status=404)
EVENTS: list[JobEvent] = [
    JobStarted(**JOB, attempt=2, resumed_at_page=3, started_at=AT),
    JobWaiting(**JOB, reason="rate_limited", until=AT),
    JobCompleted(
        **JOB,
        pages=1,
        followers=2,
        distinct=2,
        duplicates_dropped=0,
        total_first=2,
        total_last=None,
        requests=1,
        started_at=AT,
        finished_at=AT,
        verdict="truncated",
        reason="max_pages",
    ),
    JobFailed(**(JOB | {"account": None}), error=ERROR, finished_at=AT),
    JobCancelled(**JOB, finished_at=AT),
]
STATUS = JobStatus(**JOB, state="failed", updated_at=AT, percent=12.5, error=ERROR, verdict="drifted")
SAMPLES: list[tuple[str, Any]] = [
    *(("FetchFollowers", command) for command in COMMANDS),
    *(("Follower", follower) for follower in FOLLOWERS),
    ("FollowerPage", PAGE),
    *(("JobEvent", event) for event in EVENTS),
    ("FetchError", ERROR),
    ("JobStatus", STATUS),
]
CONTENT_TYPES: dict[Encoding, str] = {"json": JSON, "msgpack": MSGPACK}

tokens = st.from_regex(r"\A[A-Za-z0-9_-]{1,64}\Z")
numeric_ids = st.from_regex(r"\A[0-9]{1,19}\Z")
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=256)
instants = st.datetimes(
    min_value=datetime(1970, 1, 2), max_value=datetime(9000, 1, 1), timezones=st.sampled_from([UTC, HANOI])
)
common: dict[str, st.SearchStrategy[Any]] = {
    "oa_id": tokens,
    "id": st.none() | tokens,
    "account": st.none() | tokens,
    "max_pages": st.none() | st.integers(1, 2**53),
    "max_followers": st.none() | st.integers(1, 2**53),
    "not_after": st.none() | instants,
    "labels": st.dictionaries(texts.filter(lambda text: len(text) <= 64), texts, max_size=16),
}
etelecom_filters = st.builds(
    EtelecomFilter,
    assigned_user_id=st.none() | numeric_ids,
    date_from=st.none() | instants.map(datetime.isoformat).filter(lambda text: len(text) >= 25),
    gender=st.sampled_from([None, "unknown", "male", "female", "other"]),
    has_conversation=st.none() | st.booleans(),
    name=st.none() | texts,
    phone=st.none() | st.from_regex(r"\A\+?[0-9]{1,30}\Z"),
    state=st.sampled_from([None, "follow", "unfollow"]),
    tags=st.none() | st.lists(texts, min_size=1, max_size=5),
    zl_user_ids=st.none() | st.lists(numeric_ids, min_size=1, max_size=5),
)
esms_filters = st.builds(
    EsmsFilter,
    date_from=st.none() | st.dates().map(lambda day: day.strftime("%d/%m/") + f"{day.year:04}"),
    state=st.sampled_from([None, "follow", "unfollow"]),
    tag=st.none() | texts,
)
commands = st.one_of(
    st.builds(
        FetchEtelecomFollowers,
        **common,
        filter=st.none() | etelecom_filters,
        sort=st.none() | st.from_regex(r"\A-?[a-z][a-z_]{0,63}\Z"),
        page_size=st.integers(1, 100),
    ),
    st.builds(FetchEsmsFollowers, **common, filter=st.none() | esms_filters, page_size=st.integers(1, 50)),
)


def read(data: bytes, name: str, content_type: str = JSON) -> Any:
    """Decode `data` as the message `name`."""
    return decode(data, MESSAGES[name], content_type)


def read_as(fields: dict[str, Any], kind: Any) -> Any:
    """Decode JSON with `fields` as `kind`."""
    return decode(msgspec.json.encode(fields), kind)


def command(**fields: Any) -> bytes:
    """Return a command's body, valid but for `fields`."""
    return msgspec.json.encode({"provider": "etelecom", "oa_id": OA} | fields)


@pytest.mark.parametrize("encoding", ["json", "msgpack"])
@pytest.mark.parametrize(("name", "message"), SAMPLES)
def test_a_message_survives_the_wire(name: str, message: Any, encoding: Encoding) -> None:
    assert read(encode(message, encoding), name, CONTENT_TYPES[encoding]) == message


@settings(suppress_health_check=list(HealthCheck))
@given(message=commands, encoding=st.sampled_from(["json", "msgpack"]))
def test_any_valid_command_survives_the_wire_and_fits_its_schema(message: FetchFollowers, encoding: Encoding) -> None:
    data = encode(message, encoding)

    assert read(data, "FetchFollowers", CONTENT_TYPES[encoding]) == message
    jsonschema.validate(msgspec.to_builtins(message), schema("FetchFollowers"))


@pytest.mark.parametrize("name", MESSAGES)
def test_every_schema_is_a_valid_document(name: str) -> None:
    document = schema(name)

    jsonschema.Draft202012Validator.check_schema(document)
    assert document["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert document["title"] == name


@pytest.mark.parametrize(("name", "message"), SAMPLES)
def test_what_is_encoded_fits_its_schema(name: str, message: Any) -> None:
    jsonschema.validate(msgspec.json.decode(encode(message)), schema(name), cls=jsonschema.Draft202012Validator)


WRONG_COMMANDS: dict[str, dict[str, Any]] = {
    "no such provider": {"provider": "viber"},
    "a number as an id": {"oa_id": 579745863508352884},
    "an empty id": {"id": ""},
    "a dot in an id": {"id": "a.b"},
    "a wildcard in an id": {"oa_id": "*"},
    "a newline after an id": {"id": "job-1\n"},
    "a newline after an OA id": {"oa_id": f"{OA}\n"},
    "a newline after an account": {"account": "shop\n"},
    "an id too long": {"id": "x" * 65},
    "a letter from elsewhere in an id": {"id": "côn"},
    "an Arabic digit in a Zalo id": {"filter": {"zl_user_id": "٣"}},
    "a newline after a Zalo id": {"filter": {"zl_user_id": "1\n"}},
    "a Zalo id too long": {"filter": {"zl_user_id": "1" * 20}},
    "a Zalo id as a number": {"filter": {"zl_user_id": 1}},
    "no Zalo ids": {"filter": {"zl_user_ids": []}},
    "a date without an offset": {"filter": {"date_from": "2026-01-31T00:00:00"}},
    "a newline after a date": {"filter": {"date_from": "2026-01-31T00:00:00Z\n"}},
    "an unknown gender": {"filter": {"gender": "f"}},
    "an empty name": {"filter": {"name": ""}},
    "a page too large": {"page_size": 101},
    "a page of none": {"page_size": 0},
    "an eSMS page too large": {"provider": "esms", "page_size": 51},
    "an eSMS sort": {"provider": "esms", "sort": "created_at"},
    "an eTelecom filter for eSMS": {"provider": "esms", "filter": {"gender": "male"}},
    "a sort with a space": {"sort": "created_at desc"},
    "a newline after a sort": {"sort": "created_at\n"},
    "no pages": {"max_pages": 0},
    "half a page": {"max_pages": 1.5},
    "no followers": {"max_followers": 0},
    "too many labels": {"labels": {str(number): "x" for number in range(17)}},
    "a label that is a number": {"labels": {"a": 1}},
    "a label too long": {"labels": {"a": "x" * 257}},
    "a filter that is a list": {"filter": []},
}


@pytest.mark.parametrize("fields", WRONG_COMMANDS.values(), ids=WRONG_COMMANDS)
def test_a_wrong_command_is_refused_by_the_decoder_and_by_the_schema(fields: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        read(command(**fields), "FetchFollowers")
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(msgspec.json.decode(command(**fields)), schema("FetchFollowers"))


@pytest.mark.parametrize("text", ["2026-03-01T00:00:00", "2026-03-01", "soon", 1772323200])
def test_a_deadline_without_an_offset_is_refused(text: Any) -> None:
    with pytest.raises(msgspec.ValidationError, match="not_after"):
        read(command(not_after=text), "FetchFollowers")


@pytest.mark.parametrize("missing", ["provider", "oa_id"])
def test_a_command_that_lacks_a_field_is_refused_with_its_name(missing: str) -> None:
    fields = msgspec.json.decode(command())
    del fields[missing]

    with pytest.raises(msgspec.ValidationError, match=f"`{missing}`"):
        read(msgspec.json.encode(fields), "FetchFollowers")


@pytest.mark.parametrize("provider", ["etelecom", "esms"])
def test_an_unknown_field_of_a_command_is_refused_with_its_name(provider: str) -> None:
    # A misspelt filter must not fetch everybody.
    with pytest.raises(msgspec.ValidationError, match=r"unknown field `max_page`"):
        read(command(provider=provider, max_page=1), "FetchFollowers")
    with pytest.raises(msgspec.ValidationError, match=r"unknown field `stat` - at `\$\.filter`"):
        read(command(provider=provider, filter={"stat": "follow"}), "FetchFollowers")


@pytest.mark.parametrize("field", ["url", "base_url", "api_key", "secret_key"])
def test_a_command_never_carries_where_or_with_what_key(field: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=field):
        read(command(**{field: "x"}), "FetchFollowers")


def test_a_command_has_the_defaults_of_the_contract() -> None:
    etelecom, esms = read(command(), "FetchFollowers"), read(command(provider="esms"), "FetchFollowers")

    assert (etelecom.provider, etelecom.page_size) == ("etelecom", 100)
    assert (esms.provider, esms.page_size) == ("esms", 50)


@pytest.mark.parametrize(
    ("provider", "fields", "beyond"),
    [
        ("etelecom", {"page_size": 1}, {"page_size": 0}),
        ("etelecom", {"page_size": 100}, {"page_size": 101}),
        ("esms", {"page_size": 1}, {"page_size": 0}),
        ("esms", {"page_size": 50}, {"page_size": 51}),
        ("etelecom", {"sort": "-created_at"}, {"sort": "--created_at"}),
        ("etelecom", {"sort": "a" * 64}, {"sort": "a" * 65}),
        ("etelecom", {"filter": {"phone": "0"}}, {"filter": {"phone": ""}}),
        ("etelecom", {"filter": {"phone": "0" * 32}}, {"filter": {"phone": "0" * 33}}),
        ("etelecom", {"filter": {"tags": ["a"]}}, {"filter": {"tags": []}}),
        ("etelecom", {"filter": {"tags": ["a"] * 100}}, {"filter": {"tags": ["a"] * 101}}),
        ("etelecom", {"filter": {"zl_user_ids": ["1"]}}, {"filter": {"zl_user_ids": []}}),
        ("etelecom", {"filter": {"zl_user_ids": ["1"] * 1000}}, {"filter": {"zl_user_ids": ["1"] * 1001}}),
        ("etelecom", {"filter": {"zl_user_id": "1" * 19}}, {"filter": {"zl_user_id": "1" * 20}}),
        ("etelecom", {"filter": {"name": "a" * 256}}, {"filter": {"name": "a" * 257}}),
        ("esms", {"filter": {"tag": "a"}}, {"filter": {"tag": ""}}),
        ("esms", {"max_pages": 1}, {"max_pages": 0}),
        ("esms", {"max_followers": 1}, {"max_followers": 0}),
        ("esms", {"id": "a" * 64}, {"id": "a" * 65}),
        ("esms", {"labels": {"a" * 64: "b" * 256}}, {"labels": {"a" * 65: ""}}),
        ("esms", {"labels": {"a": ""}}, {"labels": {"": ""}}),
        ("esms", {"labels": dict.fromkeys("abcdefghijklmnop", "")}, {"labels": dict.fromkeys("abcdefghijklmnopq", "")}),
        ("esms", {"labels": {"a": "b" * 256}}, {"labels": {"a": "b" * 257}}),
    ],
)
def test_a_command_is_taken_up_to_its_bounds_and_refused_beyond(
    provider: str, fields: dict[str, Any], beyond: dict[str, Any]
) -> None:
    taken = read(command(provider=provider, **fields), "FetchFollowers")

    assert taken.provider == provider
    assert msgspec.to_builtins(taken).items() >= ({} if "page_size" in fields else fields).items()
    with pytest.raises(msgspec.ValidationError, match=f"\\$.{next(iter(beyond))}"):
        read(command(provider=provider, **beyond), "FetchFollowers")


def test_what_a_provider_does_not_say_of_a_follower_is_left_out() -> None:
    assert encode(Follower(user_id="1")) == b'{"user_id":"1"}'
    assert encode(Follower(user_id="1", has_conversation=False)) == b'{"user_id":"1","has_conversation":false}'
    assert encode(SharedInfo(city="Huế")) == '{"city":"Huế"}'.encode()


def test_what_a_command_does_not_ask_for_is_left_out() -> None:
    assert encode(FetchEtelecomFollowers(oa_id=OA)) == b'{"provider":"etelecom","oa_id":"%s"}' % OA.encode()
    assert encode(FetchEsmsFollowers(oa_id=OA)) == b'{"provider":"esms","oa_id":"%s"}' % OA.encode()
    assert encode(EtelecomFilter(has_conversation=False)) == b'{"has_conversation":false}'
    assert encode(EsmsFilter(tag="VIP")) == b'{"tag":"VIP"}'


def test_a_wait_says_only_what_applies() -> None:
    wait = Wait(owner="queue", reason="queued", since=AT, text="Others come first.", position=1)

    assert msgspec.json.decode(encode(wait)) == {
        "owner": "queue",
        "reason": "queued",
        "since": "2026-03-01T08:30:00.123456Z",
        "text": "Others come first.",
        "position": 1,
    }


def test_a_value_that_has_left_the_log_is_left_out_and_one_that_is_none_is_null() -> None:
    assert encode(FieldChange(name="phone", old=None)) == b'{"name":"phone","old":null}'
    assert encode(FieldChange(name="phone", new=[])) == b'{"name":"phone","new":[]}'


def test_changes_are_counted_together() -> None:
    assert ChangeCounts(followed=1, unfollowed=20, changed=300).total == 321
    assert ChangeCounts().total == 0


CHANGES: dict[str, dict[str, Any]] = {
    "baseline": {"count": 3},
    "followed": {"user_id": "1"},
    "unfollowed": {"user_id": "1"},
    "changed": {"user_id": "1", "fields": [{"name": "phone"}]},
    "compared": {"counts": {}, "count": 3},
    "held": {"counts": {}, "count": 3, "previous_count": 9, "message": "Look at it."},
}
CHANGES_DEFAULTS: dict[str, dict[str, Any]] = {
    "followed": {"follower": None},
    "unfollowed": {"at": None},
    "compared": {"counts": {"followed": 0, "unfollowed": 0, "changed": 0}},
    "held": {"counts": {"followed": 0, "unfollowed": 0, "changed": 0}},
}
FEED: dict[str, Any] = {"provider": "esms", "account": "shop", "oa_id": OA}


@pytest.mark.parametrize("kind", CHANGES)
def test_what_a_change_leaves_out_has_the_value_of_the_contract(kind: str) -> None:
    least = FEED | {"job_id": "job-1", "type": kind} | CHANGES[kind]

    event = read_as(least, ChangeEvent)

    defaults: dict[str, Any] = {"labels": {}, "previous_job_id": None, "filter": {}, "number": 1, "of": 1}
    assert msgspec.json.decode(encode(event)) == least | defaults | CHANGES_DEFAULTS.get(kind, {})
    assert getattr(event, "counts", ChangeCounts()).total == 0


def test_what_a_feed_leaves_out_has_the_value_of_the_contract() -> None:
    job = {"job_id": "job-1", "started_at": "2026-03-01T08:30:00Z", "followers": 3}
    claim: dict[str, Any] = {"job": job, "act": "changes", "counts": {"followed": 2, "changed": 1}, "after": 0}

    feed = read_as(FEED | {"next": claim}, Feed)

    none: dict[str, Any] = {"filter": {}, "current": None, "held": None, "gone": [], "set_aside": None}
    counts = {"followed": 2, "unfollowed": 0, "changed": 1}
    whole = claim | {"job": job | {"labels": {}}, "counts": counts, "released": False}
    assert msgspec.json.decode(encode(feed)) == FEED | none | {"next": whole}
    assert feed.next.counts.total == 3


def test_a_page_says_so_where_it_has_nothing_to_say() -> None:
    page = msgspec.json.decode(encode(msgspec.structs.replace(PAGE, total=None, followers=[])))

    assert {name: page[name] for name in ("followers", "total", "cursor", "next_cursor")} == {
        "followers": [],
        "total": None,
        "cursor": None,
        "next_cursor": None,
    }
    assert (page["part"], page["parts"], page["last"]) == (1, 1, True)


@pytest.mark.parametrize(("name", "message"), [sample for sample in SAMPLES if sample[0] != "FetchFollowers"])
def test_a_consumer_ignores_fields_of_a_later_version(name: str, message: Any) -> None:
    later = msgspec.json.decode(encode(message)) | {"added_later": {"a": [1]}}

    assert read(msgspec.json.encode(later), name) == message
    jsonschema.validate(later, schema(name))


def test_job_events_are_told_apart_by_their_type() -> None:
    types = [msgspec.json.decode(encode(event))["type"] for event in EVENTS]

    assert types == ["started", "waiting", "completed", "failed", "cancelled"]


def test_times_are_text_in_utc_in_both_encodings() -> None:
    event = JobCancelled(**JOB, finished_at=AT)

    assert msgspec.json.decode(encode(event))["finished_at"] == "2026-03-01T08:30:00.123456Z"
    assert msgspec.msgpack.decode(encode(event, "msgpack"))["finished_at"] == "2026-03-01T08:30:00.123456Z"


def test_no_message_can_be_changed() -> None:
    for _, message in SAMPLES:
        with pytest.raises(AttributeError):
            message.provider = "esms"
