"""Nodes that wait to be hashed, so that the lanes of the hash function are full: one queue for each number of blocks.

A node is written at the place that `claim` returns and given to `settle`, in turn. Callers bring the room: message
(MESSAGE_BYTES,) uint8 holds the nodes, target (MAX_BLOCKS, LANES) the rows that their references go to, fill
(MAX_BLOCKS,) how many wait in each queue; state and blocks are the hash function's. refs (n, 4) uint64 and sizes (n,)
uint8 take the references.
"""
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from ethsync.kernels.compiler import LANES, inlined
from ethsync.kernels.memory import address, copy, load8, store8, zero
from ethsync.kernels.sponge import RATE, absorb

MAX_BLOCKS = 4
"""A branch with 16 hashes is 532 bytes: four blocks of 136. Longer leaves are refused (accounts have at most 148)."""

LONGEST_NODE = MAX_BLOCKS * RATE - 1
"""Bytes: the padding takes one at least."""

SLOT = (MAX_BLOCKS + 1) * RATE
"""Bytes for one waiting node. What is written wider than needed, and the padding, may run into the last block."""

MESSAGE_BYTES = MAX_BLOCKS * LANES * SLOT
"""Room for the nodes of all queues."""


@inlined
def flush(queue, message, target, fill, state, blocks, refs):
    """Hash the waiting messages of one queue (queue q holds messages of q + 1 blocks) into their reference rows."""
    live = fill[queue]
    if live == 0:
        return
    base = address(message) + queue * LANES * SLOT
    state[:] = 0
    for i in range(queue + 1):
        for lane in range(LANES):
            blocks[lane] = base + (lane if lane < live else 0) * SLOT + i * RATE
        absorb(address(state), address(blocks))
    for lane in range(live):
        row = target[queue, lane]
        for word in range(4):
            refs[row, word] = state[word, lane]
    fill[queue] = 0


@inlined
def flush_all(message, target, fill, state, blocks, refs):
    """Hash whatever waits in any queue."""
    for queue in range(MAX_BLOCKS):
        flush(queue, message, target, fill, state, blocks, refs)


@inlined
def claim(size, message, target, fill, state, blocks, refs):
    """Return the address where a node of `size` bytes is to be written."""
    queue = size // RATE
    if fill[queue] == LANES:
        flush(queue, message, target, fill, state, blocks, refs)
    return address(message) + (queue * LANES + fill[queue]) * SLOT


@inlined
def settle(at, size, row, force, target, fill, refs, sizes):
    """A node is written at `at`: pad and queue it for hashing, or embed it if it is short and not a root."""
    if size < 32 and not force:
        copy(address(refs) + row * 32, at, size)
        sizes[row] = size
        return
    queue = size // RATE
    last = at + (queue + 1) * RATE - 1
    zero(at + size, RATE)
    store8(at + size, 0x01)
    store8(last, load8(last) | 0x80)
    target[queue, fill[queue]] = row
    fill[queue] += 1
    sizes[row] = 32
