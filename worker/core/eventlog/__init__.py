"""The events of a job in the log: appended on condition, read, split."""
