"""The digest of a job's pages: a chain over the user ids of all of them, so that none can be taken out or altered.

Each message of a job's pages, each part of a page too, has::

    digest = SHA-256( the 32 bytes of the digest before it  +  for each follower: user_id in UTF-8, then b"\\n" )

in lower-case hex; before the first message stand 32 zero bytes. A message without followers hashes the digest before
it and nothing else, so it moves the chain on like any other.
"""

from collections.abc import Iterable
from hashlib import sha256

from schemas.follower import Follower

START = "0" * 64
"""What stands before the first message."""


def next_digest(before: str, followers: Iterable[Follower]) -> str:
    """Return the digest of a message with `followers`; `before` is that of the message before it, or START.

    Raises ValueError when `before` is no hex text.
    """
    ids = [follower.user_id for follower in followers]
    ids.append("")  # the last one ends with a line's end, too
    return sha256(bytes.fromhex(before) + "\n".join(ids).encode()).hexdigest()
