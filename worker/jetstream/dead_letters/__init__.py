"""Commands that couldn't be done."""
