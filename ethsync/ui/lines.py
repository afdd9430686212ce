"""Progress as lines: for people, for programs, and the last line of a run."""

from __future__ import annotations

from typing import Any

from ethsync.sync.progress import Followed, Limit, Phase, Progress
from ethsync.ui import numbers
from ethsync.ui.search import census_fields, dialled_text, found_text, peers_text
from ethsync.ui.snapshot import PHASES, Row, Snapshot


def phase_text(phase: Phase) -> str:
    """Return where a sync stands: `phase 2 of 4: downloading`, or `done`."""
    if phase not in PHASES:
        return phase.value
    return f"phase {PHASES.index(phase) + 1} of {len(PHASES)}: {phase.value}"


def left_text(snapshot: Snapshot) -> str:
    """Return the time left as a range, `3 to 5 min, then verification`, or `unknown`."""
    if snapshot.left is None:
        return "unknown"
    then = ", then verification" if snapshot.phase in (Phase.DOWNLOADING, Phase.HEALING) else ""
    return numbers.span(snapshot.left.low, snapshot.left.high) + then


def plain_line(snapshot: Snapshot) -> str:
    """Return one line for a log or a pipe."""
    rows = {row.name: row for row in snapshot.rows}
    parts = [f"{numbers.clock(snapshot.elapsed)} {phase_text(snapshot.phase)}"]
    if snapshot.block_number is not None:
        parts.append(f"block {snapshot.block_number}")
    if snapshot.phase is Phase.VERIFYING:
        parts.append(f"{numbers.percent(snapshot.verified, proven=False)} verified")
        if rows["Verification"].rate is not None:
            parts.append(f"{numbers.rate(rows['Verification'].rate)} leaves")
    elif snapshot.phase is not Phase.CONNECTING or snapshot.key_space:
        parts.append(f"{numbers.percent(snapshot.key_space, proven=snapshot.done)} of key space")
        for name, row in (("accounts", rows["Accounts"]), ("slots", rows["Storage"]), ("codes", rows["Bytecodes"])):
            parts.append(f"{name} {numbers.count(row.items)}{_pace(row)}")
        for name, word in (("Headers", "of headers"), ("Healing", "healed")):
            if name in rows:
                row = rows[name]
                parts.append(f"{numbers.percent(row.share, proven=snapshot.done)} {word}{_pace(row)}")
        pace = f" at {numbers.size(snapshot.wire_rate)}/s" if snapshot.wire_rate is not None else ""
        parts.append(f"received {numbers.size(snapshot.wire_bytes)}{pace}")
    if snapshot.kept:
        parts.append(f"kept from earlier runs {numbers.count(snapshot.kept)}")
    if not snapshot.done:
        parts += _peers(snapshot)
        parts.append(f"time left {left_text(snapshot)}")
    if snapshot.limit is not Limit.NOTHING:
        parts.append(f"limited by {snapshot.limit.value}")
    if snapshot.dropped:
        parts.append(f"dropped {numbers.count(snapshot.dropped_count)}: {snapshot.dropped}")
    if snapshot.warning:
        parts.append(f"warning: {snapshot.warning}")
    if snapshot.trouble:
        parts.append(snapshot.trouble)
    return " | ".join(parts)


def _pace(row: Row) -> str:
    return f" ({numbers.rate(row.rate)})" if row.rate is not None else ""


def _peers(snapshot: Snapshot) -> list[str]:
    census = snapshot.census
    if census is None or not census.searching:
        return [f"peers {numbers.count(snapshot.peer_count)}"]
    texts = found_text(census), dialled_text(census), peers_text(snapshot.peer_count, census)
    return [f"{name} {text}" for name, text in zip(("found", "dialled", "peers"), texts, strict=True)]


def json_fields(snapshot: Snapshot) -> dict[str, Any]:
    """Return the same as values: seconds, bytes, shares from 0 to 1; null where something is not known."""
    left = snapshot.left
    return {
        "elapsed_s": round(snapshot.elapsed, 3),
        "phase": snapshot.phase.value,
        "phase_number": PHASES.index(snapshot.phase) + 1 if snapshot.phase in PHASES else None,
        "phases": len(PHASES),
        "verified": snapshot.done,
        "block_number": snapshot.block_number,
        "state_root": snapshot.state_root or None,
        "stages": {
            row.name.lower(): {
                "share": _share(row.share, snapshot.done),
                "items": row.items,
                "per_s": None if row.rate is None else round(row.rate, 1),
                "bytes": row.bytes,
                "in_flight": row.in_flight,
                "owed": row.owed,
            }
            for row in snapshot.rows
        },
        "kept": snapshot.kept,
        "peers": snapshot.peer_count,
        "search": None if snapshot.census is None else census_fields(snapshot.census),
        "dropped": snapshot.dropped_count,
        "last_dropped": snapshot.dropped or None,
        "wire_bytes": snapshot.wire_bytes,
        "wire_bytes_per_s": None if snapshot.wire_rate is None else round(snapshot.wire_rate),
        "written_bytes": snapshot.written_bytes,
        "write_queue": snapshot.write_queue,
        "left_s": None if left is None else [round(left.low, 1), round(left.high, 1)],
        "limit": None if snapshot.limit is Limit.NOTHING else snapshot.limit.value,
        "warning": snapshot.warning or None,
        "trouble": snapshot.trouble or None,
    }


def _share(share: float, done: bool) -> float:
    """Return a share that says 1 only if the root was verified."""
    return 1.0 if done else min(0.9999, max(0.0, int(share * 10_000) / 10_000))


def success_line(progress: Progress, now: float) -> str:
    """Return the last line of a sync that succeeded. Raises ValueError if the root was not verified yet.

    Rates are of what this run fetched, over its whole time including verification. Leaves are accounts and slots.
    """
    if progress.phase is not Phase.DONE:
        raise ValueError("the state root was not verified yet")
    seconds = max(1e-3, now - progress.started)
    kept = progress.accounts.kept_items + progress.storage.kept_items
    fetched = progress.accounts.items + progress.storage.items - kept
    before = f", {numbers.count(kept)} leaves of it kept from before" if kept else ""
    number = "?" if progress.block_number is None else str(progress.block_number)
    return (
        f"block {number} verified: state root {progress.state_root}, {_counts(progress)}"
        f" in {numbers.duration(seconds)} ({numbers.scaled(fetched / seconds)} leaves/s,"
        f" {numbers.size(progress.wire_bytes / seconds)}/s{before})"
    )


def held_line(followed: Followed, state_root: str, age: float) -> str:
    """Return the line of a block whose state is held while following. `age`: of the block, in seconds."""
    parts = [f"block {followed.number} held"]
    if followed.seconds:
        changed = (
            f"{numbers.several(followed.accounts, 'account', 'accounts')} and "
            f"{numbers.several(followed.slots, 'slot', 'slots')} changed"
        )
        codes = f", {numbers.several(followed.codes, 'new code', 'new codes')}" if followed.codes else ""
        parts.append(f"{changed}{codes} in {followed.seconds:.1f} s, {numbers.size(followed.bytes)}")
    lag = numbers.several(followed.behind, "block", "blocks")
    parts.append(f"{lag} behind the head, {numbers.duration(max(0.0, age))} old")
    parts.append(f"state root {state_root}")
    return " | ".join(parts)


def kept_line(progress: Progress) -> str:
    """Return what an interrupted sync has kept, and that the same command goes on from there."""
    if progress.phase is Phase.DONE:
        return f"interrupted after verification: kept {_counts(progress)}"
    if progress.phase is Phase.VERIFYING:
        return f"interrupted: kept {_counts(progress)}; all is stored, the same command verifies it again"
    stored = progress.accounts.items + progress.storage.items + progress.codes.items
    if not stored:
        return "interrupted: nothing was stored yet; the same command starts again"
    share = numbers.percent(progress.key_space, proven=False)
    return f"interrupted: kept {_counts(progress)}, {share} of the key space; the same command continues from there"


def _counts(progress: Progress) -> str:
    headers = f", {numbers.count(progress.headers.items)} headers" if progress.headers.items else ""
    return (
        f"{numbers.count(progress.accounts.items)} accounts, {numbers.count(progress.storage.items)} slots,"
        f" {numbers.count(progress.codes.items)} codes{headers}"
    )
