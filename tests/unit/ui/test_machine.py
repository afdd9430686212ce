"""What /proc says, as text and as values."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ethsync.ui.machine import (
    Resources,
    ThreadTime,
    cpu_model,
    io_bytes,
    kilobytes,
    read_anonymous,
    read_machine,
    read_resources,
    thread_time,
)

# Shapes of proc(5), Linux 6.1.
STATUS = "Name:\tpython\nVmHWM:\t    2060 kB\nVmRSS:\t    2000 kB\nRssAnon:\t     148 kB\nThreads:\t1\n"
IO = "rchar: 6976\nwchar: 0\nread_bytes: 12288\nwrite_bytes: 40960\ncancelled_write_bytes: 0\n"
STAT = "4711 ({}) S 1 4711 4711 0 -1 4194560 100 0 0 0 250 50 7 8 20 0 3 0 1000 1 2\n"
CPUINFO = "processor\t: 0\nmodel\t\t: 17\nmodel name\t: AMD EPYC\n\nprocessor\t: 1\nmodel name\t: AMD EPYC\n"


def test_memory_fields() -> None:
    assert kilobytes(STATUS, "VmHWM") == 2060 * 1024
    assert kilobytes(STATUS, "RssAnon") == 148 * 1024
    assert kilobytes("MemTotal:       16384000 kB\n", "MemTotal") == 16_384_000 * 1024


@pytest.mark.parametrize("text", ["", "RssAnon", "RssAnon:", "RssAnon: kB", "RssAnon: x kB", "RssAnon: 5 pages", "\0"])
def test_memory_that_is_not_told_is_none(text: str) -> None:
    assert kilobytes(text, "RssAnon") is None


def test_disk_fields() -> None:
    assert [io_bytes(IO, "read_bytes"), io_bytes(IO, "write_bytes")] == [12_288, 40_960]
    assert [io_bytes(text, "write_bytes") for text in ("", "write_bytes", "write_bytes: x")] == [None] * 3


@pytest.mark.parametrize("name", ["python", "Trio thread 1", "a) b (c", ""])
def test_times_of_a_thread_of_any_name(name: str) -> None:
    assert thread_time(STAT.format(name), ticks=100) == ThreadTime(4711, name, user=2.5, system=0.5)


@pytest.mark.parametrize("text", ["", "4711", "4711 (x) S 1 2 3", STAT.format("x").replace("250", "?"), "x" + STAT])
def test_times_that_are_not_told_are_none(text: str) -> None:
    assert thread_time(text, ticks=100) is None


def test_the_processor_is_named_once() -> None:
    assert cpu_model(CPUINFO) == "AMD EPYC"
    assert cpu_model("processor\t: 0\nBogoMIPS\t: 50.00\n") is None


def test_a_process(tmp_path: Path) -> None:
    """Given a process with two threads, then both are read, in the order of their ids."""
    (tmp_path / "status").write_text(STATUS)
    (tmp_path / "io").write_text(IO)
    for number, name in (("900", "main"), ("1000", "worker")):
        (tmp_path / "task" / number).mkdir(parents=True)
        (tmp_path / "task" / number / "stat").write_text(STAT.format(name).replace("4711", number, 1))
    found = read_resources(tmp_path)
    assert found.threads is not None
    assert [(thread.id, thread.name) for thread in found.threads] == [(900, "main"), (1000, "worker")]
    assert found.peak_resident == 2060 * 1024
    assert found.anonymous == read_anonymous(tmp_path) == 148 * 1024
    assert (found.disk_read, found.disk_written) == (12_288, 40_960)


def test_a_system_without_proc(tmp_path: Path) -> None:
    """Given no /proc, then what it would tell is None and the rest is there."""
    found = read_resources(tmp_path / "missing")
    assert found == Resources(found.cpu_user, found.cpu_system, None, None, None, None, None)
    assert read_machine(tmp_path / "missing").memory is None


@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="this system has no /proc")
def test_this_process() -> None:
    found = read_resources()
    assert found.threads is not None
    assert os.getpid() in {thread.id for thread in found.threads}
    assert found.peak_resident is not None
    assert found.anonymous is not None
    assert 0 < found.anonymous < found.peak_resident + (1 << 20)


def test_this_machine() -> None:
    machine = read_machine()
    assert machine.instruction_set in ("avx512", "avx2", "plain")
    assert 1 <= machine.cores <= (os.cpu_count() or 1)
    assert machine.packages["trio"] is not None
