"""The data directory: LevelDB databases, one per write pattern, and the one task that writes to them."""
