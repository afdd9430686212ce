"""Serving state to others: snap/1 and eth/68 to eth/71 from a data directory, and synthetic state to serve."""
