"""One account, as a person or a program looks at it."""

from __future__ import annotations

from dataclasses import dataclass

from ethsync.errors import MalformedMessage
from ethsync.hashing import EMPTY_CODE_HASH, EMPTY_TRIE_ROOT
from ethsync.wire import rlp


@dataclass(frozen=True, slots=True)
class Account:
    """An account of the state trie (Yellow Paper 4.1). balance is in wei."""

    nonce: int
    balance: int
    storage_root: bytes
    code_hash: bytes

    @property
    def has_storage(self) -> bool:
        """Whether any storage slot is set."""
        return self.storage_root != EMPTY_TRIE_ROOT

    @property
    def has_code(self) -> bool:
        """Whether the account is a contract (or delegates to one, EIP-7702)."""
        return self.code_hash != EMPTY_CODE_HASH

    def full(self) -> bytes:
        """The account as the value of its trie leaf."""
        return rlp.encode_list(
            [
                rlp.encode_int(self.nonce),
                rlp.encode_int(self.balance),
                rlp.encode_bytes(self.storage_root),
                rlp.encode_bytes(self.code_hash),
            ]
        )

    def slim(self) -> bytes:
        """The account in snap's slim form (devp2p caps/snap.md)."""
        return rlp.encode_list(
            [
                rlp.encode_int(self.nonce),
                rlp.encode_int(self.balance),
                rlp.encode_bytes(self.storage_root if self.has_storage else b""),
                rlp.encode_bytes(self.code_hash if self.has_code else b""),
            ]
        )


def decode_slim(slim: bytes) -> Account:
    """Read an account in snap's slim form. Raises MalformedMessage."""
    nonce, balance, root_item, code_item = rlp.split_fields(slim, 4, "a slim account")
    root, code = rlp.string(root_item), rlp.string(code_item)
    if len(root) not in (0, 32) or len(code) not in (0, 32):
        raise MalformedMessage("storage root and code hash of a slim account are empty or 32 bytes")
    return Account(rlp.integer(nonce, 8), rlp.integer(balance, 32), root or EMPTY_TRIE_ROOT, code or EMPTY_CODE_HASH)
