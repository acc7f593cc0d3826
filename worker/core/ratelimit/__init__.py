"""When the next request to a provider may go out."""
