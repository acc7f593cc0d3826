"""eTelecom (PROVIDERS 1)."""
