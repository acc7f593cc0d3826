"""The one HTTP client of all providers, and what their answers share."""
