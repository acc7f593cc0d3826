"""`followers worker`: run one replica."""

import typer

from worker.cli.console import ConfigFile, examples, perform
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

    async def work() -> int:
        settings = load_settings(context, config)
        from worker import app, logs

        logs.configure(settings.log)
        return await app.run_worker(settings)

    perform(work, fast_loop=True)
