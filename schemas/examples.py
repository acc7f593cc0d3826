"""An invented example of every message: in the JSON Schemas, in AsyncAPI, and as the golden messages of a release."""

from datetime import UTC, datetime, timedelta
from typing import Any, TypedDict

from schemas.changes import (
    ChangeCounts,
    Changed,
    Compared,
    Feed,
    FeedBaseline,
    FeedClaim,
    FeedJob,
    FieldChange,
    Followed,
    Held,
    HeldJob,
    Unfollowed,
)
from schemas.commands import EsmsFilter, EtelecomFilter, FetchEsmsFollowers, FetchEtelecomFollowers
from schemas.digest import START, next_digest
from schemas.events import (
    FetchError,
    FollowerPage,
    JobCancelled,
    JobCompleted,
    JobFailed,
    JobStarted,
    JobWaiting,
    Progress,
)
from schemas.follower import Follower, SharedInfo
from schemas.jobs import ControlError, JobStatus
from schemas.types import Provider
from schemas.wait import Wait

OA = "579745863508352884"
AT = datetime(2026, 11, 23, 1, 30, tzinfo=UTC)
_JOB = "nightly-2026-11-23"


class _Common(TypedDict):
    job_id: str
    provider: Provider
    account: str
    oa_id: str
    labels: dict[str, str]


_SHOP = _Common(job_id=_JOB, provider="etelecom", account="my-shop", oa_id=OA, labels={"campaign": "tet-2027"})
_ESMS = _Common(job_id="esms-7", provider="esms", account="my-esms", oa_id=OA, labels={})
_FOLLOWER = Follower(
    user_id="7800378501923859642",
    user_id_by_app="4650122334455667788",
    provider_id="1137722334455667788",
    shop_id="1057792338951722956",
    display_name="Trần Thị Bưởi",
    avatar="https://avatar.example/240.jpg",
    avatars={"120": "https://avatar.example/120.jpg", "240": "https://avatar.example/240.jpg"},
    gender="female",
    state="follow",
    phone="+84900000000",
    phone_raw="0900 000 000",
    shared_info=SharedInfo(name="Trần Thị Bưởi", phone="+84900000000", address="1 Phố Mẫu", city="Hà Nội"),
    tags=["VIP"],
    notes=["gọi lại"],
    assigned_user_id="1104466778899001122",
    has_conversation=True,
    created_at=AT - timedelta(days=300),
    updated_at=AT - timedelta(days=2),
)
_ERROR = FetchError(
    code="unauthorized",
    message="the provider refuses the key of account my-shop: put a valid one into its api_key_file, then retry",
    retryable=False,
    provider_code="unauthenticated",
    http_status=401,
    attempts=1,
)

_BEFORE = "nightly-2026-11-22"
_COUNTS = ChangeCounts(followed=1, unfollowed=1, changed=1)
_SET: dict[str, Any] = {**_SHOP, "previous_job_id": _BEFORE, "filter": {"tags": ["VIP"]}, "of": 4}
_LIST = FeedJob(job_id=_BEFORE, started_at=AT - timedelta(days=1), followers=230)
_NEW_LIST = FeedJob(job_id=_JOB, started_at=AT, followers=120, labels={"campaign": "tet-2027"})

EXAMPLES: dict[str, list[Any]] = {
    "FetchFollowers": [
        FetchEtelecomFollowers(
            oa_id=OA,
            id=_JOB,
            account="my-shop",
            filter=EtelecomFilter(state="follow", date_from="2026-01-31T00:00:00+07:00", tags=["VIP"]),
            sort="-created_at",
            max_followers=10_000,
            not_after=AT + timedelta(hours=2),
            labels={"campaign": "tet-2027"},
        ),
        FetchEsmsFollowers(oa_id=OA, filter=EsmsFilter(date_from="2026-01-31", tag="VIP"), max_pages=20),
    ],
    "FollowerPage": [
        FollowerPage(
            **_SHOP,
            page=1,
            followers=[_FOLLOWER],
            total=230,
            cursor=None,
            next_cursor="b2Zmc2V0PTEwMA",
            last=False,
            fetched_at=AT,
            progress=Progress(
                followers=1, duplicates_dropped=0, total_first=230, requests=1, started_at=AT, missed_at_most=0
            ),
            count=1,
            digest=next_digest(START, [_FOLLOWER]),
        ),
        FollowerPage(
            **_ESMS,
            page=200,
            part=2,
            parts=2,
            followers=[Follower(user_id="7800378501923859643")],
            total=12_345,
            cursor="9950",
            next_cursor=None,
            last=True,
            fetched_at=AT,
            progress=Progress(
                followers=9_998,
                duplicates_dropped=2,
                total_first=12_300,
                requests=201,
                started_at=AT - timedelta(minutes=1),
                truncated="provider_cap",
                moved=True,
                missed_at_most=2_345,
                window="2026-01-31",
            ),
        ),
    ],
    "JobEvent": [
        JobStarted(**_SHOP, attempt=2, resumed_at_page=4, started_at=AT),
        JobWaiting(
            **_SHOP,
            reason="rate_limited",
            until=AT + timedelta(seconds=30),
            wait=Wait(
                owner="limit",
                reason="rate_limited",
                since=AT,
                until=AT + timedelta(seconds=30),
                text="the provider answered that there are too many requests: this account's go on at"
                " 2026-11-23T01:30:30Z; lower its rate_limit if this comes often",
                rate=5.0,
                ahead=2,
                blocked_until=AT + timedelta(seconds=30),
            ),
        ),
        JobCompleted(
            **_SHOP,
            pages=3,
            followers=230,
            distinct=230,
            duplicates_dropped=0,
            total_first=230,
            total_last=230,
            requests=4,
            started_at=AT,
            finished_at=AT + timedelta(seconds=3),
            verdict="complete",
            digest=next_digest(START, [_FOLLOWER]),
            missed_at_most=0,
        ),
        JobCompleted(
            **_ESMS,
            pages=200,
            followers=9_998,
            distinct=9_998,
            duplicates_dropped=2,
            total_first=12_300,
            total_last=12_345,
            requests=201,
            started_at=AT,
            finished_at=AT + timedelta(minutes=1),
            verdict="truncated",
            reason="provider_cap",
            missed_at_most=2_345,
            window="2026-01-31",
        ),
        JobFailed(**_SHOP, generation=2, error=_ERROR, finished_at=AT),
        JobCancelled(**_ESMS, finished_at=AT),
    ],
    "ChangeEvent": [
        FeedBaseline(**_ESMS, count=9_998),
        Followed(**_SET, number=1, user_id=_FOLLOWER.user_id, follower=_FOLLOWER),
        Unfollowed(**_SET, number=2, user_id="7800378501923859643", at=AT - timedelta(hours=9)),
        Changed(
            **_SET,
            number=3,
            user_id="7800378501923859644",
            fields=[
                FieldChange(name="display_name", old="Mận", new="Mận Trần"),
                FieldChange(name="phone", new=None),
            ],
        ),
        Compared(**_SET, number=4, counts=_COUNTS, count=230),
        Held(
            **_ESMS,
            previous_job_id="esms-6",
            counts=ChangeCounts(unfollowed=9_000),
            count=998,
            previous_count=9_998,
            message="9,000 of 9,998 followers are gone: if that is right, `followers changes release esms-7`",
        ),
    ],
    "Follower": [_FOLLOWER, Follower(user_id="7800378501923859643")],
    "FetchError": [_ERROR],
    "JobStatus": [
        JobStatus(
            **_SHOP,
            state="running",
            page=2,
            followers=200,
            total=230,
            percent=87.0,
            attempt=1,
            eta=AT + timedelta(seconds=3),
            worker="worker-0-5f3a9c1e",
            started_at=AT,
            updated_at=AT + timedelta(seconds=2),
            command_sequence=17,
        ),
        JobStatus(
            **_ESMS,
            state="waiting",
            page=12,
            followers=600,
            total=12_345,
            percent=4.9,
            attempt=1,
            reason="circuit_open",
            until=AT + timedelta(seconds=30),
            worker="worker-0-5f3a9c1e",
            started_at=AT,
            updated_at=AT,
            wait=Wait(
                owner="breaker",
                reason="circuit_open",
                since=AT - timedelta(seconds=10),
                until=AT + timedelta(seconds=30),
                text="the provider is away: 6 requests of this account failed in a row, the last one with"
                " provider_unavailable, HTTP 503; at 2026-11-23T01:30:30Z one request finds out whether it is back",
                failures=6,
                code="provider_unavailable",
                http_status=503,
            ),
        ),
        JobStatus(
            **_SHOP,
            state="queued",
            updated_at=AT,
            command_sequence=41,
            wait=Wait(
                owner="queue",
                reason="queued",
                since=AT - timedelta(minutes=2),
                text="its command is number 4 in the queue; workers have 64 commands in hand: none asks for the next"
                " one, so all are busy, or none runs: start more, or raise worker.max_jobs",
                ahead=3,
                position=4,
                in_hand=64,
                asking=0,
            ),
        ),
        JobStatus(**_SHOP, state="failed", attempt=1, started_at=AT, updated_at=AT, finished_at=AT, error=_ERROR),
    ],
    "ControlError": [
        ControlError(
            job_id="nobody",
            error=FetchError(
                code="not_found",
                message="no worker has seen job nobody: its command is queued or was never published",
                retryable=False,
            ),
        )
    ],
    "Feed": [
        Feed(provider="etelecom", account="my-shop", oa_id=OA, filter={"tags": ["VIP"]}, current=_LIST, gone=["first"]),
        Feed(
            provider="etelecom",
            account="my-shop",
            oa_id=OA,
            current=_LIST,
            next=FeedClaim(job=_NEW_LIST, act="changes", counts=_COUNTS, after=1_734, released=True),
            held=HeldJob(job=_NEW_LIST, counts=ChangeCounts(unfollowed=110)),
        ),
    ],
}
"""By message, each variant at least once."""
