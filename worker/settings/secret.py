"""Credentials that never print themselves; both kinds satisfy ``worker.core.account.Secret``."""

from pathlib import Path
from typing import Any, NoReturn

import structlog

_MASK = "********"


class SecretFileError(ValueError):
    """A secret's file is missing, unreadable or empty; the message names the path, never the content."""


class _Masked:
    """Masked in ``str()``, ``repr()`` and format strings, and refused by pickle."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the current value. Raises nothing."""
        return self._value

    def __repr__(self) -> str:
        return f"{type(self).__name__}('{_MASK}')"

    def __str__(self) -> str:
        return _MASK

    # A settings tree may be copied, but a secret that can be pickled ends up in a cache or a traceback dump.
    def __copy__(self) -> "_Masked":
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Masked":
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret can't be pickled: pass the settings file's path and load it there")


class TextSecret(_Masked):
    """A secret written in the settings themselves."""

    __slots__ = ()

    def reload(self) -> bool:
        """Return False: there is no file to read again."""
        return False


class FileSecret(_Masked):
    """A secret in a file of its own, without the newline at its end. Raises SecretFileError when made."""

    __slots__ = ("path",)

    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__(_read(path))

    def reload(self) -> bool:
        """Read the file again; True when the value has changed.

        A file that can't be read just now (a secret being swapped) keeps the old value, returns False and is
        logged as ``secret.reload_failed``.
        """
        try:
            value = _read(self.path)
        except SecretFileError as error:
            structlog.get_logger(__name__).warning("secret.reload_failed", error=str(error))
            return False
        changed = value != self._value
        self._value = value
        return changed


def _read(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise SecretFileError(f"the file {path} does not exist; create it or correct the path") from error
    except UnicodeDecodeError:
        # Without a cause: the decoder's error carries the bytes that it could not read.
        raise SecretFileError(f"the file {path} is not UTF-8 text") from None
    except OSError as error:
        raise SecretFileError(f"the file {path} can't be read: {error.strerror}") from error
    try:
        return one_line(text)
    except ValueError as error:
        raise SecretFileError(f"the file {path} {error}") from error


def one_line(text: str) -> str:
    """Return the secret without the newline at its end. Raises ValueError unless one line is left."""
    value = text.rstrip("\r\n")
    if not value.strip():
        raise ValueError("is empty; write the secret into it")
    if any(ord(character) < 32 or ord(character) == 127 for character in value):
        raise ValueError("holds a line break or another control character; it must be the secret alone")
    return value
