"""ethsync: fetch, prove and use Ethereum's whole state."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ethsync.api import open_state, open_state_now
    from ethsync.errors import EthsyncError, NotHeld

__version__ = "0.1.0"
__all__ = ["EthsyncError", "NotHeld", "__version__", "open_state", "open_state_now"]


def __getattr__(name: str) -> object:
    """Import the interface when it is first used: `ethsync --help` needs neither trio nor NumPy."""
    if name in ("open_state", "open_state_now"):
        from ethsync import api

        return getattr(api, name)
    if name in ("EthsyncError", "NotHeld"):
        from ethsync import errors

        return getattr(errors, name)
    raise AttributeError(f"module 'ethsync' has no attribute '{name}'")
