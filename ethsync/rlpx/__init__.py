"""The encrypted transport of devp2p (RLPx). Everything but `connection` is sans-I/O."""
