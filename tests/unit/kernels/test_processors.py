"""One set of kernels, every vector width: eight lanes, four lanes, plain. Each in a fresh process and a fresh cache."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import random, sys
import numpy as np
from ethsync.hashing import keccak256
from ethsync.kernels import compiler, keccak
from ethsync.state import tries
from tests.oracles.leaf_sets import SHAPES, leaf_set
from tests.oracles.tries import root_of

rng = random.Random(3)
message = rng.randbytes(2000)
lengths = np.array([size % 700 for size in range(0, 4000, 37)], np.int64)
out = np.zeros((len(lengths), 32), np.uint8)
assert keccak.hash_many(np.frombuffer(message, np.uint8), lengths.copy(), lengths, out) == 0
assert [row.tobytes() for row in out] == [keccak256(message[size : 2 * size]) for size in lengths.tolist()]

for shape in SHAPES:
    for n in (1, 2, 7, 60):
        given = leaf_set(rng, shape, n)
        assert tries.root_of(given.keys, given.values) == root_of(given.keys, given.values), shape
print(compiler.PROCESSOR, compiler.LANES, compiler.INSTRUCTION_SET)
"""

REPOSITORY = Path(__file__).parents[3]


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="the names are those of x86-64 processors")
@pytest.mark.parametrize(
    ("processor", "lanes", "instruction_set"),
    [
        pytest.param("generic", 1, "plain", id="plain"),
        pytest.param("haswell", 4, "avx2", id="avx2", marks=pytest.mark.slow),
        # numba takes the features of the host with the name, so these eight lanes run on any x86-64: where there is no
        # AVX-512, LLVM splits each vector.
        pytest.param("skylake-avx512", 8, "avx512", id="avx512", marks=pytest.mark.slow),
    ],
)
def test_every_vector_width_gives_the_same_hashes_and_roots(
    processor: str, lanes: int, instruction_set: str, tmp_path: Path
) -> None:
    # Given a processor name and an empty cache
    environment = {
        **os.environ,
        "NUMBA_CPU_NAME": processor,
        "ETHSYNC_CACHE_DIR": str(tmp_path),
        "PYTHONPATH": str(REPOSITORY),
    }
    # When the kernels are compiled and compared with the oracles in that process
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=False, cwd=tmp_path
    )
    # Then they agree, with as many lanes as that processor is good for, and one line has said what took so long.
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [processor, str(lanes), instruction_set]
    assert done.stderr.count("\n") == 1
    assert f"compiling kernels for {processor} ({instruction_set})" in done.stderr
