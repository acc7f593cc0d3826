"""Logs of libraries that set up logging while they are imported, in a fresh process."""

import json
import subprocess
import sys


def test_faststream_writes_through_the_same_door_and_not_to_stdout() -> None:
    script = (
        "import logging, faststream.nats\n"
        "from worker.logs import configure\n"
        "configure('info', 'json')\n"
        "logging.getLogger('faststream').error('broker is gone')\n"
        "logging.getLogger('faststream').info('FastStream app starting')\n"
    )

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout == ""
    assert json.loads(done.stderr)["event"] == "broker is gone"
