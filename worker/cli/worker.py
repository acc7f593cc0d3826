"""`followers worker`: run one replica."""

import gc
import os
import signal
from types import FrameType

import typer

from worker.cli.console import ConfigFile, examples, guarded
from worker.cli.session import load_settings

EXAMPLES = examples(
    ("followers worker", "Run one replica with the settings of ./followers.toml."),
    ("followers worker --config /etc/followers.toml", "With another file."),
    ("FOLLOWERS_WORKER__MAX_JOBS=8 followers worker", "Each setting is also an environment variable."),
)


def worker(context: typer.Context, config: ConfigFile = None) -> None:
    """Run one worker.

    On SIGTERM it finishes the page in hand, gives its jobs back and exits with 0; on Ctrl-C the same with 130.
    """

    def work() -> int:
        # Process 1 of a container ignores a signal that it has no handler for: until FastStream has its own, which
        # is a second's imports away, a SIGTERM would be lost and the pod killed at the end of its grace period.
        signal.signal(signal.SIGTERM, _leave)
        # The settings first: what is wrong with them is said before anything slow is imported.
        settings = load_settings(context, config)
        # Nearly all that is imported stays: looking through it for garbage takes a tenth of the start.
        gc.disable()
        from worker import app, logs

        gc.enable()
        logs.configure(settings.log.level, settings.log.format)
        return app.run(settings)

    guarded(work)


def _leave(number: int, frame: FrameType | None) -> None:
    # Not by an exception: in the middle of an import it may be taken for the import's own failure. Nothing is open yet.
    os._exit(0)
