"""A command, from its delivery to its terminal event."""
