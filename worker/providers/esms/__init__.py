"""eSMS (PROVIDERS 2)."""
