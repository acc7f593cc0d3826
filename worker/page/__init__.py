"""The live page: what jobs and accounts do, in the browser, for people; nothing of it is needed for correctness.

`server` answers HTTP; `hub` keeps one watch for all viewers of this replica, and none while nobody looks; `board` is
what the watch has told; `view` is what of that goes to a browser; `reference` makes the AsyncAPI document readable.
"""

from worker.page.ports import AccountView, Sources, SourceUnavailableError, Steering
from worker.page.server import Page

__all__ = ["AccountView", "Page", "SourceUnavailableError", "Sources", "Steering"]
