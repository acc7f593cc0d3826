"""Which job is meant, where the log holds several of one id: versions before ids were kept let that happen."""

import contextlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

from worker.cli.console import USAGE, Stop, note

if TYPE_CHECKING:
    from schemas.subjects import JobSubject


def choose(subjects: Iterable[str], job: str, *, oa: str | None, provider: str | None) -> "JobSubject | None":
    """Return the one job with events on `subjects` that fits, None when there is none.

    A command that was refused leaves an event and no page: where another job of the id has pages, that one is meant.
    Raises Stop when several are.
    """
    from schemas.subjects import JobSubject, parse_job_subject

    found: dict[JobSubject, bool] = {}
    for subject in subjects:
        with contextlib.suppress(ValueError):  # a change, or somebody else's subject that looks like a job's
            one = parse_job_subject(subject)
            key = one._replace(kind="page")
            found[key] = found.get(key, False) or one.kind == "page"
    fitting = {
        one: paged for one, paged in found.items() if oa in (None, one.oa_id) and provider in (None, one.provider)
    }
    with_pages = [one for one, paged in fitting.items() if paged]
    meant = with_pages or list(fitting)
    if len(meant) > 1:
        text = f"several jobs have the id {job} ({_listed(meant)}): choose with --provider and --oa"
        raise Stop(text, code=USAGE)
    if others := [one for one in fitting if one not in meant]:
        note(f"job {job} is that of {_listed(meant)}; a command of the same id ended without a page: {_listed(others)}")
    return meant[0] if meant else None


def _listed(jobs: "Iterable[JobSubject]") -> str:
    return ", ".join(sorted(f"{one.provider} {one.oa_id}" for one in jobs))
