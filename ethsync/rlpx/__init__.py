"""The encrypted transport of devp2p (RLPx). `link` and `connection` do I/O, all else is sans-I/O."""
