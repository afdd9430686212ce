"""What every part of snap/1 shares: message ids and limits (devp2p caps/snap.md, version 1)."""

from __future__ import annotations

from enum import IntEnum

NAME = "snap"
VERSION = 1
LENGTH = 8
"""Message ids occupied by snap/1."""

MAX_MESSAGE_SIZE = 10 * 1024 * 1024
"""Longest message after inflating, in bytes (geth eth/protocols/snap/protocol.go, maxMessageSize)."""

SOFT_RESPONSE_LIMIT = 2 * 1024 * 1024
"""Bytes after which a server ends its reply (geth eth/protocols/snap/handler.go, softResponseLimit)."""

MAX_CODE_LOOKUPS = 1024
"""Bytecodes that one request gets answered (geth, maxCodeLookups)."""

MAX_TRIE_NODE_LOOKUPS = 1024
"""Trie nodes that one request gets answered (geth, maxTrieNodeLookups)."""

MAX_PROOF_NODES = 128
"""Proof nodes that a reply may hold (geth eth/protocols/snap/handlers.go)."""

REQUEST_ID_SIZE = 8
"""Longest request id in bytes (devp2p snap.md: uint64)."""


class SnapMessage(IntEnum):
    """Message ids relative to the snap offset."""

    GET_ACCOUNT_RANGE = 0x00
    ACCOUNT_RANGE = 0x01
    GET_STORAGE_RANGES = 0x02
    STORAGE_RANGES = 0x03
    GET_BYTE_CODES = 0x04
    BYTE_CODES = 0x05
    GET_TRIE_NODES = 0x06
    TRIE_NODES = 0x07
