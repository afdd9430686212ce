"""How kernels are compiled, where the machine code is kept, and how wide the vectors are.

numba caches compiled functions on disk but does not notice an edit in a function that another one *calls*. The cache
directory is therefore named by a hash of every kernel source, the versions of numba and llvmlite and the target
processor: any change of these starts from an empty directory.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import llvmlite
import llvmlite.binding as llvm
import numba
from numba.core import config, types

_Function = TypeVar("_Function", bound=Callable[..., Any])

AVX512_LANES = 8
AVX2_LANES = 4
PLAIN_LANES = 1

# Processor names that LLVM gives to machines of each vector width; only consulted when NUMBA_CPU_NAME overrides the
# host. (LLVM, llvm/lib/Target/X86/X86.td.)
_AVX512_PROCESSORS = ("avx512", "x86-64-v4", "icelake", "cascadelake", "cooperlake", "sapphirerapids", "graniterapids",
                      "emeraldrapids", "znver4", "znver5")  # fmt: skip
_AVX2_PROCESSORS = ("x86-64-v3", "haswell", "broadwell", "skylake", "znver1", "znver2", "znver3", "core-avx2",
                    "alderlake", "raptorlake", "arrowlake")  # fmt: skip


def _target() -> tuple[str, int]:
    """Return the processor name that numba compiles for and how many 64-bit lanes of it Keccak uses.

    With 16 registers eight lanes spill so much that four are faster (117 ns against 200 ns per permutation, measured).
    """
    if config.CPU_NAME:
        name = str(config.CPU_NAME)
        if any(part in name for part in _AVX512_PROCESSORS):
            return name, AVX512_LANES
        if any(part in name for part in _AVX2_PROCESSORS):
            return name, AVX2_LANES
        return name, PLAIN_LANES
    features = llvm.get_host_cpu_features()
    name = llvm.get_host_cpu_name()
    if features.get("avx512f"):
        return name, AVX512_LANES
    if features.get("avx2"):
        return name, AVX2_LANES
    return name, PLAIN_LANES


PROCESSOR, LANES = _target()
INSTRUCTION_SET = {AVX512_LANES: "avx512", AVX2_LANES: "avx2", PLAIN_LANES: "plain"}[LANES]


def cache_directory() -> Path:
    """Return the directory of this exact set of kernels: `$ETHSYNC_CACHE_DIR` or the user's cache, plus a hash."""
    root = os.environ.get("ETHSYNC_CACHE_DIR") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache"), "ethsync"
    )
    digest = hashlib.sha256(f"{numba.__version__} {llvmlite.__version__} {PROCESSOR} {LANES}".encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    return Path(root) / f"kernels-{digest.hexdigest()[:16]}"


CACHE_DIRECTORY = cache_directory()


@contextmanager
def _own_cache() -> Iterator[None]:
    """Have numba keep what is compiled inside the block in our directory; other people's numba code keeps its own."""
    before, config.CACHE_DIR = config.CACHE_DIR, str(CACHE_DIRECTORY)
    try:
        yield
    finally:
        config.CACHE_DIR = before


# Input buffers are declared read-only: numba accepts writable arrays for them too, and one variant serves both.
BYTES = types.Array(types.uint8, 1, "C", readonly=True)
ROWS = types.Array(types.uint8, 2, "C", readonly=True)
OUT_BYTES = types.Array(types.uint8, 1, "C")
OUT_ROWS = types.Array(types.uint8, 2, "C")
INTS = types.Array(types.int64, 1, "C", readonly=True)
OUT_INTS = types.Array(types.int64, 1, "C")
OUT_INT_ROWS = types.Array(types.int64, 2, "C")
OUT_WORDS = types.Array(types.uint64, 1, "C")
OUT_WORD_ROWS = types.Array(types.uint64, 2, "C")
INT = types.int64
BOOL = types.boolean

_OPTIONS = {"nogil": True, "_nrt": False}
"""Kernels do without numba's runtime, so they cannot allocate (`memory.scratch` takes its place) and no references to
arrays are counted: the locked instructions that did so took two thirds of the time of `trie.build`."""


def inlined(function: _Function) -> _Function:
    """Compile a helper that only other kernels call."""
    return numba.njit(**_OPTIONS)(function)  # type: ignore[no-any-return]


def kernel(*arguments: Any) -> Callable[[_Function], _Function]:
    """Compile a function for exactly one list of argument types; it returns a 64-bit integer.

    The machine code is loaded from `CACHE_DIRECTORY` if it is there. One declared signature means that no other
    variant can be compiled by surprise in the middle of a sync.
    """

    def decorate(function: _Function) -> _Function:
        _announce_once()
        with _own_cache():
            return numba.njit(INT(*arguments), cache=True, **_OPTIONS)(function)  # type: ignore[no-any-return]

    return decorate


_announced: list[float] = []


def _announce_once() -> None:
    """Say on stderr, once, that kernels are being compiled, if the cache is empty."""
    if _announced:
        return
    _announced.append(time.perf_counter())
    if not CACHE_DIRECTORY.exists():
        sys.stderr.write(
            f"ethsync: compiling kernels for {PROCESSOR} ({INSTRUCTION_SET}), once; this takes some 20 seconds\n"
        )
        sys.stderr.flush()
