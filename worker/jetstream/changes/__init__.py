"""Where feeds of changes keep what they compare."""
