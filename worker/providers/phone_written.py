"""How a phone is written: its digits, and the signs between them, which say how it must not be read."""

import re
from dataclasses import dataclass

_WRITTEN = re.compile(r"([\s.()\[\]+]*)([0-9][0-9\s.\-()\[\]]*)", re.ASCII)
"""A dash before the digits would be a minus; a slash stands between two numbers."""
_BRACKETS = frozenset("()[]")
_GROUP = re.compile(r"([^0-9]*)([0-9]+)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Written:
    """One number as it is written."""

    digits: str
    """Without the `00` of international calls."""
    international: bool
    """Whether it began with `+` or `00`."""
    joints: dict[int, str]
    """The signs within it, by the number of digits before them."""

    def begins_with(self, code: str) -> bool:
        """Return whether these are its first digits, with no sign between them."""
        return self.digits.startswith(code) and not any(at in self.joints for at in range(1, len(code)))

    def has_bracket_after(self, start: int) -> bool:
        """Return whether it has a bracket after more than its first `start` digits."""
        return any(at > start and not _BRACKETS.isdisjoint(signs) for at, signs in self.joints.items())

    def ends_in_a_range(self) -> bool:
        """Return whether a dash is before its last digit, as in 3825 1230-4: five numbers."""
        return "-" in self.joints.get(len(self.digits) - 1, "")

    def without_trunk(self, code: int) -> str:
        """Return its digits without a `(0)` after the first `code` of them."""
        before, after = self.joints.get(code, ""), self.joints.get(code + 1, "")
        bracketed = ("(" in before and ")" in after) or ("[" in before and "]" in after)
        if not (bracketed and self.digits[code] == "0"):
            return self.digits
        return self.digits[:code] + self.digits[code + 1 :]


def written(plain: str) -> Written | None:
    """Return the number that is written there; None where no number has such signs, or one divides its `00`."""
    found = _WRITTEN.fullmatch(plain)
    if found is None:
        return None
    groups = _GROUP.findall(found[2])
    digits, joints = "", {}
    for signs, group in groups:
        if digits:
            joints[len(digits)] = signs
        digits += group
    if "+" in found[1]:
        return Written(digits, True, joints)
    if digits[:2] != "00":
        return Written(digits, False, joints)
    if 1 in joints or len(digits) == 2:
        return None
    return Written(digits[2:], True, {at - 2: signs for at, signs in joints.items()})
