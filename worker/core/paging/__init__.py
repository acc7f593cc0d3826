"""Reading a provider's list, page by page, and what may be claimed of it."""
