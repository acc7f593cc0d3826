"""What we decide: from a command to pages to events. No network, no clock, no environment; they come in as arguments."""
