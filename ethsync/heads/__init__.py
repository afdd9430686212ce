"""Which block is trusted, and by whom: a hash, a consensus client that is asked, or one that drives us."""
