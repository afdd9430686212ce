"""One arena for all threads: what they allocated and freed does not stay with each of them."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

THREADS, BLOCKS, BLOCK = 6, 400, 40_000
"""The blocks are below the size from which glibc maps them one by one; 16 MB for each thread."""

PROGRAM = f"""
import threading
from ethsync.commands.allocator import share_one_arena
from ethsync.ui.machine import read_anonymous
if {{shared}}:
    assert share_one_arena()
turn = threading.Lock()
def work():
    with turn:  # one after another: never more than 16 MB in use
        blocks = [b"x" * {BLOCK} for _ in range({BLOCKS})]
        kept.append(blocks.pop())
        del blocks
    worked.wait()
    done.wait()
kept, worked, done = [], threading.Barrier({THREADS} + 1), threading.Event()
before = read_anonymous()
threads = [threading.Thread(target=work) for _ in range({THREADS})]
for thread in threads:
    thread.start()
worked.wait()
print(read_anonymous() - before)
done.set()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_threads_use_the_same_memory_one_after_another() -> None:
    assert taken(shared=True) < 2 * BLOCKS * BLOCK
    # as they would not otherwise
    assert taken(shared=False) > 3 * BLOCKS * BLOCK


def taken(*, shared: bool) -> int:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(shared=shared)], capture_output=True, text=True, check=True
    )
    return int(done.stdout)
