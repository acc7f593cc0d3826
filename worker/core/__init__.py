"""What we decide: from a command to pages to events. No network, clock or environment: they come in as arguments."""
