"""The sponge of Keccak-256, one message per vector lane (`compiler.LANES` of them)."""
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from ethsync.kernels.compiler import intrinsic

RATE = 136
"""Bytes absorbed per permutation: 1600 bits of state less twice the 256-bit digest."""

RATE_WORDS = RATE // 8
STATE_WORDS = 25  # of 64 bits each, as Keccak-f[1600] has them


@intrinsic
def absorb(state_address, block_addresses):
    """Absorb one 136-byte block per lane and permute.

    `state_address`: 25 rows of LANES uint64. `block_addresses`: address of LANES int64, each the address of a block.
    """


@intrinsic
def permutation(state_address):
    """Permute the state of all lanes: 25 rows of LANES uint64."""
