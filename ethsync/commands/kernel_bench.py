"""Measuring the kernels: one core, medians of several runs, on replies as they come off the wire."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from ethsync.kernels import keccak
from ethsync.kernels.compiler import INSTRUCTION_SET, LANES, PROCESSOR
from ethsync.serve.served import ServedStates
from ethsync.serve.snap import account_range
from ethsync.state.account import decode_slim
from ethsync.state.proofs import Proven, verify_range
from ethsync.state.replies import scan_account_range
from ethsync.state.view import StateView
from ethsync.store.datadir import open_datadir
from ethsync.wire.snap import GetAccountRange

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

RUNS = 9
"""Of each measurement: of an odd number one is the median."""

RANGE_ACCOUNTS = 4_000
"""Accounts of a range, 190 KB of them: somewhat more than a peer is asked for at first."""

RANGES = 16
"""Ranges that are proven in one run, which takes tens of milliseconds then."""

PERMUTATIONS = 50_000
"""Permutations of all lanes in one run, which takes tens of milliseconds too."""

ACCOUNT_BYTES = 48
"""About what an account takes in the synthetic state: only to find out how many bytes to ask for."""


def median_seconds(work: Callable[[], object], runs: int = RUNS) -> float:
    """Median wall time of a call, after one that does not count."""
    work()
    times = []
    for _ in range(runs):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def measure_kernels(state: Path, page_depth: int) -> dict[str, Any]:
    """Measure on the account ranges of a synthetic state. Takes the compiler's time too, in a process of its own."""
    with open_datadir(state) as datadir:
        view = StateView(datadir)
        root = view.state_root
        replies = list(_replies(view))
    leaves = sum(len(scan_account_range(reply).leaves) for _, reply in replies)

    def prove() -> list[Proven]:
        proven = []
        for origin, payload in replies:
            reply = scan_account_range(payload)
            proven.append(verify_range(root, origin, reply.leaves, reply.proof, page_depth=page_depth))
        return proven

    seconds = median_seconds(prove)
    permutation = median_seconds(lambda: keccak.permute(PERMUTATIONS)) / (PERMUTATIONS * LANES)
    peer = _trie_package_seconds(replies[0][1])
    rate = leaves / seconds
    return {
        "processor": PROCESSOR,
        "instruction_set": INSTRUCTION_SET,
        "keccak_permutation_ns": round(permutation * 1e9, 1),
        "keccak_110_bytes_ns": round(_hash_seconds(110) * 1e9, 1),
        "account_range_leaves": leaves // len(replies),
        "account_range_leaves_per_s": round(rate),
        "vs_trie_package": round(rate / (1 / peer)) if peer else None,
        "compile_s": round(_compile_seconds(), 1),
    }


def _replies(view: StateView) -> list[tuple[bytes, bytes]]:
    """Consecutive account ranges from the start of the trie: origin and payload."""
    states = ServedStates(view)
    origin, found = bytes(32), []
    for number in range(RANGES):
        request = GetAccountRange(number, view.state_root, origin, b"\xff" * 32, RANGE_ACCOUNTS * ACCOUNT_BYTES)
        payload = account_range(states, request).payload
        leaves = scan_account_range(payload).leaves
        if not len(leaves):
            break
        found.append((origin, payload))
        last = int.from_bytes(leaves.key(-1), "big") + 1
        if last >> 256:
            break
        origin = last.to_bytes(32, "big")
    return found


def _hash_seconds(size: int) -> float:
    count = 100_000
    buf = np.random.default_rng(1).integers(0, 256, count * size, dtype=np.uint8)
    places, sizes, out = np.arange(count) * size, np.full(count, size), np.empty((count, 32), np.uint8)
    return median_seconds(lambda: keccak.hash_many(buf, places, sizes, out)) / count


def _trie_package_seconds(payload: bytes) -> float | None:
    """Seconds per leaf that the `trie` package takes to build the same range; None if it is not installed."""
    try:
        from trie import HexaryTrie
    except ImportError:
        return None
    leaves = scan_account_range(payload).leaves[:1000]
    pairs = [(leaves.key(row), decode_slim(leaves.value(row)).full()) for row in range(len(leaves))]

    def build() -> None:
        built = HexaryTrie({})
        for key, value in pairs:
            built[key] = value

    return median_seconds(build, 3) / len(pairs)


def _compile_seconds() -> float:
    """Seconds from an empty cache until all kernels are there, less what importing them takes from a full one."""
    program = (
        "import time, numba, numpy; t = time.perf_counter();"
        "from ethsync.kernels import bundles, columns, difference, headers, keccak, nodes, pages, proof, rlp, trie;"
        "print(time.perf_counter() - t)"
    )
    with tempfile.TemporaryDirectory(prefix="ethsync-kernels-") as cache:
        environment = {**os.environ, "ETHSYNC_CACHE_DIR": cache}
        cold = float(_output(program, environment))
        return cold - float(_output(program, environment))


def _output(program: str, environment: dict[str, str]) -> str:
    command = [sys.executable, "-c", program]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
