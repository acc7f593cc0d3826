"""Which of two statuses of a job is told: its end gives way to nothing but what came after it."""

from schemas.jobs import JobStatus

TERMINAL = ("completed", "failed", "cancelled")


def outranks(status: JobStatus, there: JobStatus | None) -> bool:
    """Say whether `status` may take the place of `there`.

    After an end comes a retry, which is another generation, or a job of the same id that began anew because its events
    are gone: both rest on a newer job event. An end of an earlier generation that comes late is not told.
    """
    if there is None or status.generation > there.generation:
        return True
    if there.state in TERMINAL:
        return status.event_sequence > there.event_sequence
    return status.state not in TERMINAL or status.event_sequence >= there.event_sequence
