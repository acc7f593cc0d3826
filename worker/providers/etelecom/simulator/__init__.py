"""eTelecom over real HTTP on this machine."""
