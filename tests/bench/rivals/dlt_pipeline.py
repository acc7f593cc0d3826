"""dlt as it is meant: the same REST client as a resource, loaded into DuckDB.

`python -m tests.bench.rivals.dlt_pipeline PROVIDER NATS` (the second is not used)
"""

import os
import sys
import tempfile
from collections.abc import Iterator

import dlt

from tests.bench.rivals import ETELECOM, Run, obey_plainly
from tests.bench.rivals.dlt_client import client


def main(provider: str) -> None:
    """Do each run that is asked for, one job after the other, each into a table of its own."""
    rest = client(provider)

    def do(run: Run) -> int:
        pages = 0

        def followers() -> Iterator[object]:
            nonlocal pages
            body = {"filter": {"oa_id": run.oa_id}, "paging": {"limit": 50}}
            for page in rest.paginate(ETELECOM, method="POST", json=body):
                pages += bool(page)
                yield page

        for job in run.jobs:
            pipeline = dlt.pipeline(job.replace("-", "_"), destination=dlt.destinations.duckdb(f"{job}.duckdb"))
            pipeline.run(dlt.resource(followers, name="followers", primary_key="zl_user_id"))
        return pages

    obey_plainly(do)


if __name__ == "__main__":
    os.environ.setdefault("RUNTIME__DLTHUB_TELEMETRY", "false")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["DLT_DATA_DIR"] = os.environ["DLT_PROJECT_DIR"] = folder
        os.chdir(folder)
        main(sys.argv[1])
