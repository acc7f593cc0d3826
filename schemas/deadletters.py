"""Headers of a dead letter, on `followers.dead.<provider>`, and of its retry; the body is the command's own bytes."""

JOB_ID = "Followers-Job-Id"
"""The job; where the command can't be read, the id that its message stands for all the same."""
MESSAGE_ID = "Followers-Msg-Id"
"""The `Nats-Msg-Id` under which the command was published."""
ERROR_CODE = "Followers-Error-Code"
ERROR_MESSAGE = "Followers-Error-Message"
ATTEMPTS = "Followers-Attempts"
"""Requests made for the page that failed."""
COMMAND_SEQUENCE = "Followers-Stream-Sequence"
"""The command's sequence in the command stream."""
GENERATION = "Followers-Generation"
"""The generation of the job that failed; left out for the first."""
FAILED_AT = "Followers-Failed-At"
BODY_BYTES = "Followers-Body-Bytes"
"""The length of a body that was too long to be kept whole."""
HEADERS_DROPPED = "Followers-Headers-Dropped"
"""How many headers of the command had no room."""

RETRY = "Followers-Retry"
"""On a command: it is the retry of the dead letter with this `Followers-Stream-Sequence`.

It bears the letter's `Followers-Generation`, and reopens a job that failed in this generation, unless that is the
failure of a later command. Its job id is the body's `id`, else the header `Followers-Job-Id`, else `Followers-Msg-Id`.
"""
ALWAYS = frozenset({JOB_ID, ERROR_CODE, ERROR_MESSAGE, ATTEMPTS, COMMAND_SEQUENCE, GENERATION, FAILED_AT})
"""What no letter may lose."""
NAMES = frozenset({JOB_ID, MESSAGE_ID, GENERATION})
"""What a retry keeps."""
OURS = ALWAYS | {MESSAGE_ID, BODY_BYTES, HEADERS_DROPPED, RETRY}
