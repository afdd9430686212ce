"""How kernels are declared, where their machine code is kept, and how wide the vectors are.

Kernels are Python functions that numba compiles once (`emitter`); what comes out is kept as an object file, which
llvmlite alone can load. So a program that finds its kernels in the cache never imports numba: half a second less.

The cache directory is named by a hash of every kernel source, the versions of numba and llvmlite and the target
processor, because an edit in a function that a kernel *calls* changes the kernel: any change of these starts from an
empty directory.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, update_wrapper
from importlib import metadata
from operator import index
from pathlib import Path
from typing import TYPE_CHECKING, Any

import llvmlite.binding as llvm
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

# 64-bit lanes in a vector register: Keccak works on one message per lane.
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
    name = os.environ.get("NUMBA_CPU_NAME")
    if name:
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
    compiler = f"{metadata.version('numba')} {metadata.version('llvmlite')}"
    digest = hashlib.sha256(f"{compiler} {PROCESSOR} {LANES}".encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    return Path(root) / f"kernels-{digest.hexdigest()[:16]}"


CACHE_DIRECTORY = cache_directory()


@dataclass(frozen=True, slots=True)
class Column:
    """An array argument: C-contiguous, of this NumPy type and number of dimensions."""

    type: np.dtype[Any]
    dimensions: int
    written: bool

    def words(self, value: Any) -> tuple[int, ...]:
        """Address and shape of an array, as the machine code takes them. Raises TypeError for any other array.

        Asked 20,000 times in a sync of 2.4 million leaves: `__array_interface__` would take twice as long.
        """
        if type(value) is np.ndarray and value.dtype == self.type and value.ndim == self.dimensions:
            flags = value.flags
            if flags.c_contiguous and (flags.writeable or not self.written):
                return (value.ctypes.data, *value.shape)
        raise TypeError(
            f"not a C-contiguous{' writable' * self.written} {self.type} array of {self.dimensions} dimensions"
        )


@dataclass(frozen=True, slots=True)
class Number:
    """A number argument: an integer of 64 bits, or a truth value."""

    is_truth: bool = False

    def words(self, value: Any) -> tuple[int, ...]:
        """The number as the machine code takes it. Raises TypeError for what is none."""
        return (bool(value) if self.is_truth else index(value),)


_UINT8, _INT64, _UINT64 = np.dtype(np.uint8), np.dtype(np.int64), np.dtype(np.uint64)

# An input buffer may be read-only.
BYTES = Column(_UINT8, 1, False)
ROWS = Column(_UINT8, 2, False)
OUT_BYTES = Column(_UINT8, 1, True)
OUT_ROWS = Column(_UINT8, 2, True)
INTS = Column(_INT64, 1, False)
OUT_INTS = Column(_INT64, 1, True)
OUT_INT_ROWS = Column(_INT64, 2, True)
OUT_WORDS = Column(_UINT64, 1, True)
OUT_WORD_ROWS = Column(_UINT64, 2, True)
INT = Number()
BOOL = Number(is_truth=True)


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """What only kernels call: a helper that is compiled with them, or an intrinsic."""

    function: Callable[..., Any]
    is_intrinsic: bool

    def __call__(self, *values: Any) -> Any:
        """Call the helper as plain Python: for tests. An intrinsic has no body."""
        return self.function(*values)


def inlined(function: Callable[..., Any]) -> Part:
    """Declare a helper that only other kernels call."""
    return Part(function, is_intrinsic=False)


def intrinsic(function: Callable[..., Any]) -> Part:
    """Declare a helper whose machine code is emitted by its namesake: that of `memory.copy` by `memory_code.copy`."""
    return Part(function, is_intrinsic=True)


FAILED = -(1 << 63)
"""What machine code returns when Python would raise, which kernels do not do: they check first."""


class Kernel:
    """A compiled function: takes exactly the declared arguments, holds no lock, and returns a 64-bit integer."""

    def __init__(self, function: Callable[..., Any], arguments: tuple[Column | Number, ...]) -> None:
        """Made by `kernel`."""
        update_wrapper(self, function)
        self.function = function
        self._arguments = arguments
        self._entry = _entry(function, arguments)

    def __call__(self, *values: Any) -> int:
        """Run it. Raises TypeError for values that do not fit the declared arguments."""
        if len(values) != len(self._arguments):
            raise TypeError(f"{self.function.__name__} takes {len(self._arguments)} arguments, not {len(values)}")
        words: list[int] = []
        for argument, value in zip(self._arguments, values, strict=True):
            words += argument.words(value)
        result: int = self._entry(*words)
        if result == FAILED:
            raise AssertionError(f"the kernel {self.function.__name__} failed")
        return result


def kernel(*arguments: Column | Number) -> Callable[[Callable[..., Any]], Kernel]:
    """Compile a function for exactly one list of arguments; it returns a 64-bit integer.

    The machine code is loaded from `CACHE_DIRECTORY` if it is there. One declared signature means that no other
    variant can be compiled by surprise in the middle of a sync.
    """
    return lambda function: Kernel(function, arguments)


def symbol(function: Callable[..., Any]) -> str:
    """Name of a kernel in its object file, and of the file."""
    return f"{function.__module__.rpartition('.')[2]}_{function.__name__}"


def _entry(function: Callable[..., Any], arguments: tuple[Column | Number, ...]) -> Callable[..., int]:
    """The machine code of a kernel: from the cache, or compiled now and kept there."""
    name = symbol(function)
    place = CACHE_DIRECTORY / f"{name}.o"
    code = _read(place)
    if code is None:
        _announce_once()
        from ethsync.kernels.emitter import emit  # imports numba

        code = emit(function, arguments)
        with suppress(OSError):  # where nothing can be kept it is compiled anew each time
            _write(place, code)
    words = sum(argument.dimensions + 1 if isinstance(argument, Column) else 1 for argument in arguments)
    library = llvm.JITLibraryBuilder().add_object_img(code).add_current_process().export_symbol(name)
    loaded = library.link(_linker(), name)
    prototype = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * words)
    entry = prototype(loaded[name])
    entry.loaded = loaded  # type: ignore[attr-defined]  # unloaded with the last reference to this
    return entry


@cache
def _linker() -> Any:
    """What object files are loaded into: one for the process."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm.create_lljit_compiler()


_DIGEST = hashlib.sha256
_DIGEST_SIZE = 32


def _read(place: Path) -> bytes | None:
    """A kept object file; None if there is none, or if a power cut has torn it."""
    with suppress(OSError):
        kept = place.read_bytes()
        if _DIGEST(kept[_DIGEST_SIZE:]).digest() == kept[:_DIGEST_SIZE]:
            return kept[_DIGEST_SIZE:]
    return None


def _write(place: Path, code: bytes) -> None:
    """Keep an object file, its digest first; another process may do the same at the same time."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=place.parent, prefix=f"{place.name}.", delete=False) as file:
        file.write(_DIGEST(code).digest() + code)
    os.replace(file.name, place)


@cache
def _announce_once() -> None:
    """Say on stderr, once, that kernels are being compiled, if the cache is empty."""
    if not CACHE_DIRECTORY.exists():
        sys.stderr.write(
            f"ethsync: compiling kernels for {PROCESSOR} ({INSTRUCTION_SET}), once; this takes some 20 seconds\n"
        )
        sys.stderr.flush()
