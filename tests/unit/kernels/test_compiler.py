"""The kernels' cache on disk: an edit is never overlooked, and without one nothing is compiled twice."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import numpy as np
import pytest
from numba.core import config

from ethsync.kernels import compiler, keccak

PACKAGE = Path(compiler.__file__).parents[1]

# Encodes one page of one leaf under one nibble; the kernel calls `copy` of another module for keys and values.
SCRIPT = """
import numpy as np
from ethsync.kernels import compiler, pages
out, starts = np.zeros(60, np.uint8), np.zeros(2, np.int64)
keys, value = np.full((1, 32), 5, np.uint8), np.full(3, 7, np.uint8)
pages.encode_pages(keys, value, np.zeros(1, np.int64), np.full(1, 3), np.array([0, 1]), 1, out, starts)
hits = sum(sum(function.stats.cache_hits.values()) for function in (pages.encode_pages, pages.decode_pages))
print(out[12:].tobytes().hex(), hits, compiler.CACHE_DIRECTORY)
"""
COPY = "cgutils.raw_memcpy(builder, _pointer(builder, args[0]), _pointer(builder, args[1]), args[2], 1)"
EDITED_COPY = "cgutils.memset(builder, _pointer(builder, args[0]), args[2], 9)"


def run_in(directory: Path, cache: Path) -> tuple[str, int, Path, str]:
    """Return the page, how many kernels came from the cache, the cache directory and what was said on stderr."""
    environment = {**os.environ, "ETHSYNC_CACHE_DIR": str(cache), "PYTHONPATH": str(directory)}
    done = subprocess.run(
        [sys.executable, "-P", "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True, cwd=directory
    )
    page, hits, used = done.stdout.split()
    return page, int(hits), Path(used), done.stderr


def test_an_edit_in_a_called_module_is_seen_although_the_calling_module_is_unchanged(tmp_path: Path) -> None:
    # Given a copy of the package whose kernels have been compiled and cached
    copied, cache = tmp_path / "ethsync", tmp_path / "cache"
    shutil.copytree(PACKAGE, copied, ignore=shutil.ignore_patterns("__pycache__"))
    written = "05" * 32 + "03000000" + "07" * 3
    page, hits, first_directory, said = run_in(tmp_path, cache)
    assert (page[: len(written)], hits) == (written, 0)
    assert "compiling kernels" in said

    # When it runs again, then nothing is compiled and nothing is said.
    page, hits, directory, said = run_in(tmp_path, cache)
    assert (page[: len(written)], hits, directory, said) == (written, 2, first_directory, "")

    # When a helper in another module is edited, then the kernel that calls it does what the edited helper does.
    helper = copied / "kernels" / "memory.py"
    source = helper.read_text()
    assert source.count(COPY) == 1
    helper.write_text(source.replace(COPY, EDITED_COPY))
    page, hits, directory, said = run_in(tmp_path, cache)
    edited = "09" * 32 + "03000000" + "09" * 3
    assert (page[: len(edited)], hits) == (edited, 0)
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
    monkeypatch.setattr(getattr(compiler, package), "__version__", "0.0.0")
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
    monkeypatch.setattr(config, "CPU_NAME", processor)
    assert compiler._target() == (processor, lanes)


@pytest.mark.parametrize(
    ("features", "lanes"), [({"avx2": True, "avx512f": True}, 8), ({"avx2": True, "avx512f": False}, 4), ({}, 1)]
)
def test_lanes_by_host_features(features: dict[str, bool], lanes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "CPU_NAME", None)
    monkeypatch.setattr(llvm, "get_host_cpu_features", lambda: features)
    assert compiler._target()[1] == lanes


def test_a_kernel_takes_only_the_types_it_was_declared_for() -> None:
    # A second variant would have to be compiled in the middle of a sync.
    hash_many: Any = keccak.hash_many
    wrong = np.zeros(1, np.int32)
    with pytest.raises(TypeError):
        hash_many(np.zeros(1, np.uint8), wrong, wrong, np.zeros((1, 32), np.uint8))
    assert len(hash_many.signatures) == 1
