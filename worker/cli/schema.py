"""`followers schema`: the wire contract as JSON Schema."""

from typing import Annotated

import typer

from worker.cli.console import OK, USAGE, AsJson, Stop, emit, examples, guarded, say, write_line

EXAMPLES = examples(
    ("followers schema", "The names of all messages."),
    ("followers schema FollowerPage", "The JSON Schema (2020-12) of one."),
    ("followers schema asyncapi", "All of them with their channels, as an AsyncAPI 3 document."),
    ("followers schema FetchFollowers > command.schema.json", "Check your commands with it before publishing."),
)


ASYNCAPI = "asyncapi"


def schema(
    name: Annotated[
        str | None, typer.Argument(help="A message, for example FollowerPage, or asyncapi.", metavar="[NAME]")
    ] = None,
    json: AsJson = False,
) -> None:
    """Print the JSON Schema of a message, the AsyncAPI document of all, or all names."""

    def work() -> int:
        from schemas.render import MESSAGES
        from schemas.render import schema as render

        if name is None:
            if json:
                emit(list(MESSAGES))
            else:
                for message in MESSAGES:
                    say(message)
            return OK
        if name == ASYNCAPI:
            from schemas.asyncapi import document

            _print(document(), compact=json)
            return OK
        if name not in MESSAGES:
            raise Stop(f"there is no message {name}: choose one of {', '.join(MESSAGES)}, or {ASYNCAPI}", code=USAGE)
        _print(render(name), compact=json)
        return OK

    guarded(work)


def _print(document: dict[str, object], *, compact: bool) -> None:
    import json

    write_line(json.dumps(document, ensure_ascii=False, indent=None if compact else 2).encode())
