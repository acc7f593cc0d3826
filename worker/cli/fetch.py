"""`followers fetch`: publish a command and follow its job to the end."""

import sys
import uuid
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from worker.cli.console import OK, USAGE, AsJson, ConfigFile, Stop, emit, examples, note, perform, say
from worker.cli.session import check_jetstream, connected, load_settings

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.js.api import PubAck

    from schemas.commands import FetchFollowers

EXAMPLES = examples(
    ("followers fetch etelecom 579745863508352884", "All followers; exit 0 when the job completed."),
    ("followers fetch esms 579745863508352884 --account my-esms --page-size 50", "With credentials by name."),
    (
        "followers fetch etelecom 579745863508352884 --filter tags=vip --filter tags=new",
        "Only some; a repeated tags or zl_user_ids makes a list.",
    ),
    ("followers fetch esms 579745863508352884 --id nightly-2026-11-23 --no-wait", "The same id is the same job."),
    ("followers fetch esms 579745863508352884 --json | jq .verdict", "The job's last event as JSON."),
)


def fetch(
    context: typer.Context,
    provider: Annotated[Literal["etelecom", "esms"], typer.Argument(help="Whose API to ask.", metavar="PROVIDER")],
    oa_id: Annotated[str, typer.Argument(help="The Zalo Official Account.", metavar="OA_ID")],
    account: Annotated[
        str | None, typer.Option(help="Configured credentials; optional when the provider has one account.")
    ] = None,
    filter: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Which followers; repeat for more conditions.")
    ] = None,
    sort: Annotated[str | None, typer.Option(help="eTelecom only, for example -created_at.")] = None,
    page_size: Annotated[str | None, typer.Option(metavar="N", help="eTelecom 1–100, eSMS 1–50.")] = None,
    max_pages: Annotated[str | None, typer.Option(metavar="N", help="Stop after this many pages.")] = None,
    max_followers: Annotated[str | None, typer.Option(metavar="N", help="Stop after this many followers.")] = None,
    not_after: Annotated[
        str | None, typer.Option(metavar="TIME", help="Deadline, for example 2026-12-31T23:00:00+07:00.")
    ] = None,
    id: Annotated[str | None, typer.Option(help="Job id; the same id again is the same job.")] = None,
    label: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Echoed on every event; repeat for more.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Follow the job to its end.")] = True,
    json: AsJson = False,
    config: ConfigFile = None,
) -> None:
    """Publish a fetch command and follow its job to the end.

    Prints the job's id on stdout and progress on stderr. Exit code 0: completed, 1: failed or cancelled.
    """
    fields: dict[str, Any] = {
        "oa_id": oa_id,
        "id": id or uuid.uuid4().hex,
        "account": account,
        "sort": sort,
        "page_size": page_size,
        "max_pages": max_pages,
        "max_followers": max_followers,
        "not_after": not_after,
    }

    async def work() -> int:
        from worker.cli.command import build_command, pairs

        fields["labels"] = dict(pairs("--label", label or []))
        command = build_command(provider, fields, filter or [])
        settings = load_settings(context, config)
        async with connected(settings) as client:
            acknowledged = await publish(client, command)
            return await _report(client, command, acknowledged, wait=wait, json=json)

    perform(work)


async def publish(client: "Client", command: "FetchFollowers") -> "PubAck":
    """Publish `command`, which has an id, and return the stream's answer. Raises Stop."""
    from nats.errors import Error, TimeoutError
    from nats.js.errors import APIError, NoStreamResponseError

    from schemas.subjects import COMMANDS_STREAM, command_subject
    from schemas.wire import CONTENT_TYPE, JSON, encode

    # The server's duplicate window spans the whole stream, a job id only its provider and OA.
    headers = {CONTENT_TYPE: JSON, "Nats-Msg-Id": f"{command.provider}.{command.oa_id}.{command.id}"}
    try:
        return await client.jetstream().publish(
            command_subject(command.provider), encode(command), headers=headers, stream=COMMANDS_STREAM
        )
    except NoStreamResponseError as error:
        await check_jetstream(client)
        raise Stop(f"stream {COMMANDS_STREAM} is missing: run `followers setup`", code=USAGE) from error
    except APIError as error:
        from worker.core.cures import cure

        words = error.description or "no words"
        what_to_do = cure(error.err_code, words, COMMANDS_STREAM)
        raise Stop(f"stream {COMMANDS_STREAM} refuses the command: {words}; {what_to_do}") from error
    except (TimeoutError, Error) as error:
        raise Stop(
            "the command may or may not be stored: NATS didn't confirm it "
            f"({type(error).__name__}); try again with --id {command.id}"
        ) from error


async def _report(
    client: "Client", command: "FetchFollowers", acknowledged: "PubAck", *, wait: bool, json: bool
) -> int:
    from worker.cli.follow import follow, report_end

    if not json:
        say(command.id or "")
        sys.stdout.flush()
    elif not wait:
        emit({"job_id": command.id, "sequence": acknowledged.seq, "duplicate": bool(acknowledged.duplicate)})
    if acknowledged.duplicate:
        note("this id was published a moment ago: it is the same job")
    if not wait:
        return OK
    return report_end(await follow(client, command), json=json)
