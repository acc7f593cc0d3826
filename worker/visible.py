"""Text of others, fit for a terminal: what would steer it is shown as an escape and does nothing.

Steering are control characters (a title, a cleared screen, a forged line), signs that turn the direction of writing,
and other formatting that nobody sees. Data for programs is never changed so.
"""

import re
import unicodedata

_JOINERS = "\u200c\u200d"
"""Not seen, but many scripts and emoji aren't written without."""
_STEERING = ("Cc", "Cf", "Cs", "Zl", "Zp")
_NOT_ASCII_TEXT = re.compile(r"[^ -~]")


def visible(text: str, *, keep: str = "") -> str:
    r"""Return `text` with each steering character as its escape, such as `\x1b`; those in `keep` stay."""
    if text.isprintable():
        return text
    return _NOT_ASCII_TEXT.sub(lambda found: found[0] if found[0] in keep else _shown(found[0]), text)


def visible_json(document: bytes) -> bytes:
    r"""Return a JSON document as another that means the same, each steering character as JSON's own escape."""
    text = document.decode(errors="replace")
    if text.isprintable():
        return document
    return _NOT_ASCII_TEXT.sub(lambda found: _escaped(found[0]), text).encode()


def _shown(character: str) -> str:
    return character.encode("unicode_escape").decode() if _steers(character) else character


def _escaped(character: str) -> str:
    # Between JSON's tokens there may be lines; within its strings those are escapes already.
    if character in "\r\n\t" or not _steers(character):
        return character
    units = character.encode("utf-16-be").hex()
    return "".join(f"\\u{units[start : start + 4]}" for start in range(0, len(units), 4))


def _steers(character: str) -> bool:
    return character not in _JOINERS and unicodedata.category(character) in _STEERING
