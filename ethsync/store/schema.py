"""Every key and small record of the data directory, in one place. docs/format.md shows them as a table.

accounts/  A page · T top record · D debt · M marker · ! facts about the whole directory
bundles/   B bundle of small storage tries
storage/   S page · T top record · M marker, each with the account hash of a big contract
codes/     C bytecode
headers/   H header by number · P page of headers · M its marker · I its index · J large run of the index · ! facts
ledger/    R record of a big contract · P debt that was paid: what is said on the strength of the other databases
"""

from __future__ import annotations

import json
import struct
from dataclasses import asdict, dataclass
from enum import IntFlag
from typing import TYPE_CHECKING

from ethsync.errors import DatadirDamaged

if TYPE_CHECKING:
    from ethsync.state.pages import PagePath

FORMAT_VERSION = 1
"""Of the data directory as a whole: one of a higher version is not opened (docs/format.md)."""

ACCOUNT_PAGE = b"A"
TOP = b"T"
DEBT = b"D"
MARKER = b"M"
FACT = b"!"
BUNDLE = b"B"
STORAGE_PAGE = b"S"
RECORD = b"R"
CODE = b"C"
HEADER = b"H"
PAID = b"P"

# All others sort before the pages: what is written with a page does not span the pages above it, so LevelDB need not
# merge these again.
HEADER_PAGE = b"P"
HEADER_MARKER = b"M"
HEADER_INDEX = b"I"
HEADER_RUN = b"J"

FACT_FORMAT = FACT + b"format"
FACT_PIVOT = FACT + b"pivot"
FACT_DEPTH = FACT + b"depth"
FACT_RUNS = FACT + b"runs"
FACT_VERIFIED = FACT + b"verified"
FACT_MIXED = FACT + b"mixed"
"""There while pages of more than one state may be stored: their root is not that of the pivot."""
FACT_MOVES = FACT + b"moves"
"""How often another block became the pivot, in decimal digits."""
FACT_HEALED = FACT + b"healed"
"""Share of the key space that is proven equal to the pivot's, 0 to 1 in decimal digits, while accounts are healed."""
FACT_TOP = FACT + b"top"
FACT_FLOOR = FACT + b"floor"
"""Number of the lowest header that is wanted, in decimal digits."""
FACT_CODES = FACT + b"codes"
"""How many bytecodes were written, in decimal digits."""


class Debt(IntFlag):
    """What an account page still owes."""

    STORAGE = 1
    CODES = 2
    GONE = 4
    """Nothing: healing has removed the page, and what belonged to it is still to be removed."""


_STEP = struct.Struct("<Q")


@dataclass(frozen=True, slots=True)
class DebtRecord:
    """The debt of one account page. `step` tells debts of one page apart: 0 from the download, then rising."""

    flags: Debt
    step: int = 0

    def encode(self) -> bytes:
        """One byte of flags, then the step unless it is 0."""
        return bytes([self.flags]) + encode_step(self.step)


def encode_step(step: int) -> bytes:
    """What a paid debt says: which one it was."""
    return _STEP.pack(step) if step else b""


def decode_debt(value: bytes) -> DebtRecord:
    """Read a debt. Raises DatadirDamaged."""
    if not value or not 0 < value[0] <= Debt.STORAGE | Debt.CODES | Debt.GONE:
        raise DatadirDamaged("the debt of an account page is damaged")
    return DebtRecord(Debt(value[0]), decode_step(value[1:]))


def decode_step(value: bytes) -> int:
    """Read the step of a debt, or of a paid one. Raises DatadirDamaged."""
    if len(value) not in (0, _STEP.size):
        raise DatadirDamaged("the debt of an account page is damaged")
    return int(_STEP.unpack(value)[0]) if value else 0


@dataclass(frozen=True, slots=True)
class Format:
    """The first fact: which format this is and which network it holds."""

    version: int
    network: str
    chain_id: int
    genesis_hash: str

    @classmethod
    def of(cls, network: str, chain_id: int, genesis_hash: bytes) -> Format:
        """What a data directory that is made now says of itself. `genesis_hash` has 32 bytes."""
        return cls(FORMAT_VERSION, network, chain_id, f"0x{genesis_hash.hex()}")

    def encode(self) -> bytes:
        """As JSON, so that a person can read it with any LevelDB tool."""
        return json.dumps(asdict(self)).encode()


def decode_format(value: bytes) -> Format:
    """Read the first fact. A newer one may have other fields: only `version` must be there. Raises DatadirDamaged."""
    try:
        fields = json.loads(value)
        return Format(
            int(fields["version"]),
            str(fields.get("network", "?")),
            int(fields.get("chain_id", 0)),
            str(fields.get("genesis_hash", "")),
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise DatadirDamaged("the data directory does not say what it holds") from error


_MARKER = struct.Struct("<QQ")


@dataclass(frozen=True, slots=True)
class Marker:
    """A range of keys [origin, end) of one trie whose pages are all stored: written with them, never merged."""

    origin: int
    end: int
    leaves: int
    size: int

    def encode(self) -> tuple[bytes, bytes]:
        """Key (origin) and value (last key, leaves, bytes)."""
        return self.origin.to_bytes(32, "big"), (self.end - 1).to_bytes(32, "big") + _MARKER.pack(
            self.leaves, self.size
        )


def decode_marker(key: bytes, value: bytes) -> Marker:
    """Read a marker. Raises DatadirDamaged."""
    if len(key) != 32 or len(value) != 32 + _MARKER.size or key > value[:32]:
        raise DatadirDamaged(f"the marker at {key.hex()} is damaged")
    leaves, size = _MARKER.unpack_from(value, 32)
    return Marker(int.from_bytes(key, "big"), int.from_bytes(value[:32], "big") + 1, leaves, size)


_RECORD = struct.Struct("<32sBBQQ")


@dataclass(frozen=True, slots=True)
class TrieRecord:
    """A big contract's storage trie: root, page depth, whether all of it is stored, slots and bytes then."""

    root: bytes
    depth: int
    complete: bool
    leaves: int
    size: int

    def encode(self) -> bytes:
        """Fixed-width, little-endian."""
        return _RECORD.pack(self.root, self.depth, self.complete, self.leaves, self.size)


def decode_record(value: bytes) -> TrieRecord:
    """Read a big contract's record. Raises DatadirDamaged."""
    if len(value) != _RECORD.size:
        raise DatadirDamaged("the record of a big contract is damaged")
    root, depth, complete, leaves, size = _RECORD.unpack(value)
    if depth > 64 or complete > 1:
        raise DatadirDamaged("the record of a big contract is damaged")
    return TrieRecord(root, depth, bool(complete), leaves, size)


def account_key(family: bytes, path: PagePath) -> bytes:
    """Key of a page, top record, debt or bundle of the account trie."""
    return family + path.stored


def storage_key(family: bytes, account: bytes, path: PagePath) -> bytes:
    """Key of a page or top record of a big contract."""
    return family + account + path.stored


def header_key(number: int, family: bytes = HEADER) -> bytes:
    """Key of a header, or of a page of them or its marker by the number of its first header."""
    return family + number.to_bytes(8, "big")
