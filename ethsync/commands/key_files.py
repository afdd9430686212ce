"""Files with private keys that people name on the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ethsync.discovery.identity import read_node_key
from ethsync.errors import ConfigError, DatadirDamaged

if TYPE_CHECKING:
    from pathlib import Path

    import coincurve


def read_key_file(path: Path) -> coincurve.PrivateKey:
    """Read a key as geth writes it. Raises ConfigError if there is none, or others may use the file."""
    try:
        return read_node_key(path)
    except OSError as error:
        hint = "name a file that holds a private key"
        raise ConfigError(f"{path} cannot be read: {error.strerror}", hint=hint) from error
    except DatadirDamaged as error:
        raise ConfigError(f"{path} holds no private key", hint="it should be 64 hexadecimal digits") from error
