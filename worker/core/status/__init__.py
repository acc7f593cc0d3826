"""Why a job doesn't move, and the answers to questions about it."""
