"""Keccak-256 of many messages at a time, one message per vector lane.

One instruction stream hashes eight messages on AVX-512 and four on AVX2 (`sponge`). Ethereum uses the original padding
0x01 … 0x80 with rate 136 (Yellow Paper, appendix B).
"""
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np

from ethsync.kernels.compiler import BYTES, INT, INTS, LANES, OUT_ROWS, kernel
from ethsync.kernels.memory import address, copy, outside, scratch, scratch_rows, zero
from ethsync.kernels.sponge import RATE, STATE_WORDS, absorb, permutation


@kernel(BYTES, INTS, INTS, OUT_ROWS)
def hash_many(buf, offsets, lengths, out):
    """out[k] = keccak256(buf[offsets[k] : offsets[k] + lengths[k]]) for every k; out is (n, 32) bytes.

    Returns 0, or -1 if a message does not lie inside the buffer (then nothing is hashed).
    """
    count = offsets.shape[0]
    if lengths.shape[0] != count or out.shape[0] < count or out.shape[1] != 32:
        return -1
    for k in range(count):
        if outside(buf, offsets[k], lengths[k]):
            return -1
    words = out.view(np.uint64)
    state, blocks = scratch_rows(np.uint64, STATE_WORDS, LANES), scratch(np.int64, LANES)
    last = scratch_rows(np.uint8, LANES, RATE)
    last[:] = 0
    source = address(buf)
    for k in range(0, count, LANES):
        live = min(LANES, count - k)
        most = np.int64(0)
        for lane in range(live):
            most = max(most, lengths[k + lane] // RATE + 1)
            # The last block of each message is copied out, to be padded.
            rest = lengths[k + lane] % RATE
            target = address(last) + lane * RATE
            copy(target, source + offsets[k + lane] + lengths[k + lane] - rest, rest)
            zero(target + rest, RATE - rest)
            last[lane, rest] ^= 0x01
            last[lane, RATE - 1] ^= 0x80
        state[:] = 0
        for i in range(most):
            for lane in range(LANES):
                block = address(last) + lane * RATE
                if lane < live and i < lengths[k + lane] // RATE:
                    block = source + offsets[k + lane] + i * RATE
                blocks[lane] = block
            absorb(address(state), address(blocks))
            for lane in range(live):
                if i == lengths[k + lane] // RATE:
                    for w in range(4):
                        words[k + lane, w] = state[w, lane]
    return 0


@kernel(INT)
def permute(times):
    """Run the permutation `times` times on all lanes: for measuring. Returns a word of the state."""
    state = scratch_rows(np.uint64, STATE_WORDS, LANES)
    state[:] = 0
    for _ in range(times):
        permutation(address(state))
    return np.int64(state[0, 0])
