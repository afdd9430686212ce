"""The live view: one still frame of it, made of rich's tables and text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.table import Table
from rich.text import Text

from ethsync.sync.progress import Limit, Phase
from ethsync.ui import numbers
from ethsync.ui.lines import left_text, phase_text
from ethsync.ui.search import dialled_text, found_text, peers_text

if TYPE_CHECKING:
    from ethsync.ui.snapshot import PeerRow, Row, Snapshot

WIDEST = 116
"""Columns beyond this are left empty: a row that is too long is hard to follow with the eye."""

LABEL = 12
"""Characters for the names on the left."""

GAP = 2
"""Blanks between columns."""

COLUMNS = (("share", 6), ("items", 10), ("rate", 8), ("bytes", 7), ("in flight", 9), ("missing", 7))
"""Numbers of a stage and their widths in characters. The widths are fixed, so that nothing moves while numbers grow."""

WIDE_ITEMS = 13
"""For `items` where there is room: 1,500,000,000 slots, mainnet's, in full."""

WIDE = 100
"""Columns of a terminal from which there is."""

EXPENDABLE = ("bytes", "in flight", "missing")
"""What a narrow terminal goes without, in this order."""

LEAST_BAR = 6
"""A shorter bar shows nothing, and is left out."""

BAR_TITLE = "share of key space"


class Frame:
    """A snapshot laid out for the width of the console it is printed on."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the parts from top to bottom."""
        width = min(options.max_width, WIDEST)
        yield Group(
            Text(),
            _heading(self._snapshot, width),
            Text(),
            _stages(self._snapshot, width),
            Text(),
            _figures(self._snapshot, width),
            Text(),
        )


def _text(text: str, style: str = "") -> Text:
    """Return text that never wraps: a line more or less would make the whole view jump."""
    return Text(text, style=style, no_wrap=True, overflow="ellipsis")


def _heading(snapshot: Snapshot, width: int) -> Table:
    clock = numbers.clock(snapshot.elapsed)
    block = "unknown" if snapshot.block_number is None else numbers.count(snapshot.block_number)
    title = Text.assemble(("ethsync", "bold"), ("  block ", "dim"), block, no_wrap=True, overflow="ellipsis")
    room = width - len(title) - len("  state root ") - GAP - len(clock)
    forms = (snapshot.state_root, numbers.short_hash(snapshot.state_root))
    root = next((text for text in forms if 0 < len(text) <= room), "")
    if root:
        title.append("  state root ", "dim").append(root)
    phase = phase_text(snapshot.phase)
    grid = Table.grid(padding=0, expand=False)
    grid.add_column(width=width - len(clock))
    grid.add_column(width=len(clock), justify="right")
    grid.add_row(title, _text(clock))
    grid.add_row(_text(phase[0].upper() + phase[1:], "bold green" if snapshot.done else "bold cyan"), "")
    return grid


def _stages(snapshot: Snapshot, width: int) -> Table:
    widths = dict(COLUMNS)
    if width >= WIDE:
        widths["items"] = WIDE_ITEMS
    for name in EXPENDABLE:
        if _room(widths, width) < -GAP:
            del widths[name]
    room = _room(widths, width)
    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, show_edge=False, header_style="dim")
    table.add_column("", width=LABEL, no_wrap=True)
    titled = room >= len(BAR_TITLE)
    if room >= LEAST_BAR:
        table.add_column(BAR_TITLE if titled else "", width=room, no_wrap=True)
    for name, size in widths.items():
        table.add_column("" if titled and name == "share" else name, width=size, justify="right", no_wrap=True)
    for row in snapshot.rows:
        bar = [_bar(row.share, room, snapshot.done)] if room >= LEAST_BAR else []
        cells = _cells(row, snapshot, widths)
        table.add_row(_text(row.name), *bar, *(cells[name] for name in widths))
    return table


def _room(widths: dict[str, int], width: int) -> int:
    """Return what is left for a bar beside the name and these columns."""
    return width - LABEL - GAP - sum(GAP + size for size in widths.values())


def _cells(row: Row, snapshot: Snapshot, widths: dict[str, int]) -> dict[str, Text]:
    if row.name == "Verification" and snapshot.phase not in (Phase.VERIFYING, Phase.DONE):
        return {name: _text("-", "dim") for name in widths}
    texts = {
        "share": numbers.percent(row.share, proven=snapshot.done),
        "items": _fitting(row.items, widths["items"]),
        "rate": numbers.rate(row.rate),
        "bytes": numbers.size(row.bytes),
        "in flight": _fitting(row.in_flight, widths.get("in flight", 0)),
        "missing": _fitting(row.owed, widths.get("missing", 0)),
    }
    return {name: _text(text, "dim" if text in ("-", "0", "0 B", "0/s") else "") for name, text in texts.items()}


def _fitting(number: int | None, width: int) -> str:
    """Return a number in full if it fits, else with three digits."""
    if number is None:
        return "-"
    full = numbers.count(number)
    return full if len(full) <= width else numbers.scaled(number)


def _bar(share: float, width: int, done: bool) -> Text:
    """Return a bar that is full only if all is verified."""
    filled = width if done else min(width - 1, max(0, int(share * width)))
    return Text.assemble(("━" * filled, "green" if done else "cyan"), ("─" * (width - filled), "bright_black"))


def _figures(snapshot: Snapshot, width: int) -> Table:
    grid = Table.grid(padding=0, expand=False)
    grid.add_column(width=LABEL + GAP, style="dim")
    grid.add_column(width=width - LABEL - GAP)
    speed = "" if snapshot.wire_rate is None else f"{numbers.size(snapshot.wire_rate)}/s, "
    grid.add_row("Received", _text(f"{speed}{numbers.size(snapshot.wire_bytes)} in all"))
    if snapshot.kept:
        grid.add_row("Kept", _text(f"{numbers.count(snapshot.kept)} accounts, slots and codes from earlier runs"))
    waiting = f", {numbers.several(snapshot.write_queue, 'batch', 'batches')} waiting" if snapshot.write_queue else ""
    grid.add_row("Written", _text(f"{numbers.size(snapshot.written_bytes)}{waiting}"))
    if not snapshot.done:
        grid.add_row("Time left", _text(left_text(snapshot)))
        grid.add_row("Limited by", _text("-" if snapshot.limit is Limit.NOTHING else snapshot.limit.value))
    if snapshot.census is not None and snapshot.census.searching:
        grid.add_row("Found", _text(found_text(snapshot.census)))
        grid.add_row("Dialled", _text(dialled_text(snapshot.census)))
    grid.add_row("Peers", _text(peers_text(snapshot.peer_count, snapshot.census)))
    for peer in snapshot.peers:
        grid.add_row("", _peer(peer))
    if snapshot.dropped:
        lead = f"{numbers.count(snapshot.dropped_count)} peers, the last: " if snapshot.dropped_count > 1 else ""
        grid.add_row("Dropped", Text(f"{lead}{snapshot.dropped}", style="yellow", overflow="fold"))
    if snapshot.warning:
        grid.add_row("Warning", Text(snapshot.warning, style="yellow", overflow="fold"))
    if snapshot.trouble:
        grid.add_row("Trouble", Text(snapshot.trouble, style="yellow", overflow="fold"))
    return grid


def _peer(peer: PeerRow) -> Text:
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append(f"{numbers.size(peer.rate) + '/s':>9}  {peer.in_flight:>2} in flight  ")
    line.append(peer.address)
    line.append(f"  {peer.name}", "dim")
    return line
