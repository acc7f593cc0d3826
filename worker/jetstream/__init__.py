"""Adapters between the core's ports and NATS JetStream. nats-py's exceptions stop here."""
