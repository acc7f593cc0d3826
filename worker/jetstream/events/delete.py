"""Deleting one message from a stream."""

import nats.js.errors
from nats.js import JetStreamContext


async def delete_message(js: JetStreamContext, stream: str, sequence: int) -> bool:
    """Delete a message; return False when it was gone already. Raises nats-py's errors."""
    try:
        await js.delete_msg(stream, sequence)
    except nats.js.errors.APIError as error:
        # "There is none" has one code for a server that is alone, others in a cluster: look.
        try:
            await js.get_msg(stream, seq=sequence)
        except nats.js.errors.NotFoundError:
            return False
        raise error
    return True
