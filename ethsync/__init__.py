"""ethsync: fetch, prove and use Ethereum's whole state."""

__version__ = "0.1.0"
