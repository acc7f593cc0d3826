"""From a delivered message to a job, or to a clear reason why there is none."""

import hashlib
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from schemas import deadletters
from schemas.commands import (
    MAX_COMMAND_BYTES,
    EsmsFilter,
    EtelecomFilter,
    FetchEtelecomFollowers,
    FetchFollowers,
    too_large,
)
from schemas.subjects import command_subject, is_token, provider_of
from schemas.types import Provider
from schemas.wire import JSON, UnknownContentTypeError, content_type, decode, encoding_of, is_structured
from worker.core.errors import FatalError, InvalidCommandError, UnsupportedError
from worker.core.job import Address, Failure, Job
from worker.core.ports.delivery import CommandMessage

LOOKED_INTO = 2**20
"""Bytes of a command that is too large up to which its fields are looked at, to name the largest."""
MSG_ID_HEADER = "Nats-Msg-Id"
_UNKNOWN_FIELD = re.compile(r"unknown field `([^`]*)`")
_QUOTED_VALUE = re.compile(r"'[^']*'")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f-]{1,120}")
_FIELDS = frozenset(FetchEtelecomFollowers.__struct_fields__)
_NUMBER = re.compile(r"[0-9]{1,19}", re.ASCII)
_NAMES: dict[Provider, str] = {"etelecom": "eTelecom", "esms": "eSMS"}


class RejectedError(Exception):
    """The message is no valid command; `address` is None where provider, OA or id can't be read."""

    def __init__(self, error: FatalError, job_id: str, address: Address | None) -> None:
        """Keep why, the job id that the message stands for all the same, and where a `failed` event can go."""
        super().__init__(error.message)
        self.error = error
        self.job_id = job_id
        self.address = address


class IdTakenError(RejectedError):
    """The command is valid, but its id is another job's."""


def read_job(delivery: CommandMessage) -> Job:
    """Return the job that `delivery` asks for. Raises RejectedError, and nothing else."""
    provider = provider_of(delivery.subject)
    try:
        command = _decode(delivery, provider)
    except FatalError as error:
        fields = _loosely(delivery)
        given = fields.get("id")
        job_id = given if isinstance(given, str) and is_token(given) else _implied_id(delivery)
        # An id that is there and wrong names no job: an event under another one would only confuse.
        address = _address(fields, provider, job_id) if given in (None, job_id) else None
        raise RejectedError(error, job_id, address) from error
    address = Address(
        provider=provider,
        oa_id=command.oa_id,
        job_id=command.id or _implied_id(delivery),
        account=command.account,
        labels=command.labels,
    )
    return Job(
        command=command,
        address=address,
        sequence=delivery.sequence,
        traceparent=traceparent(delivery),
        retry_of=retry_of(delivery),
    )


def traceparent(delivery: CommandMessage) -> str | None:
    """Return the command's W3C trace context, if it has one that looks like it: it travels on each event."""
    given = header(delivery, "traceparent") or ""
    return given if _TRACEPARENT.fullmatch(given) else None


def retry_of(delivery: CommandMessage) -> Failure | None:
    """Return what `delivery` retries, None when it is no retry."""
    sequence = header(delivery, deadletters.RETRY) or ""
    generation = header(delivery, deadletters.GENERATION) or "1"
    if not (_NUMBER.fullmatch(sequence) and _NUMBER.fullmatch(generation)):
        return None
    return Failure(int(sequence), int(generation))


def header(delivery: CommandMessage, name: str) -> str | None:
    """Return the header `name`, whatever its case, or None."""
    return next((value for known, value in delivery.headers.items() if known.lower() == name.lower()), None)


def _decode(delivery: CommandMessage, provider: Provider) -> FetchFollowers:
    if reason := _too_large(delivery):
        raise InvalidCommandError(reason)
    if not delivery.data:
        raise InvalidCommandError('the command is empty: send an object such as {"provider": …, "oa_id": …}')
    try:
        command: FetchFollowers = decode(delivery.data, FetchFollowers, _body_type(delivery))
    except UnknownContentTypeError as error:
        raise InvalidCommandError(str(error)) from error
    except msgspec.ValidationError as error:
        raise _explain(error, provider) from error
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise InvalidCommandError(
            f"the command can't be decoded ({_plain(str(error))}): "
            "send JSON, or MessagePack with Content-Type application/msgpack"
        ) from error
    if command.provider != provider:
        raise InvalidCommandError(
            f"`provider` is {command.provider!r} but the subject is that of {provider!r}: "
            f"publish it on {command_subject(command.provider)}"
        )
    return command


def _too_large(delivery: CommandMessage) -> str | None:
    size = len(delivery.data)
    if size <= MAX_COMMAND_BYTES:
        return None
    # Names of unknown fields are the sender's own words: only ours are told.
    known = {name: value for name, value in _loosely(delivery, LOOKED_INTO).items() if name in _FIELDS}
    try:
        return too_large(size, known)
    except (msgspec.MsgspecError, TypeError, ValueError, RecursionError):
        return too_large(size, {})  # MessagePack may hold what JSON can't


def _body_type(delivery: CommandMessage) -> str | None:
    """Return the command's Content-Type, JSON's for all that isn't MessagePack's: clients put there what they like.

    Raises UnknownContentTypeError for an envelope, in which an event may be and a command may not.
    """
    given = content_type(delivery.headers)
    try:
        encoding_of(given)
    except UnknownContentTypeError:
        if is_structured(given):
            raise
        return JSON
    return given


def _explain(error: msgspec.ValidationError, provider: Provider) -> FatalError:
    text = str(error)
    unknown = _UNKNOWN_FIELD.search(text)
    if unknown is None:
        if "`$.provider`" in text or "required field `provider`" in text:
            return InvalidCommandError('`provider` must be "etelecom" or "esms", as the last token of the subject says')
        if " - at `" not in text and text.startswith("Expected `object`"):
            return InvalidCommandError(
                f"the command is no object ({_plain(text)}) when read as its Content-Type says: "
                "send an object, as JSON, or as MessagePack with Content-Type application/msgpack"
            )
        return InvalidCommandError(f"the command is invalid: {_plain(text)}; correct that field and publish it again")
    name, where = unknown.group(1), "filter." if "$.filter" in text else ""
    if name in _fields_of_others(provider, filter=bool(where)):
        return UnsupportedError(f"{_NAMES[provider]} can't do `{where}{name}`: leave it out")
    return InvalidCommandError(
        f"the command has the unknown field `{_plain(where + name)}`: correct its name or leave it out"
    )


def _fields_of_others(provider: Provider, *, filter: bool) -> set[str]:
    if not filter:
        return set() if provider == "etelecom" else {"sort"} & set(FetchEtelecomFollowers.__struct_fields__)
    other = EsmsFilter if provider == "etelecom" else EtelecomFilter
    return set(other.__struct_fields__)


def _plain(text: str) -> str:
    # A wrong value may be a phone number or a name: keep the field's path, drop what stood in it.
    printable = "".join(character if character.isprintable() else "?" for character in text)
    if not printable.startswith("Expected"):
        printable = _QUOTED_VALUE.sub("(value)", printable)
    return printable[:300]


def _implied_id(delivery: CommandMessage) -> str:
    named = header(delivery, MSG_ID_HEADER)
    if retry_of(delivery) is not None:
        # Its message id is that of the retry: the job keeps the name that it had.
        named = header(delivery, deadletters.JOB_ID) or header(delivery, deadletters.MESSAGE_ID)
    if named is None:
        return f"t{delivery.timestamp_us}-{delivery.sequence}"
    if is_token(named):
        return named
    # Not usable in a subject, but still the publisher's idempotency key: the same text gives the same job.
    return f"m{hashlib.sha256(named.encode()).hexdigest()[:40]}"


def _address(fields: Mapping[str, Any], provider: Provider, job_id: str) -> Address | None:
    oa_id, account = fields.get("oa_id"), fields.get("account")
    if not (isinstance(oa_id, str) and is_token(oa_id)):
        return None
    return Address(
        provider=provider,
        oa_id=oa_id,
        job_id=job_id,
        account=account if isinstance(account, str) and is_token(account) else None,
        labels=_labels(fields.get("labels")),
    )


def _loosely(delivery: CommandMessage, most: int = MAX_COMMAND_BYTES) -> dict[str, Any]:
    try:
        fields: Any = decode(delivery.data[:most], Any, _body_type(delivery))
    except (msgspec.MsgspecError, UnknownContentTypeError, ValueError, RecursionError):
        return {}
    return fields if isinstance(fields, dict) else {}


def _labels(labels: Any) -> dict[str, str]:
    valid = isinstance(labels, dict) and len(labels) <= 16
    pairs = labels.items() if valid else ()
    return {
        key: value
        for key, value in pairs
        if isinstance(key, str) and isinstance(value, str) and 1 <= len(key) <= 64 and len(value) <= 256
    }
