"""The report of a run, as a JSON file: what was done, on what, and what it cost."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ethsync.errors import ConfigError
from ethsync.jsonfile import replace_text
from ethsync.sync.progress import Phase, Progress
from ethsync.ui.search import census_fields

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ethsync.counters import Counters
    from ethsync.peers.drops import Drop
    from ethsync.ui.machine import Machine, Resources
    from ethsync.ui.measure import Histogram, LoopLag

FORMAT = 1
"""Version of the report's fields."""


def build_report(
    progress: Progress,
    *,
    now: float,
    date: str,
    command: Sequence[str],
    machine: Machine,
    resources: Resources,
    peak_anonymous: int | None,
    lag: LoopLag | None,
    error: str | None = None,
) -> dict[str, Any]:
    """Return the report of a sync that ended at `now` (seconds of trio's clock), in success or not.

    Sizes are in bytes, times in seconds (lag in milliseconds), rates per second over what this run fetched. What the
    system does not tell is None. `error` is the line that said why it failed.
    """
    return {
        "format": FORMAT,
        "date": date,
        "command": list(command),
        "machine": _machine(machine),
        "versions": {"python": machine.python, **machine.packages},
        "verified": progress.phase is Phase.DONE,
        "phase": progress.phase.value,
        "error": error,
        "block": {"number": progress.block_number, "hash": progress.block_hash, "state_root": progress.state_root},
        "sync": _sync(progress, now, resources, peak_anonymous, lag),
        "stages": _stages(progress, now),
        "following": None if progress.followed is None else {"steps": progress.steps, **asdict(progress.followed)},
        "requests": dict(sorted(progress.outcomes.items())),
        "peers": [asdict(peer) for peer in progress.peers or progress.last_peers],
        "search": None if progress.census is None else census_fields(progress.census),
        "warning": progress.warning or None,
        "dropped": [_dropped(drop) for drop in progress.dropped],
        "cpu": _cpu(resources),
        "loop": None if lag is None else _loop(lag),
    }


def _stages(progress: Progress, now: float) -> dict[str, Any]:
    done = progress.phase is Phase.DONE
    return {
        "accounts": _stage(progress.accounts, now, 0 if progress.all_named else None),
        "storage": _stage(progress.storage, now, progress.missing_contracts),
        "bytecodes": _stage(progress.codes, now, progress.missing_codes),
        "headers": _stage(progress.headers, now, progress.headers.owed if progress.headers.items or done else None),
        "healing": _stage(progress.healing, now, 0 if done or progress.phase is Phase.VERIFYING else None),
        "verification": _stage(progress.verification, now, 0 if done else None),
    }


def write_report(path: Path, report: Mapping[str, Any]) -> None:
    """Write a report whole or not at all. Raises ConfigError if the file cannot be written."""
    try:
        replace_text(path, json.dumps(report, indent=2) + "\n")
    except OSError as error:
        raise ConfigError(
            f"the report cannot be written to {path}: {error.strerror}", hint="name a file in a directory that exists"
        ) from error


def _sync(
    progress: Progress, now: float, resources: Resources, peak_anonymous: int | None, lag: LoopLag | None
) -> dict[str, Any]:
    """Return the figures of the whole run; leaves are accounts and slots."""
    seconds = max(0.0, now - progress.started)
    stages = (progress.accounts, progress.storage, progress.codes)
    leaves = sum(stage.items - stage.kept_items for stage in stages[:2])
    state_bytes = sum(stage.bytes - stage.kept_bytes for stage in stages)
    return {
        "wall_s": _rounded(seconds),
        "leaves": leaves,
        "leaves_per_s": _ratio(leaves, seconds),
        "key_space": progress.key_space,
        "contracts": progress.contracts,
        "restarts": progress.restarts,
        "pivot_moves": progress.pivot_moves,
        "wire_bytes": progress.wire_bytes,
        "wire_bytes_per_s": _ratio(progress.wire_bytes, seconds),
        "state_bytes": state_bytes,
        "peak_anon_bytes": peak_anonymous,
        "peak_resident_bytes": resources.peak_resident,
        "database_bytes": progress.written_bytes,
        "disk_read_bytes": resources.disk_read,
        "disk_written_bytes": resources.disk_written,
        "write_amplification": _ratio(resources.disk_written, state_bytes),
        "loop_lag_p99_ms": None if lag is None else _millis(lag.lag.quantile(0.99)),
    }


def _machine(machine: Machine) -> dict[str, Any]:
    return {
        "cpu": machine.cpu,
        "cores": machine.cores,
        "memory_bytes": machine.memory,
        "instruction_set": machine.instruction_set,
        "system": machine.system,
    }


def _stage(stage: Counters, now: float, missing: int | None) -> dict[str, Any]:
    """Return one stage; its rates count what this run did."""
    seconds = None if stage.started is None else (now if stage.ended is None else stage.ended) - stage.started
    return {
        "items": stage.items,
        "kept_items": stage.kept_items,
        "bytes": stage.bytes,
        "kept_bytes": stage.kept_bytes,
        "missing": missing,
        "seconds": _rounded(seconds),
        "items_per_s": _ratio(stage.items - stage.kept_items, seconds),
        "bytes_per_s": _ratio(stage.bytes - stage.kept_bytes, seconds),
    }


def _dropped(drop: Drop) -> dict[str, Any]:
    return {"peer": drop.peer, "why": drop.why, "times": drop.times, "banned": drop.banned}


def _cpu(resources: Resources) -> dict[str, Any]:
    total = resources.cpu_user + resources.cpu_system
    threads = resources.threads
    ended = None if threads is None else max(0.0, total - sum(thread.user + thread.system for thread in threads))
    return {
        "total_s": _rounded(total),
        "user_s": _rounded(resources.cpu_user),
        "system_s": _rounded(resources.cpu_system),
        "threads": None
        if threads is None
        else [
            {"id": t.id, "name": t.name, "user_s": _rounded(t.user), "system_s": _rounded(t.system)} for t in threads
        ],
        "ended_threads_s": _rounded(ended),
    }


def _loop(lag: LoopLag) -> dict[str, Any]:
    return {
        "lag_ms": _quantiles(lag.lag),
        "longest_steps": [{"ms": _millis(step.seconds), "task": step.task} for step in lag.longest()],
    }


def _quantiles(histogram: Histogram) -> dict[str, float | None]:
    return {
        "p50": _millis(histogram.quantile(0.5)),
        "p99": _millis(histogram.quantile(0.99)),
        "max": _millis(histogram.maximum if histogram.total else None),
    }


def _millis(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, 3)


def _ratio(number: float | None, by: float | None) -> float | None:
    """Return a rate or ratio, None where it is not known or has no meaning."""
    return round(number / by, 3) if number is not None and by else None
