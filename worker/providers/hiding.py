"""Taking out of a text what must not be repeated, also where it stands in part or written in another way."""

import base64
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator
from functools import lru_cache
from urllib.parse import quote

PART = 8
"""Characters of a hidden value that say too much of it, wherever in it they stand."""
_WORD = 3
"""Characters of a word of a hidden value (of a name, of a tag) that is taken out where it stands alone."""
_MOST = 64
"""Hidden values that are looked for in other writings, too: a filter may have a hundred tags."""
_STARS = "***"


def without(line: str, hidden: Iterable[str]) -> str:
    """Return `line` without the `hidden` values: whole ones, their words, and runs of `PART` characters of one.

    Case and diacritics make no difference, and neither does what stands between letters and digits. A value is also
    found in percent-encoding, Base64, hexadecimal, and JSON's and HTML's escapes.
    """
    values = tuple(sorted({value for value in hidden if value}, key=len, reverse=True))
    if not values:
        return line
    pattern, parts = _sought(values)
    covered = bytearray(len(line))
    # With what stands between, for keys whose parts are short, and without, for phones and names.
    _cover(covered, _folded(line), range(len(line)), parts)
    kept = [at for at, character in enumerate(line) if character.isalnum()]
    _cover(covered, _folded("".join(line[at] for at in kept)), kept, parts)
    for found in pattern.finditer(_folded(line)):
        covered[found.start() : found.end()] = b"\1" * (found.end() - found.start())
    for run in reversed(list(re.finditer(rb"\x01+", covered))):
        line = line[: run.start()] + _STARS + line[run.end() :]
    return line


def _cover(covered: bytearray, text: str, places: "range | list[int]", parts: frozenset[str]) -> None:
    """Mark what stands in `text` of `parts`; `places`: where each of its characters is in the line."""
    for start in range(len(text) - PART + 1):
        if text[start : start + PART] in parts:
            first, last = places[start], places[start + PART - 1]
            covered[first : last + 1] = b"\1" * (last + 1 - first)


# The same account and filter fail again and again while a provider is away.
@lru_cache(maxsize=16)
def _sought(values: tuple[str, ...]) -> tuple[re.Pattern[str], frozenset[str]]:
    """Return what finds the values and their words, and all runs of `PART` characters in any writing of one."""
    folded = {_folded(value) for value in values}
    words = {word for value in folded for word in re.findall(r"\w+", value) if _is_of_a_name(word)}
    # A short value would be found within other words.
    alone = sorted({value for value in folded if len(value) <= _WORD} | words, key=len, reverse=True)
    anywhere = sorted((value for value in folded if len(value) > _WORD), key=len, reverse=True)
    patterns = [*(re.escape(value) for value in anywhere), *(rf"(?<!\w){re.escape(one)}(?!\w)" for one in alone)]
    written = {one for value in values[:_MOST] for one in _writings(value)} | set(values)
    texts = {_folded(one) for one in written}
    texts |= {"".join(filter(str.isalnum, one)) for one in texts}
    parts = frozenset(text[at : at + PART] for text in texts for at in range(len(text) - PART + 1))
    return re.compile("|".join(patterns)), parts


def _is_of_a_name(word: str) -> bool:
    """Say whether `word` is more than a syllable, and no part of a key, which by itself says nothing of it."""
    return len(word) >= _WORD and word.isalpha()


def _writings(value: str) -> Iterator[str]:
    raw = value.encode("utf-8", "replace")
    yield quote(value, safe="")
    yield json.dumps(value)[1:-1]
    yield "".join(f"&#{ord(character)};" for character in value)
    yield "".join(f"&#x{ord(character):x};" for character in value)
    yield raw.hex()
    for before in range(3):
        # Behind so many other bytes it begins in another place of a group of four.
        text = base64.b64encode(bytes(before) + raw).decode().rstrip("=")[(0, 2, 3)[before] :]
        yield from (text, text.translate(str.maketrans("+/", "-_")))


def _folded(text: str) -> str:
    """Return `text` in lower case and without diacritics, each character in its place."""
    return text.lower() if text.isascii() else "".join(map(_base, text))


def _base(character: str) -> str:
    low = character.lower()
    plain = unicodedata.normalize("NFD", low[0])[0] if low else character
    return "d" if plain == "\u0111" else plain
