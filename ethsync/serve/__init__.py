"""Serving state to others: snap/1 and eth/68-69 from a data directory, and synthetic state to serve."""
