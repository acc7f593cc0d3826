"""nats-py, and all that we change about it."""
