"""`followers worker`: run one replica."""

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

    On SIGTERM or Ctrl-C it finishes the page in hand, gives its jobs back and exits with 0.
    """

    def work() -> int:
        # The settings first: what is wrong with them is said before anything slow is imported.
        settings = load_settings(context, config)
        from worker import app, logs

        logs.configure(settings.log.level, settings.log.format)
        return app.run(settings)

    guarded(work)
