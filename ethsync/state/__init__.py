"""State as columns: leaves, tries, range proofs and pages. Pure functions over NumPy arrays, no I/O."""
