"""The AsyncAPI document as a page: plain HTML, made here, without a script."""

import re
from functools import cache
from html import escape
from typing import Any

import msgspec

from schemas.asyncapi import document


@cache
def asyncapi_json() -> bytes:
    """Return the document as JSON."""
    return msgspec.json.format(msgspec.json.encode(document()), indent=2)


@cache
def asyncapi_html() -> str:
    """Return the document as a page."""
    doc = document()
    info, channels, messages = doc["info"], doc["channels"], doc["components"]["messages"]
    body = "".join(
        [
            f"<p>{_text(info['description'])} Version {_text(info['version'])}; "
            '<a href="asyncapi.json">AsyncAPI 3 as JSON</a>.</p>',
            "<nav>",
            *(f'<a href="#{name}">{_text(name)}</a> ' for name in (*channels, *messages)),
            "</nav><h2>Channels</h2>",
            *(_channel(doc, name, channel) for name, channel in channels.items()),
            "<h2>Messages</h2>",
            *(_message(doc, name, message) for name, message in messages.items()),
        ]
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><title>followers · messages</title>'
        '<link rel="icon" href="icon.svg"><link rel="stylesheet" href="page.css"></head>'
        '<body class="reference"><header><h1><a href=".">followers</a></h1><span>messages</span></header>'
        f"<main>{body}</main></body></html>"
    )


def _channel(doc: dict[str, Any], name: str, channel: dict[str, Any]) -> str:
    acts = [
        f"<li>the worker <b>{'takes' if one['action'] == 'receive' else 'publishes'}</b>: {_prose(one['summary'])}</li>"
        for one in doc["operations"].values()
        if one["channel"]["$ref"] == f"#/channels/{name}"
    ]
    links = " ".join(f'<a href="#{message}">{_text(message)}</a>' for message in channel["messages"])
    return (
        f'<section id="{_text(name)}"><h3><code>{_text(channel["address"] or "the reply subject")}</code></h3>'
        f"<p>{_prose(channel['description'])}</p><ul>{''.join(acts)}</ul><p>Messages: {links}</p></section>"
    )


def _message(doc: dict[str, Any], name: str, message: dict[str, Any]) -> str:
    schemas = doc["components"]["schemas"]
    tables = [
        f"<h4>{title}</h4>{_table(schemas, _target(message[part]))}"
        for title, part in (("Body", "payload"), ("Headers", "headers"))
        if "$ref" in message.get(part, {})
    ]
    examples = [
        f"<details><summary>Example</summary><pre>{_text(_pretty(one))}</pre></details>"
        for one in message.get("examples", ())
    ]
    words = " ".join(message[key] for key in ("summary", "description") if key in message)
    return (
        f'<section id="{_text(name)}"><h3>{_text(name)}</h3><p>{_prose(words or message["title"])}</p>'
        f"{''.join(tables)}{''.join(examples)}</section>"
    )


def _table(schemas: dict[str, Any], name: str) -> str:
    schema = schemas[name]
    rows = [
        f"<tr><td><code>{_text(field)}</code>{'' if field in schema.get('required', ()) else ' <i>optional</i>'}</td>"
        f"<td>{_text(_kind(one))}</td><td>{_prose(_description(one))}</td></tr>"
        for field, one in schema.get("properties", {}).items()
    ]
    inner = [part for one in schema.get("properties", {}).values() for part in _parts(one)]
    below = "".join(f"<h4>{_text(part)}</h4>{_table(schemas, part)}" for part in dict.fromkeys(inner))
    return f'<div class="scroll"><table>{"".join(rows)}</table></div>{below}'


def _kind(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return _target(schema)
    for word in ("allOf", "anyOf"):
        if word in schema:
            return " or ".join(_kind(one) for one in schema[word])
    if "enum" in schema:
        return " ".join(map(str, schema["enum"]))
    if schema.get("type") == "array":
        return f"list of {_kind(schema['items'])}"
    return str(schema.get("format") or schema.get("type") or schema.get("const") or "anything")


def _parts(schema: dict[str, Any]) -> list[str]:
    if "$ref" in schema:
        return [_target(schema)]
    inner = [*schema.get("allOf", ()), *schema.get("anyOf", ()), *([schema["items"]] if "items" in schema else ())]
    return [part for one in inner for part in _parts(one)]


def _description(schema: dict[str, Any]) -> str:
    found = [schema.get("description"), *(one.get("description") for one in schema.get("anyOf", ()))]
    return next((text for text in found if text), "")


def _target(reference: dict[str, Any]) -> str:
    return str(reference["$ref"]).rpartition("/")[2]


def _pretty(example: Any) -> str:
    return msgspec.json.format(msgspec.json.encode(example), indent=2).decode()


def _prose(text: str) -> str:
    """Return `text` with what is between backticks as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", _text(text))


def _text(text: Any) -> str:
    return escape(str(text))
