"""The AsyncAPI 3 document: channels, operations and messages as the worker sees them, made from the structs."""

from typing import Any

import msgspec

from schemas import deadletters
from schemas.changes import Changed, Compared, Feed, FeedBaseline, Followed, Held, Unfollowed
from schemas.cloudevents import STRUCTURED
from schemas.commands import MAX_COMMAND_BYTES, FetchEsmsFollowers, FetchEtelecomFollowers
from schemas.events import FollowerPage, JobCancelled, JobCompleted, JobFailed, JobStarted, JobWaiting
from schemas.examples import AT, EXAMPLES
from schemas.jobs import ControlError, JobStatus
from schemas.render import components_of
from schemas.subjects import CONTROL_QUEUE, FEEDS_BUCKET, JOBS_BUCKET, PROVIDERS
from schemas.types import TOKEN_PATTERN
from schemas.wire import JSON, MSGPACK, encode, event_headers, event_type, rfc3339

VERSION = "0.1.0"
"""Of the messages; the package has the same."""
EVENTS = (FollowerPage, JobStarted, JobWaiting, JobCompleted, JobFailed, JobCancelled)
CHANGES = (FeedBaseline, Followed, Unfollowed, Changed, Compared, Held)
COMMANDS = (FetchEtelecomFollowers, FetchEsmsFollowers)
ANSWERS = (JobStatus, ControlError)
RELEASE_ANSWERS = (Feed, ControlError)

_TEXT = {"type": "string"}
_TITLES = {
    "FetchEtelecomFollowers": "Fetch an OA's followers from eTelecom",
    "FetchEsmsFollowers": "Fetch an OA's followers from eSMS",
    "FollowerPage": "A page of followers",
    "JobStarted": "A worker began, or went on with, a job",
    "JobWaiting": "A job stands still",
    "JobCompleted": "A job has read its list",
    "JobFailed": "A job can't be done",
    "JobCancelled": "A job was cancelled",
    "FeedBaseline": "A feed of changes begins",
    "Followed": "Somebody follows",
    "Unfollowed": "Somebody follows no more",
    "Changed": "Somebody's profile is another",
    "Compared": "All changes of a list are published",
    "Held": "The changes of a list are held back",
    "Feed": "A feed of changes at a glance",
    "JobStatus": "A job at a glance",
    "ControlError": "Why there is no status",
}


def document() -> dict[str, Any]:
    """Return the whole document, ready for JSON."""
    _, components = components_of([*COMMANDS, *EVENTS, *CHANGES, *ANSWERS, Feed], "#/components/schemas/{name}")
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "followers",
            "version": VERSION,
            "description": "Fetches the follower list of a Zalo Official Account from eTelecom or eSMS, on command over"
            " NATS JetStream, and publishes it as ordered pages, each exactly once. Every id is text, every time is"
            " RFC 3339 in UTC.",
            "license": {"name": "MIT"},
        },
        "defaultContentType": JSON,
        "servers": {
            "nats": {"host": "nats:4222", "protocol": "nats", "description": "JetStream, 2.10.25 or newer."},
        },
        "channels": _channels(),
        "operations": _operations(),
        "components": {
            "messages": _messages(),
            "schemas": {**{name: _draft_07(schema) for name, schema in components.items()}, **_header_schemas()},
        },
    }


def _channels() -> dict[str, Any]:
    provider = {"description": "Whose list it is.", "enum": list(PROVIDERS)}
    oa_id = {"description": f"The Zalo Official Account: `{TOKEN_PATTERN}`.", "examples": ["579745863508352884"]}
    job_id = {"description": f"The job: `{TOKEN_PATTERN}`.", "examples": ["nightly-2026-11-23"]}
    job = {"provider": provider, "oa_id": oa_id, "job_id": job_id}
    return {
        "commands": _channel(
            "followers.fetch.{provider}",
            "Commands to fetch, in the work queue FOLLOWERS_COMMANDS.",
            {"provider": provider},
            [struct.__name__ for struct in COMMANDS],
        ),
        "pages": _channel(
            "followers.page.{provider}.{oa_id}.{job_id}",
            "A job's follower pages in FOLLOWERS_EVENTS: in order, each exactly once, without a gap.",
            job,
            ["FollowerPage"],
        ),
        "jobEvents": _channel(
            "followers.job.{provider}.{oa_id}.{job_id}",
            "What happens to a job, in FOLLOWERS_EVENTS; `completed`, `failed` and `cancelled` end it.",
            job,
            [struct.__name__ for struct in EVENTS[1:]],
        ),
        "changes": _channel(
            "followers.change.{provider}.{oa_id}",
            "What has changed between two complete lists, in FOLLOWERS_EVENTS: in order, each exactly once.",
            {"provider": provider, "oa_id": oa_id},
            [struct.__name__ for struct in CHANGES],
        ),
        "deadLetters": _channel(
            "followers.dead.{provider}",
            "Commands that can't be done, in FOLLOWERS_DEAD.",
            {"provider": provider},
            ["DeadLetter"],
        ),
        "jobStatus": _channel(
            f"$KV.{JOBS_BUCKET}.{{job_id}}",
            f"A job at a glance, in the key-value bucket {JOBS_BUCKET}; always JSON.",
            {"job_id": job_id},
            ["JobStatus"],
        ),
        "cancelRequests": _channel(
            "followers.cancel.{job_id}",
            "Requests to cancel a job; the body is ignored.",
            {"job_id": job_id},
            ["JobRequest"],
        ),
        "statusRequests": _channel(
            "followers.status.{job_id}",
            "Requests for a job's status; the body is ignored.",
            {"job_id": job_id},
            ["JobRequest"],
        ),
        "feeds": _channel(
            f"$KV.{FEEDS_BUCKET}.{{provider}}.{{account}}.{{oa_id}}.{{filter}}",
            f"Where a feed of changes stands, in the key-value bucket {FEEDS_BUCKET}; always JSON.",
            {
                "provider": provider,
                "account": {"description": f"The configured credentials: `{TOKEN_PATTERN}`."},
                "oa_id": oa_id,
                "filter": {"description": "`all`, or a hash of the filter."},
            },
            ["Feed"],
        ),
        "releaseRequests": _channel(
            "followers.release.{job_id}",
            "Requests to publish the changes of a job that are held back; the body is ignored.",
            {"job_id": job_id},
            ["JobRequest"],
        ),
        "answers": {
            "address": None,
            "description": "The reply subject of a request; it must start with `_INBOX`.",
            "messages": {struct.__name__: _ref("messages", struct.__name__) for struct in (*ANSWERS, Feed)},
        },
    }


def _channel(address: str, description: str, parameters: dict[str, Any], messages: list[str]) -> dict[str, Any]:
    return {
        "address": address,
        "description": description,
        "parameters": parameters,
        "messages": {name: _ref("messages", name) for name in messages},
    }


def _operations() -> dict[str, Any]:
    def operation(action: str, channel: str, summary: str, **rest: Any) -> dict[str, Any]:
        return {"action": action, "channel": {"$ref": f"#/channels/{channel}"}, "summary": summary, **rest}

    def answers(*structs: type[Any]) -> dict[str, Any]:
        return {
            "channel": {"$ref": "#/channels/answers"},
            "messages": [{"$ref": f"#/channels/answers/messages/{struct.__name__}"} for struct in structs],
        }

    answered = answers(*ANSWERS)
    by_one = {"nats": {"queue": CONTROL_QUEUE, "bindingVersion": "0.1.0"}}
    return {
        "fetchFollowers": operation("receive", "commands", "Take a command; publish one to start a job."),
        "publishPage": operation("send", "pages", "Append the next page of a job."),
        "publishJobEvent": operation("send", "jobEvents", "Say what happened to a job."),
        "publishChange": operation("send", "changes", "Say what has changed since the last complete list."),
        "updateFeed": operation("send", "feeds", "Write where a feed stands, by compare-and-set."),
        "releaseChanges": operation(
            "receive",
            "releaseRequests",
            "Publish the changes of a held job.",
            reply=answers(*RELEASE_ANSWERS),
            bindings=by_one,
        ),
        "buryCommand": operation("send", "deadLetters", "Keep a command that can't be done, with the reason."),
        "updateStatus": operation("send", "jobStatus", "Write a job's status, at most once a second."),
        "cancelJob": operation("receive", "cancelRequests", "Cancel a job wherever it is.", reply=answered),
        "askStatus": operation(
            "receive", "statusRequests", "Answer with a job's status.", reply=answered, bindings=by_one
        ),
    }


def _messages() -> dict[str, Any]:
    structs = {struct.__name__: struct for struct in (*COMMANDS, *EVENTS, *CHANGES, *ANSWERS, Feed)}
    messages = {name: _message(name, struct) for name, struct in structs.items()}
    letter = EXAMPLES["FetchFollowers"][0]
    error = EXAMPLES["FetchError"][0]
    messages["DeadLetter"] = {
        "name": "DeadLetter",
        "title": "A command that can't be done",
        "summary": "The command's own bytes and headers, unchanged, and these headers.",
        "contentType": "application/octet-stream",
        "headers": _ref("schemas", "DeadLetterHeaders"),
        "payload": {"description": "The command's own bytes; they need not be a valid command."},
        "examples": [
            {
                "headers": {
                    deadletters.JOB_ID: letter.id,
                    deadletters.ERROR_CODE: error.code,
                    deadletters.ERROR_MESSAGE: error.message,
                    deadletters.ATTEMPTS: "1",
                    deadletters.COMMAND_SEQUENCE: "17",
                    deadletters.FAILED_AT: rfc3339(AT),
                },
                "payload": _as_json(letter),
            }
        ],
    }
    messages["JobRequest"] = {
        "name": "JobRequest",
        "title": "A request about the job in the subject",
        "payload": {"description": "Ignored; leave it empty."},
    }
    return messages


def _message(name: str, struct: type[Any]) -> dict[str, Any]:
    found = [example for group in EXAMPLES.values() for example in group if type(example) is struct]
    message: dict[str, Any] = {
        "name": name,
        "title": _TITLES[name],
        "summary": (struct.__doc__ or "").strip().splitlines()[0],
        "contentType": JSON,
        "payload": _ref("schemas", name),
        "examples": [{"payload": _as_json(example)} for example in found],
    }
    if struct in (*EVENTS, *CHANGES):
        message["headers"] = _ref("schemas", "EventHeaders")
        message["description"] = f"`ce-type` is `{event_type(found[0])}`. MessagePack with `{MSGPACK}`."
        for number, example in enumerate(message["examples"]):
            example["headers"] = event_headers(found[number], id=_id(found[number]), time=AT)
    elif struct in COMMANDS:
        message["headers"] = _ref("schemas", "CommandHeaders")
        message["description"] = (
            f"MessagePack with `Content-Type: {MSGPACK}`. Unknown fields are refused by name. At most"
            f" {MAX_COMMAND_BYTES} bytes, labels and filter included."
        )
        message["examples"] = [{"headers": {"Nats-Msg-Id": "nightly-2026-11-23"}, **one} for one in message["examples"]]
    return message


def _id(event: Any) -> str:
    if isinstance(event, FollowerPage):
        return f"{event.page}.{event.part}"
    return f"change.{event.number}" if isinstance(event, CHANGES) else "end"


def _header_schemas() -> dict[str, Any]:
    content_type = {"enum": [JSON, MSGPACK], "description": "How the body is encoded; left out, it is JSON."}
    trace = {**_TEXT, "description": "W3C trace context, passed on from the command."}
    told = "How the body is encoded; a structured CloudEvent has what the ce- headers say in its body."
    event = {
        "Content-Type": {"enum": [JSON, MSGPACK, STRUCTURED], "description": told},
        "Nats-Msg-Id": {**_TEXT, "description": "Unique in the stream."},
        "ce-specversion": {"const": "1.0", "description": "CloudEvents 1.0, in binary mode."},
        "ce-id": {**_TEXT, "description": "Unique within `ce-source`: the job, and what in it."},
        "ce-source": {**_TEXT, "description": "`/followers/<provider>/<oa_id>`."},
        "ce-type": {**_TEXT, "description": "The kind of event."},
        "ce-subject": {**_TEXT, "description": "The job."},
        "ce-time": {**_TEXT, "format": "date-time", "description": "When it was published."},
    }
    letter = {
        deadletters.JOB_ID: "The job; the id that the message stands for where the command can't be read.",
        deadletters.MESSAGE_ID: "The `Nats-Msg-Id` under which the command was published.",
        deadletters.ERROR_CODE: "The error's `code`.",
        deadletters.ERROR_MESSAGE: "What happened and what to do.",
        deadletters.ATTEMPTS: "Requests made for the page that failed.",
        deadletters.COMMAND_SEQUENCE: "The command's sequence in FOLLOWERS_COMMANDS.",
        deadletters.GENERATION: "The generation of the job that failed; left out for the first.",
        deadletters.FAILED_AT: "When it failed, RFC 3339.",
        deadletters.BODY_BYTES: "The length of a body that was too long to be kept whole.",
        deadletters.HEADERS_DROPPED: "How many headers of the command had no room.",
    }
    needed = deadletters.ALWAYS - {deadletters.GENERATION}
    return {
        "CommandHeaders": _headers(
            {
                "Nats-Msg-Id": {**_TEXT, "description": "The job's id where the body has no `id`; also deduplicates."},
                "Content-Type": content_type,
                "traceparent": trace,
                deadletters.RETRY: {**_TEXT, "description": "Set by a retry: the dead letter's stream sequence."},
            },
            [],
        ),
        "EventHeaders": _headers({**event, "traceparent": trace}, ["Content-Type", "Nats-Msg-Id"]),
        "DeadLetterHeaders": _headers(
            {name: {**_TEXT, "description": text} for name, text in letter.items()},
            [name for name in letter if name in needed],
        ),
    }


def _as_json(message: Any) -> Any:
    return msgspec.json.decode(encode(message))


def _headers(properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    return {"type": "object", "properties": properties} | ({"required": required} if required else {})


def _ref(kind: str, name: str) -> dict[str, str]:
    return {"$ref": f"#/components/{kind}/{name}"}


def _draft_07(node: Any) -> Any:
    """Return a schema as AsyncAPI's own dialect has it: in draft 7 nothing beside a `$ref` counts."""
    if isinstance(node, list):
        return [_draft_07(child) for child in node]
    if not isinstance(node, dict):
        return node
    kept = {name: _draft_07(child) for name, child in node.items() if name != "discriminator"}
    if "$ref" in kept and len(kept) > 1:
        return {"allOf": [{"$ref": kept.pop("$ref")}], **kept}
    return kept
