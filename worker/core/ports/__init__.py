"""What the core needs from outside. Each docstring is the contract that every implementation is tested against."""
