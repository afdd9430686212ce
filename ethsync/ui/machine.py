"""What the kernel and the interpreter say about this machine and this process. Parsing is pure; where a system has no
/proc, or leaves something out of it, the value is None."""

from __future__ import annotations

import os
import platform
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import ethsync

if TYPE_CHECKING:
    from collections.abc import Mapping

PACKAGES = ("numba", "llvmlite", "numpy", "trio", "plyvel", "plyvel-next", "coincurve", "cramjam",
            "cryptography", "pycryptodome", "rich")  # fmt: skip
"""Packages whose versions explain a measurement."""


@dataclass(frozen=True, slots=True)
class ThreadTime:
    """Processor time that one thread has used, in seconds."""

    id: int
    name: str
    user: float
    system: float


@dataclass(frozen=True, slots=True)
class Resources:
    """What this process has used since it started. Memory and disk in bytes, times in seconds."""

    cpu_user: float
    cpu_system: float
    threads: tuple[ThreadTime, ...] | None
    peak_resident: int | None
    anonymous: int | None
    disk_read: int | None
    disk_written: int | None


@dataclass(frozen=True, slots=True)
class Machine:
    """Where a measurement was made. `memory` in bytes; `cores` are those this process may use."""

    cpu: str | None
    cores: int
    memory: int | None
    instruction_set: str
    system: str
    python: str
    packages: Mapping[str, str | None]


def cpu_model(cpuinfo: str) -> str | None:
    """Return the processor's name from the text of /proc/cpuinfo (proc(5)); on ARM there may be none."""
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return None


def kilobytes(text: str, field: str) -> int | None:
    """Return a field of /proc/meminfo or /proc/PID/status, such as `VmHWM:  2060 kB`, in bytes."""
    for line in text.splitlines():
        name, _, value = line.partition(":")
        number, _, unit = value.strip().partition(" ")
        if name == field and unit == "kB" and number.isdecimal():
            return int(number) * 1024
    return None


def io_bytes(text: str, field: str) -> int | None:
    """Return a field of /proc/PID/io, such as `write_bytes: 4096`."""
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name == field and value.strip().isdecimal():
            return int(value)
    return None


def thread_time(stat: str, ticks: int) -> ThreadTime | None:
    """Return the times in the text of /proc/PID/task/TID/stat; `ticks` a second.

    The name is in parentheses and may itself contain spaces and parentheses; utime and stime are fields 14 and 15
    (proc(5)), the 12th and 13th behind the name.
    """
    before, _, behind = stat.rpartition(")")
    number, _, name = before.partition("(")
    fields = behind.split()
    if len(fields) < 13 or not (number.strip().isdecimal() and fields[11].isdecimal() and fields[12].isdecimal()):
        return None
    return ThreadTime(int(number), name, int(fields[11]) / ticks, int(fields[12]) / ticks)


def read_text(path: Path) -> str:
    """Return a file of /proc, or nothing if there is none or it may not be read."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def read_anonymous(process: Path = Path("/proc/self")) -> int | None:
    """Return this process's anonymous resident memory in bytes: what it holds besides mapped files."""
    return kilobytes(read_text(process / "status"), "RssAnon")


def read_resources(process: Path = Path("/proc/self")) -> Resources:
    """Return what this process has used so far. Threads that have ended count in the totals only."""
    status = read_text(process / "status")
    usage = read_text(process / "io")
    times = os.times()
    return Resources(
        cpu_user=times.user,
        cpu_system=times.system,
        threads=_read_threads(process / "task"),
        peak_resident=kilobytes(status, "VmHWM"),
        anonymous=kilobytes(status, "RssAnon"),
        disk_read=io_bytes(usage, "read_bytes"),
        disk_written=io_bytes(usage, "write_bytes"),
    )


def _read_threads(tasks: Path) -> tuple[ThreadTime, ...] | None:
    try:
        ids = sorted(os.listdir(tasks), key=lambda name: (len(name), name))
        ticks = os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError):
        return None
    found = (thread_time(read_text(tasks / name / "stat"), ticks) for name in ids)
    return tuple(thread for thread in found if thread is not None)


def read_machine(proc: Path = Path("/proc")) -> Machine:
    """Return what this machine is. Imports the kernels' compiler, if that has not happened yet."""
    from ethsync.kernels.compiler import INSTRUCTION_SET

    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        cores = os.cpu_count() or 1
    return Machine(
        cpu=cpu_model(read_text(proc / "cpuinfo")) or platform.processor() or None,
        cores=cores,
        memory=kilobytes(read_text(proc / "meminfo"), "MemTotal"),
        instruction_set=INSTRUCTION_SET,
        system=platform.platform(),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        packages={"ethsync": ethsync.__version__, **{name: _version(name) for name in PACKAGES}},
    )


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def utc_now() -> str:
    """Return the date and time, as the report names them."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
