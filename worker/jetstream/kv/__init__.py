"""What replicas share in buckets."""
