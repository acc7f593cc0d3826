"""`followers schedules`: when each is due next, and what became of it last."""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import typer

from worker.cli.console import OK, USAGE, AsJson, ConfigFile, Stop, complain, emit, examples, perform, table
from worker.cli.session import check_jetstream, connected, load_settings

if TYPE_CHECKING:
    from nats.aio.client import Client

    from worker.core.schedules.decision import Schedule, ScheduleState
    from worker.settings import Settings

EXAMPLES = examples(
    ("followers schedules", "When each schedule of the settings is due next, and what became of it last."),
    ("followers schedules --json | jq '.[] | select(.state == \"skipped\")'", "For programs."),
)
_COLUMNS = ("SCHEDULE", "NEXT", "LAST", "STATE", "JOB", "JOB STATE", "NOTE")
_TIMEOUT = 5.0


def schedules(context: typer.Context, json: AsJson = False, config: ConfigFile = None) -> None:
    """List the schedules of the settings.

    STATE is what became of the last due time: `published`, `skipped` (the job before went on), `taken` (its command is
    about to be published). `due`: it has come, and no worker has taken it yet. `new`: no worker has seen the schedule.
    """

    async def work() -> int:
        settings = load_settings(context, config)
        if not settings.schedules:
            complain("no schedule is configured: add [schedules.NAME]")
        async with connected(settings) as client:
            rows = await _rows(client, settings) if settings.schedules else []
        if json:
            emit(rows)
        elif rows:
            table(_COLUMNS, [tuple(_text(value) for value in row.values()) for row in rows])
        return OK

    perform(work)


async def _rows(client: "Client", settings: "Settings") -> list[dict[str, Any]]:
    from worker.core.ports.job_store import BoardUnavailableError
    from worker.core.schedules.ports import NoScheduleBucketError, ScheduleUnavailableError
    from worker.jetstream.kv.job_status import JetStreamStatusBoard
    from worker.jetstream.kv.schedules import JetStreamScheduleDesk

    desk, board = JetStreamScheduleDesk(client, timeout=_TIMEOUT), JetStreamStatusBoard(client, timeout=_TIMEOUT)
    lost_after = timedelta(seconds=settings.streams.commands_max_age)
    rows = []
    try:
        now = await desk.now()
        for schedule in settings.schedule_list():
            state = (await desk.read(schedule.name)).state
            job_id = state.run.job_id if state and state.run else None
            job = await board.look(job_id) if job_id else None
            row = _row(schedule, state, now, lost_after)
            rows.append(
                row | {"job_id": job_id, "job_state": job.state if job else None, "note": _note(schedule, state)}
            )
    except NoScheduleBucketError as error:
        raise Stop(str(error), code=USAGE) from error
    except ScheduleUnavailableError as error:
        await check_jetstream(client)
        raise Stop(f"{error}: try again") from error
    except BoardUnavailableError as error:
        raise Stop("NATS did not read the bucket of job status: try again") from error
    return rows


def _row(schedule: "Schedule", state: "ScheduleState | None", now: datetime, lost_after: timedelta) -> dict[str, Any]:
    from worker.core.schedules.decision import Take, Wait, decide

    act = decide(schedule, state, now, since=None, me="", lost_after=lost_after)
    coming = schedule.timing.next_after(now) if schedule.timing else None
    word: str = "new" if state is None else state.outcome or "waiting"
    if schedule.timing is None:
        word = "disabled"
    elif isinstance(act, Take):
        word, coming = "due", act.due
    elif isinstance(act, Wait) and word != "taken":
        coming = act.until
    return {
        "schedule": schedule.name,
        "next_due": coming,
        "last_due": state.due if state else None,
        "state": word,
    }


def _note(schedule: "Schedule", state: "ScheduleState | None") -> str | None:
    if state is None or state.definition == schedule.definition:
        return None
    return "the workers have it with other settings"


def _text(value: Any) -> str:
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%dT%H:%M:%SZ}"
    return str(value or "")
