"""The list of rules: a rule takes what is shipped and gives a line for each thing that is wrong."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from k8s.checks.shipped import Shipped
from worker.settings import SettingsError

Rule = Callable[[Shipped], Iterator[str]]
RULES: dict[str, Rule] = {}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is wrong, and which rule says so."""

    rule: str
    text: str


def rule(name: str) -> Callable[[Rule], Rule]:
    """Add the decorated function to the rules under `name`."""

    def add(check: Rule) -> Rule:
        assert name not in RULES, name
        RULES[name] = check
        return check

    return add


def findings(shipped: Shipped, *, without: Collection[str] = ()) -> list[Finding]:
    """Return what the rules find, all of them but those named in `without`."""
    import k8s.checks.rules  # noqa: F401 - fills RULES

    return [
        Finding(rule=name, text=text)
        for name, check in RULES.items()
        if name not in without
        for text in _found(check, shipped)
    ]


def _found(check: Rule, shipped: Shipped) -> Iterator[str]:
    # A document so broken that a rule stumbles over it is a finding too, not a reason to look no further.
    try:
        yield from check(shipped)
    except (LookupError, TypeError, AttributeError, ValueError, SettingsError) as error:
        yield f"can't be checked: {type(error).__name__}: {error}"
