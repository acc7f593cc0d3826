"""JSON as a Go server reads it: keys in any case, unknown ones ignored, exact types (PROVIDERS 1.2)."""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from worker.providers.etelecom.simulator.twirp import TwirpError
from worker.simulators.data import micros

_INT64 = 2**63


class Fields:
    """The fields of one JSON object, each read as its Go type."""

    def __init__(self, value: object, struct: str) -> None:
        if value is not None and not isinstance(value, dict):
            raise _undecodable(f"cannot unmarshal {_kind(value)} into Go value of type {struct}")
        self._values = lowered(value or {})
        self._struct = struct

    def text(self, name: str) -> str:
        value = self._values.get(name)
        if value is not None and not isinstance(value, str):
            raise self._wrong(name, value, "string")
        return value or ""

    def text_list(self, name: str) -> list[str]:
        items = [item for item in self._list(name) if isinstance(item, str)]
        if len(items) != len(self._list(name)):
            raise self._wrong(name, None, "string")
        return items

    def boolean(self, name: str) -> bool | None:
        value = self._values.get(name)
        if value is not None and not isinstance(value, bool):
            raise self._wrong(name, value, "bool")
        return value

    def limit(self) -> int:
        value = self._values.get("limit")
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise self._wrong("limit", value, "int32")
        return value or 0

    def int64(self, name: str) -> int:
        return self._int64(name, self._values.get(name))

    def int64_list(self, name: str) -> list[int]:
        return [self._int64(name, item) for item in self._list(name)]

    def moment(self, name: str) -> int | None:
        text = self.text(name)
        if not text:
            return None
        try:
            moment = datetime.fromisoformat(text) if "T" in text else None
        except ValueError:
            moment = None
        if moment is None or moment.tzinfo is None:
            raise _undecodable(f'parsing time "{text}" as RFC 3339: cannot parse')
        return micros(moment)

    def enum(self, name: str, names: tuple[str, ...]) -> str:
        value = self._values.get(name)
        if value is None or value == "":
            return names[0]
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(names):
            return names[value]
        if isinstance(value, str) and value in names:
            return value
        raise _undecodable(f"invalid value {value!r} for enum {name}")

    def _list(self, name: str) -> list[object]:
        value = self._values.get(name)
        if value is not None and not isinstance(value, list):
            raise self._wrong(name, value, "[]string")
        return value or []

    def _int64(self, name: str, value: object) -> int:
        if value is None or value == "":
            return 0
        if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,19}", value):
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not -_INT64 <= value < _INT64:
            raise self._wrong(name, value, "int64")
        return value

    def _wrong(self, name: str, value: object, kind: str) -> TwirpError:
        target = f"Go struct field {self._struct}.{name} of type {kind}"
        return _undecodable(f"cannot unmarshal {_kind(value)} into {target}")


def lowered(value: Mapping[Any, object]) -> dict[str, object]:
    """Go matches JSON keys whatever their case."""
    return {str(key).lower(): item for key, item in value.items()}


def _undecodable(cause: str) -> TwirpError:
    return TwirpError("malformed", "the json request could not be decoded", cause=f"json: {cause}")


def _kind(value: object) -> str:
    kinds = {bool: "bool", str: "string", int: "number", float: "number", list: "array", dict: "object"}
    return kinds.get(type(value), "value")
