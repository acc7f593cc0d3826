"""dlt's REST client alone: it fetches and decodes, nothing is published or stored.

`python -m tests.bench.rivals.dlt_client PROVIDER NATS` (the second is not used)
"""

import sys

from dlt.sources.helpers.rest_client import RESTClient
from dlt.sources.helpers.rest_client.auth import BearerTokenAuth
from dlt.sources.helpers.rest_client.paginators import JSONResponseCursorPaginator

from tests.bench.rivals import ETELECOM, Run, obey_plainly


def client(provider: str) -> RESTClient:
    """Return a client as dlt's guide makes one for a cursor that goes into a POST's body."""
    return RESTClient(
        base_url=provider,
        auth=BearerTokenAuth("1:key"),
        paginator=JSONResponseCursorPaginator(cursor_path="paging.next", cursor_body_path="paging.after"),
        data_selector="followers",
    )


def main(provider: str) -> None:
    """Do each run that is asked for, one job after the other."""
    rest = client(provider)

    def do(run: Run) -> int:
        pages = 0
        for _ in run.jobs:
            body = {"filter": {"oa_id": run.oa_id}, "paging": {"limit": 50}}
            pages += sum(1 for page in rest.paginate(ETELECOM, method="POST", json=body) if page)
        return pages

    obey_plainly(do)


if __name__ == "__main__":
    main(sys.argv[1])
