"""State as columns: leaves, tries, range proofs and pages. Pure functions over NumPy arrays; only `view` and
`paged` read a data directory."""
