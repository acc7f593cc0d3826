"""`followers demo`."""

from worker.cli.console import examples

EXAMPLES = examples(("followers demo", "x"))


def demo() -> None:
    """See all of it at work."""
