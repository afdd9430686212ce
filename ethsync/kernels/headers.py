"""BlockHeaders replies → columns, and the rules that a header keeps by itself and towards its parent.

Fields of a header: Yellow Paper 4.3 and the tail that forks appended (`ethsync.wire.headers`). Rules: Yellow Paper
4.3.4, EIP-3675 (the merge), and the EIP that brought each tail field. One header is one row of `COLUMNS` numbers; the
bytes stay where they are.
"""
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np

from ethsync.kernels.compiler import BOOL, BYTES, INT, INTS, OUT_INT_ROWS, OUT_INTS, ROWS, inlined, kernel
from ethsync.kernels.memory import outside
from ethsync.kernels.rlp import MALFORMED, TOO_MANY, item, message_start

OFFSET, LENGTH, PARENT, NUMBER, TIME, DIFFICULTY, TAIL, EXTRA, SEALED, GAS_LIMIT, GAS_USED = range(11)
"""Columns: place of the header and of its parent's hash in the message; number; time; difficulty (as far as it
matters: 0, 1, 2, or 3 for more); fields after the 15th; bytes of extraData; 1 if it could be a header of proof of stake
(no ommers, nonce 0); gas."""

COLUMNS = 11
"""How many columns there are."""

MAX_SIZE = 64 * 1024
"""Longest header that is taken, as in `ethsync.wire.headers`."""

_ANY = 0
_WIDTHS = np.array(
    [32, 32, 20, 32, 32, 32, 256, -32, -8, -8, -8, -8, _ANY, 32, 8, -32, 32, -8, -8, 32, 32, 32, -8], np.int64
)
"""The 23 known fields: byte strings of that width, integers of at most so many bytes (negative), or any string."""

_BASE = 15  # fields of every header (Yellow Paper 4.3)
_KNOWN = 23  # fields of a header of Amsterdam
_MOST = 2**63 - 1  # what a column of int64 holds

_EMPTY_OMMERS = np.frombuffer(
    bytes.fromhex("1dcc4de8dec75d7aab85b567b6ccd41ad312451b948a7413f0a142fd40d49347"), np.uint8
)
"""Keccak-256 of the empty list (Yellow Paper 4.3.2)."""

EXTRA_BYTES = 32  # Yellow Paper 4.3.4; clique and the like put signatures there, before the merge only

FORKS = 5
"""Forks that appended to the header: London 1 field, Shanghai 1, Cancun 3, Prague 1, Amsterdam 2."""

_APPENDED = np.array([1, 1, 3, 1, 2], np.int64)

FAULTLESS, WRONG_TAIL, WRONG_GAS, WRONG_SEAL, WRONG_TIME, WRONG_DIFFICULTY, WRONG_NUMBER = range(7)
"""What `find_fault` finds."""


@inlined
def field_number(buf, start, size):
    """Read the integer in buf[start : start + size], of at most 8 bytes; beyond 2^63 - 1 it is that."""
    number = np.int64(0)
    for k in range(size):
        if number > _MOST >> 8:
            return np.int64(_MOST)
        number = (number << 8) | np.int64(buf[start + k])
    return number


@inlined
def sealed(buf, ommers, nonce):
    """Whether a header has no ommers and the nonce 0."""
    for k in range(32):
        if buf[ommers + k] != _EMPTY_OMMERS[k]:
            return 0
    for k in range(8):
        if buf[nonce + k] != 0:
            return 0
    return 1


@inlined
def read_header(buf, at, end, row):
    """Read the fields of the header whose payload is buf[at:end] into a row; False if it is none."""
    ommers = np.int64(0)
    count = np.int64(0)
    while at < end:
        start, size, listed = item(buf, at, end)
        if start < 0:
            return False
        if count < _KNOWN:
            width = _WIDTHS[count]
            if listed or (width > 0 and size != width):
                return False
            if width < 0 and (size > -width or (size > 0 and buf[start] == 0)):
                return False
        if count == 0:
            row[PARENT] = start
        elif count == 1:
            ommers = start
        elif count == 7:
            row[DIFFICULTY] = min(3, field_number(buf, start, min(size, 8)))
        elif count == 8:
            row[NUMBER] = field_number(buf, start, size)
        elif count == 9:
            row[GAS_LIMIT] = field_number(buf, start, size)
        elif count == 10:
            row[GAS_USED] = field_number(buf, start, size)
        elif count == 11:
            row[TIME] = field_number(buf, start, size)
        elif count == 12:
            row[EXTRA] = size
        elif count == 14:
            row[SEALED] = sealed(buf, ommers, start)
        count += 1
        at = start + size
    row[TAIL] = count - _BASE
    return count >= _BASE


@inlined
def scan_list(buf, at, end, rows, counts):
    """Read the headers that fill buf[at:end]."""
    count = np.int64(0)
    while at < end:
        start, size, listed = item(buf, at, end)
        if start < 0 or not listed or start + size - at > MAX_SIZE:
            return MALFORMED
        if count == rows.shape[0]:
            return TOO_MANY
        if not read_header(buf, start, start + size, rows[count]):
            return MALFORMED
        rows[count, OFFSET] = at
        rows[count, LENGTH] = start + size - at
        count += 1
        at = start + size
    counts[1] = count
    return 0


@kernel(BYTES, OUT_INT_ROWS, OUT_INTS)
def scan_headers(buf, rows, counts):
    """BlockHeaders [id, [header…]] → one row per header; counts = (request id, headers).

    Returns 0, MALFORMED, or TOO_MANY if there are more headers than rows.
    """
    if rows.shape[1] != COLUMNS or counts.shape[0] < 2:
        return TOO_MANY
    at = message_start(buf, counts)
    if at < 0:
        return MALFORMED
    start, size, listed = item(buf, at, buf.shape[0])
    if start < 0 or not listed or start + size != buf.shape[0]:
        return MALFORMED
    return scan_list(buf, start, start + size, rows, counts)


@kernel(BYTES, OUT_INT_ROWS, OUT_INTS)
def scan_page(buf, rows, counts):
    """Headers one after another, without a message around them → rows; counts[1]: how many. Returns 0 or an error."""
    if rows.shape[1] != COLUMNS or counts.shape[0] < 2:
        return TOO_MANY
    return scan_list(buf, 0, buf.shape[0], rows, counts)


@kernel(BYTES, INTS, ROWS, BOOL)
def count_linked(buf, parents, hashes, falling):
    """How many headers, from the first on, hold together by their parents' hashes.

    parents: places of the parent hashes; hashes (n, 32): of the headers themselves. `falling`: each header's parent
    comes after it, else before it. Returns 0 only for none at all, or MALFORMED for places outside the buffer.
    """
    n = parents.shape[0]
    if hashes.shape[0] < n or hashes.shape[1] != 32:
        return MALFORMED
    for i in range(n):
        if outside(buf, parents[i], 32):
            return MALFORMED
    for i in range(1, n):
        child = i - 1 if falling else i
        parent = i if falling else i - 1
        for k in range(32):
            if buf[parents[child] + k] != hashes[parent, k]:
                return i
    return n


@inlined
def tail_fits(row, schedule):
    """Whether a header has the tail fields of its forks, and no others but those of forks that we do not know yet."""
    wanted = np.int64(0)
    for fork in range(FORKS):
        since = row[NUMBER] if fork == 0 else row[TIME]
        if since >= schedule[fork]:
            wanted += _APPENDED[fork]
    if wanted == _KNOWN - _BASE:
        return row[TAIL] >= wanted
    return row[TAIL] == wanted


@inlined
def own_fault(row, schedule):
    """The first rule that a header breaks by itself."""
    if not tail_fits(row, schedule):
        return WRONG_TAIL
    if row[GAS_USED] > row[GAS_LIMIT]:
        return WRONG_GAS
    if row[DIFFICULTY] == 0 and row[NUMBER] > 0 and (row[SEALED] == 0 or row[EXTRA] > EXTRA_BYTES):
        return WRONG_SEAL
    return FAULTLESS


@kernel(INT, INT, INT, INT, INT, INT)
def family_fault(number, time, difficulty, parent_number, parent_time, parent_difficulty):
    """The first rule that a header breaks towards its parent.

    Times rise. Only in clique networks, with difficulty 1 or 2, may they stand still (EIP-225, period 0). Proof of
    stake, once begun, stays (EIP-3675); the genesis block belongs to neither.
    """
    if number != parent_number + 1:
        return WRONG_NUMBER
    if time < parent_time or (time == parent_time and difficulty not in (1, 2)):
        return WRONG_TIME
    if difficulty > 0 and parent_difficulty == 0 and parent_number > 0:
        return WRONG_DIFFICULTY
    return FAULTLESS


@kernel(OUT_INT_ROWS, INTS, BOOL, OUT_INTS)
def find_fault(rows, schedule, falling, where):
    """The first header of a chain that breaks a rule: returns the rule, where[0] = its row; or FAULTLESS.

    schedule: London's block number, then the times of Shanghai, Cancun, Prague and Amsterdam. The rows are those of
    `scan_headers`, whose links hold. Returns TOO_MANY if a column is too short.
    """
    if rows.shape[1] != COLUMNS or schedule.shape[0] != FORKS or where.shape[0] < 1:
        return TOO_MANY
    for i in range(rows.shape[0]):
        where[0] = i
        fault = own_fault(rows[i], schedule)
        if fault == FAULTLESS and i > 0:
            child = rows[i - 1] if falling else rows[i]
            parent = rows[i] if falling else rows[i - 1]
            where[0] = i - 1 if falling else i
            fault = family_fault(
                child[NUMBER], child[TIME], child[DIFFICULTY], parent[NUMBER], parent[TIME], parent[DIFFICULTY]
            )
        if fault != FAULTLESS:
            return fault
    return FAULTLESS
