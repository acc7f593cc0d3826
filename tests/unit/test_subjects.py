"""Names on the server (CONTRACT 1)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import subjects
from schemas.subjects import (
    command_subject,
    consumer_name,
    dead_subject,
    is_token,
    job_subject,
    page_subject,
    parse_job_subject,
    provider_of,
)
from schemas.types import Provider

OA = "579745863508352884"
tokens = st.from_regex(r"\A[A-Za-z0-9_-]{1,64}\Z")
providers = st.sampled_from(subjects.PROVIDERS)
BAD = ["", ".", "a.b", "a b", "*", ">", "a\n", "\n", "côn", "x" * 65, "a\x00", "٣"]


def test_the_names_are_those_of_the_contract() -> None:
    assert (subjects.COMMANDS_STREAM, subjects.EVENTS_STREAM, subjects.DEAD_STREAM) == (
        "FOLLOWERS_COMMANDS",
        "FOLLOWERS_EVENTS",
        "FOLLOWERS_DEAD",
    )
    assert (subjects.JOBS_BUCKET, subjects.LIMITS_BUCKET, subjects.SCHEDULES_BUCKET) == (
        "FOLLOWERS_JOBS",
        "FOLLOWERS_LIMITS",
        "FOLLOWERS_SCHEDULES",
    )
    assert (subjects.FEEDS_BUCKET, subjects.SNAPSHOTS_BUCKET) == ("FOLLOWERS_FEEDS", "FOLLOWERS_SNAPSHOTS")
    assert subjects.PROVIDERS == ("etelecom", "esms")
    assert subjects.COMMAND_SUBJECTS == ("followers.fetch.etelecom", "followers.fetch.esms")
    assert subjects.EVENT_SUBJECTS == ("followers.page.>", "followers.job.>", "followers.change.>")
    assert subjects.DEAD_SUBJECTS == ("followers.dead.etelecom", "followers.dead.esms")
    assert (subjects.CANCEL_SUBJECTS, subjects.STATUS_SUBJECTS, subjects.RELEASE_SUBJECTS) == (
        "followers.cancel.*",
        "followers.status.*",
        "followers.release.*",
    )
    assert (subjects.ID_SUBJECTS, subjects.id_subject("job-1")) == ("followers.id.*", "followers.id.job-1")
    assert subjects.CONTROL_QUEUE == "followers-control"
    assert command_subject("etelecom") == "followers.fetch.etelecom"
    assert dead_subject("esms") == "followers.dead.esms"
    assert consumer_name("esms") == "worker-esms"
    assert page_subject("esms", OA, "job-1") == f"followers.page.esms.{OA}.job-1"
    assert job_subject("etelecom", OA, "job-1") == f"followers.job.etelecom.{OA}.job-1"
    assert subjects.cancel_subject("job-1") == "followers.cancel.job-1"
    assert subjects.status_subject("job-1") == "followers.status.job-1"
    assert subjects.release_subject("job-1") == "followers.release.job-1"
    assert subjects.change_subject("esms", OA) == f"followers.change.esms.{OA}"
    assert subjects.cancel_mark_key("job-1") == "cancel.job-1"
    assert subjects.exhausted_subject("esms") == (
        "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.FOLLOWERS_COMMANDS.worker-esms"
    )


@given(providers, tokens, tokens)
def test_a_subject_that_was_built_comes_apart_again(provider: Provider, oa_id: str, job_id: str) -> None:
    assert parse_job_subject(page_subject(provider, oa_id, job_id)) == ("page", provider, oa_id, job_id)
    assert parse_job_subject(job_subject(provider, oa_id, job_id)) == ("job", provider, oa_id, job_id)
    assert provider_of(command_subject(provider)) == provider


@given(st.text())
def test_a_text_is_a_token_or_can_not_be_part_of_a_subject(text: str) -> None:
    if is_token(text):
        assert parse_job_subject(page_subject("esms", text, text)).job_id == text
    else:
        with pytest.raises(ValueError, match="subject"):
            page_subject("esms", OA, text)
        with pytest.raises(ValueError, match="subject"):
            job_subject("esms", text, "job-1")


@pytest.mark.parametrize("text", BAD)
def test_what_would_break_a_subject_is_no_token(text: str) -> None:
    assert not is_token(text)


@pytest.mark.parametrize(
    "subject",
    [
        "",
        "followers.page.esms.oa",
        "followers.page.esms.oa.job.more",
        "followers.page.viber.oa.job",
        "followers.fetch.esms",
        "followers.change.esms.oa.job",
        "other.page.esms.oa.job",
        "followers.page.esms.oa.job\n",
        "followers.page.esms..job",
        "followers.page.esms.*.job",
    ],
)
def test_another_subject_is_not_taken_apart(subject: str) -> None:
    with pytest.raises(ValueError, match="subject"):
        parse_job_subject(subject)


@pytest.mark.parametrize("subject", ["followers.fetch.viber", "followers.fetch.", "", "esms\n"])
def test_a_subject_without_a_provider_names_none(subject: str) -> None:
    with pytest.raises(ValueError, match="names no provider"):
        provider_of(subject)


@pytest.mark.parametrize(
    "name",
    ["cancel_subject", "status_subject", "release_subject", "id_subject", "cancel_mark_key", "change_subject"],
)
def test_no_name_is_made_of_what_is_no_token(name: str) -> None:
    before = ("esms",) if name == "change_subject" else ()

    with pytest.raises(
        ValueError, match=r"^'a\.b' can't be part of a subject: use 1 to 64 letters, digits, '_' or '-'$"
    ):
        getattr(subjects, name)(*before, "a.b")
    assert getattr(subjects, name)(*before, "x" * 64).endswith(f".{'x' * 64}")


def test_a_subject_is_taken_apart_by_name() -> None:
    found = parse_job_subject("followers.job.etelecom.oa.j")

    assert (found.kind, found.provider, found.oa_id, found.job_id) == ("job", "etelecom", "oa", "j")
