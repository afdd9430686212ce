"""Accounts as the `rlp` package writes them, in snap's slim form and as leaves of the account trie."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from rlp.codec import encode_raw

from ethsync.hashing import EMPTY_CODE_HASH, EMPTY_TRIE_ROOT


def scalar(value: int) -> bytes:
    return value.to_bytes((value.bit_length() + 7) // 8, "big")


@dataclass(frozen=True, slots=True)
class Account:
    """Empty root and code stand for an account without storage, without code."""

    nonce: int = 0
    balance: int = 0
    root: bytes = b""
    code: bytes = b""

    @property
    def slim(self) -> bytes:
        return bytes(encode_raw([scalar(self.nonce), scalar(self.balance), self.root, self.code]))

    @property
    def full(self) -> bytes:
        fields = [scalar(self.nonce), scalar(self.balance), self.root or EMPTY_TRIE_ROOT, self.code or EMPTY_CODE_HASH]
        return bytes(encode_raw(fields))


def random_account(rng: Random) -> Account:
    return Account(
        rng.getrandbits(rng.choice((0, 1, 7, 8, 33, 64))),
        rng.getrandbits(rng.choice((0, 7, 8, 64, 255, 256))),
        rng.choice((b"", b"", rng.randbytes(32), EMPTY_TRIE_ROOT)),
        rng.choice((b"", b"", rng.randbytes(32), EMPTY_CODE_HASH)),
    )


EDGE_ACCOUNTS = [
    Account(),
    Account(nonce=1),
    Account(nonce=0x7F, balance=0x80),
    Account(nonce=0x80, balance=0x7F),
    Account(nonce=2**64 - 1, balance=2**256 - 1, root=b"\x11" * 32, code=b"\x22" * 32),
    Account(root=b"\x11" * 32),
    Account(code=b"\x22" * 32),
    Account(balance=2**160 - 1, root=b"\x11" * 32),  # 21 + 1 + 33 + 1 = 56 bytes: the first long list header
    Account(balance=2**152 - 1, root=b"\x11" * 32),  # 55 bytes: the last short one
    Account(root=EMPTY_TRIE_ROOT, code=EMPTY_CODE_HASH),
]

_HASH = b"\xa0" + b"\x11" * 32


def _listed(payload: bytes) -> bytes:
    return bytes([0xC0 + len(payload)]) + payload if len(payload) < 56 else bytes([0xF8, len(payload)]) + payload


NOT_SLIM_ACCOUNTS: dict[str, bytes] = {
    "nothing": b"\x80",
    "empty list": b"\xc0",
    "a string": b"\x84\x80\x80\x80\x80",
    "three fields": _listed(b"\x80\x80\x80"),
    "five fields": _listed(b"\x80" * 5),
    "nonce with a leading zero": _listed(b"\x82\x00\x01\x80\x80\x80"),
    "nonce is a zero byte": _listed(b"\x00\x80\x80\x80"),
    "nonce below 128 with a header": _listed(b"\x81\x05\x80\x80\x80"),
    "nonce of 9 bytes": _listed(b"\x89" + b"\x01" * 9 + b"\x80\x80\x80"),
    "nonce is a list": _listed(b"\xc0\x80\x80\x80"),
    "nonce in the long form": _listed(b"\xb8\x01\x81\x80\x80\x80"),
    "balance with a leading zero": _listed(b"\x80\x82\x00\x01\x80\x80"),
    "balance is a zero byte": _listed(b"\x80\x00\x80\x80"),
    "balance below 128 with a header": _listed(b"\x80\x81\x7f\x80\x80"),
    "balance of 33 bytes": _listed(b"\x80\xa1" + b"\x01" * 33 + b"\x80\x80"),
    "balance is a list": _listed(b"\x80\xc1\x01\x80\x80"),
    "root of 31 bytes": _listed(b"\x80\x80\x9f" + b"\x11" * 31 + b"\x80"),
    "root of 33 bytes": _listed(b"\x80\x80\xa1" + b"\x11" * 33 + b"\x80"),
    "root of one byte": _listed(b"\x80\x80\x05\x80"),
    "root in the long form": _listed(b"\x80\x80\xb8\x20" + b"\x11" * 32 + b"\x80"),
    "code hash of 31 bytes": _listed(b"\x80\x80\x80\x9f" + b"\x22" * 31),
    "code hash of 33 bytes": _listed(b"\x80\x80\x80\xa1" + b"\x22" * 33),
    "code hash cut off": _listed(b"\x80\x80\x80\xa0" + b"\x22" * 31),
    "bytes after the list": _listed(b"\x80" * 4) + b"\x80",
    "list longer than its bytes": b"\xc5\x80\x80\x80\x80",
    "list shorter than its bytes": b"\xc3\x80\x80\x80\x80",
    "short payload under a long header": b"\xf8\x04\x80\x80\x80\x80",
    "long payload under two length bytes": b"\xf9\x00\x44\x80\x80" + _HASH + _HASH,
    "length byte missing": b"\xf8\x44\x80\x80" + _HASH + _HASH[:-1],
}
"""Bytes that are not a canonical slim account, by what is wrong with them."""
