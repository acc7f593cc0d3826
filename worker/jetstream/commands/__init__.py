"""The work queue of commands."""
