"""Commands that are published by themselves."""
