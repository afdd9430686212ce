"""The kernels' cache on disk: an edit is never overlooked, and without one nothing is compiled twice."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import llvmlite.binding as llvm
import numpy as np
import pytest

from ethsync.hashing import keccak256
from ethsync.kernels import compiler, keccak

PACKAGE = Path(compiler.__file__).parents[1]

# Encodes one page of one leaf under one nibble; the kernel calls `copy` of another module for keys and values.
SCRIPT = """
import sys
import numpy as np
from ethsync.kernels import compiler, pages
out, starts = np.zeros(60, np.uint8), np.zeros(2, np.int64)
keys, value = np.full((1, 32), 5, np.uint8), np.full(3, 7, np.uint8)
pages.encode_pages(keys, value, np.zeros(1, np.int64), np.full(1, 3), np.array([0, 1]), 1, out, starts)
print(out[12:].tobytes().hex(), "numba" in sys.modules, compiler.CACHE_DIRECTORY)
"""
COPY = "cgutils.raw_memcpy(builder, pointer(builder, args[0]), pointer(builder, args[1]), args[2], 1)"
EDITED_COPY = "cgutils.memset(builder, pointer(builder, args[0]), args[2], 9)"


def run_in(directory: Path, cache: Path) -> tuple[str, str, Path, str]:
    """Return the page, whether numba was imported, the cache directory and what was said on stderr."""
    environment = {**os.environ, "ETHSYNC_CACHE_DIR": str(cache), "PYTHONPATH": str(directory)}
    done = subprocess.run(
        [sys.executable, "-P", "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True, cwd=directory
    )
    page, compiled, used = done.stdout.split()
    return page, compiled, Path(used), done.stderr


def test_an_edit_in_a_called_module_is_seen_although_the_calling_module_is_unchanged(tmp_path: Path) -> None:
    # Given a copy of the package whose kernels have been compiled and cached
    copied, cache = tmp_path / "ethsync", tmp_path / "cache"
    shutil.copytree(PACKAGE, copied, ignore=shutil.ignore_patterns("__pycache__"))
    written = "05" * 32 + "03000000" + "07" * 3
    page, compiled, first_directory, said = run_in(tmp_path, cache)
    assert (page[: len(written)], compiled) == (written, "True")
    assert "compiling kernels" in said

    # When it runs again, then nothing is compiled, numba is not even imported, and nothing is said.
    page, compiled, directory, said = run_in(tmp_path, cache)
    assert (page[: len(written)], compiled, directory, said) == (written, "False", first_directory, "")

    # When a power cut has torn an object file, then that one is compiled anew.
    kept = first_directory / "pages_encode_pages.o"
    kept.write_bytes(kept.read_bytes()[:-100] + bytes(100))
    page, compiled, directory, said = run_in(tmp_path, cache)
    assert (page[: len(written)], compiled, directory, said) == (written, "True", first_directory, "")

    # When a helper in another module is edited, then the kernel that calls it does what the edited helper does.
    helper = copied / "kernels" / "memory_code.py"
    source = helper.read_text()
    assert source.count(COPY) == 1
    helper.write_text(source.replace(COPY, EDITED_COPY))
    page, compiled, directory, said = run_in(tmp_path, cache)
    edited = "09" * 32 + "03000000" + "09" * 3
    assert (page[: len(edited)], compiled) == (edited, "True")
    assert directory != first_directory
    assert directory.parent == cache
    assert "compiling kernels" in said


def test_cache_directory_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ETHSYNC_CACHE_DIR", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert compiler.cache_directory().parent == tmp_path / "own"
    monkeypatch.delenv("ETHSYNC_CACHE_DIR")
    assert compiler.cache_directory().parent == tmp_path / "xdg" / "ethsync"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert compiler.cache_directory().parent == tmp_path / "home" / ".cache" / "ethsync"


@pytest.mark.parametrize("attribute", ["PROCESSOR", "LANES"])
def test_cache_directory_differs_by_target(attribute: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = compiler.cache_directory()
    assert compiler.cache_directory() == before
    monkeypatch.setattr(compiler, attribute, "another")
    assert compiler.cache_directory().name != before.name


@pytest.mark.parametrize("package", ["numba", "llvmlite"])
def test_cache_directory_differs_by_compiler_version(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = compiler.cache_directory()
    real = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "0.0.0" if name == package else real(name))
    assert compiler.cache_directory().name != before.name


@pytest.mark.parametrize(
    ("processor", "lanes"),
    [
        ("skylake-avx512", 8),
        ("x86-64-v4", 8),
        ("sapphirerapids", 8),
        ("znver4", 8),
        ("skylake", 4),
        ("haswell", 4),
        ("x86-64-v3", 4),
        ("znver3", 4),
        ("generic", 1),
        ("x86-64", 1),
        ("sandybridge", 1),
    ],
)
def test_lanes_by_processor_name(processor: str, lanes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_CPU_NAME", processor)
    assert compiler._target() == (processor, lanes)


@pytest.mark.parametrize(
    ("features", "lanes"), [({"avx2": True, "avx512f": True}, 8), ({"avx2": True, "avx512f": False}, 4), ({}, 1)]
)
def test_lanes_by_host_features(features: dict[str, bool], lanes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NUMBA_CPU_NAME", raising=False)
    monkeypatch.setattr(llvm, "get_host_cpu_features", lambda: features)
    assert compiler._target()[1] == lanes


def test_a_kernel_takes_only_the_types_it_was_declared_for() -> None:
    # What reaches machine code is an address: of anything else than the declared array it would be read wrongly.
    buf, ints, out = np.zeros(9, np.uint8), np.zeros(1, np.int64), np.zeros((1, 32), np.uint8)
    assert keccak.hash_many(buf, ints, ints, out) == 0
    read_only = out.copy()
    read_only.flags.writeable = False
    for wrong in (
        (buf, ints.astype(np.int32), ints, out),
        (buf, ints.astype(np.uint64), ints, out),
        (buf, ints.astype(">i8"), ints, out),
        (buf, np.zeros((1, 1), np.int64), ints, out),
        (buf[::2], ints, ints, out),
        (bytes(9), ints, ints, out),
        (None, ints, ints, out),
        (buf, ints, ints, read_only),
        (buf, ints, ints, np.zeros((32, 1), np.uint8).T[:, ::-1]),
        (buf, ints, ints),
    ):
        with pytest.raises(TypeError):
            keccak.hash_many(*wrong)


def test_a_read_only_array_will_do_where_nothing_is_written() -> None:
    buf, ints, out = np.frombuffer(b"abc", np.uint8), np.zeros(1, np.int64), np.zeros((1, 32), np.uint8)
    assert keccak.hash_many(buf, ints, np.full(1, 3), out) == 0
    assert out.tobytes() == keccak256(b"abc")
