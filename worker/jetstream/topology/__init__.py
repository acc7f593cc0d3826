"""What there must be on the server, who may do what, and what differs."""
