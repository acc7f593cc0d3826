"""From a list that is proven whole to what has changed since the one before."""
