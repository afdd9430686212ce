"""How a server behaves: like one of the real clients, or like one of the liars that a client must survive.

A profile is data. Honest replies come from `ethsync.serve.snap`; a liar's are decoded, changed and encoded again, which
is slow and meant for tests.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ethsync.errors import ConfigError
from ethsync.serve import header_lies, lies
from ethsync.serve.snap import Reply, empty_reply, serve
from ethsync.wire import rlp
from ethsync.wire.snap import (
    REPLY_DECODERS,
    AccountRange,
    GetByteCodes,
    SnapMessage,
    StorageRanges,
    encode_account_range,
    encode_byte_codes,
    encode_storage_ranges,
    encode_trie_nodes,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ethsync.serve.header_lies import HeaderLie
    from ethsync.serve.lies import Lie
    from ethsync.serve.served import ServedStates
    from ethsync.wire.snap import SnapReply, SnapRequest

EVERYTHING = frozenset(
    {SnapMessage.ACCOUNT_RANGE, SnapMessage.STORAGE_RANGES, SnapMessage.BYTE_CODES, SnapMessage.TRIE_NODES}
)
RANGES = frozenset({SnapMessage.ACCOUNT_RANGE, SnapMessage.STORAGE_RANGES})

CAPPED_BYTES = 500
"""What a stingy peer sends at a time (geth eth/protocols/snap/sync_test.go, the capped peers)."""


@dataclass(frozen=True, slots=True)
class Profile:
    """A server's behaviour. Times in seconds.

    kinds: replies that the behaviour is about; the others are honest. first_lie: honest replies of those kinds before
    the first that is not. every: it is about each so-manieth of them. lie: what is done to a reply; header_lie: to one
    of headers. most_bytes, most_codes: caps on what is asked for.
    """

    name: str
    kinds: frozenset[SnapMessage] = EVERYTHING
    first_lie: int = 0
    every: int = 1
    lie: Lie | None = None
    useless: bool = False
    silent: bool = False
    malformed_when_unknown: bool = False
    empty_tails: bool = False
    most_bytes: int | None = None
    most_codes: int | None = None
    delay: float = 0.0
    disconnect_after: int | None = None
    header_lie: HeaderLie | None = None
    id_offset: int = 0
    repeats: bool = False

    def answer(self, states: ServedStates, request: SnapRequest, number: int) -> Reply | None:
        """The reply to the connection's number-th request of this kind (from 0), None for no reply at all.

        Runs in a worker thread.
        """
        empty = empty_reply(request)
        if empty.message not in self.kinds or number < self.first_lie or number % self.every:
            return serve(states, request)
        if self.silent:
            return None
        if self.useless:
            return empty
        if self.malformed_when_unknown and _is_unknown(states, request):
            return replace(empty, payload=_malformed(request))
        reply = serve(states, self._heeded(request))
        if self.empty_tails and not reply.items:
            return empty
        if self.lie is None and not self.id_offset:
            return reply
        return self._changed(states, request, reply)

    def _heeded(self, request: SnapRequest) -> SnapRequest:
        """The request as a peer takes it that caps what it sends."""
        if self.most_bytes is not None:
            request = replace(request, response_bytes=min(request.response_bytes, self.most_bytes))
        if self.most_codes is not None and isinstance(request, GetByteCodes):
            request = replace(request, hashes=request.hashes[: self.most_codes])
        return request

    def _changed(self, states: ServedStates, request: SnapRequest, reply: Reply) -> Reply:
        decoded = REPLY_DECODERS[reply.message](reply.payload)
        if self.lie is not None:
            decoded = self.lie(states, request, decoded)
        decoded = replace(decoded, request_id=(decoded.request_id + self.id_offset) % (1 << 64))
        return replace(reply, payload=encode_reply(decoded))


def _is_unknown(states: ServedStates, request: SnapRequest) -> bool:
    return not isinstance(request, GetByteCodes) and states.get(request.root) is None


def _malformed(request: SnapRequest) -> bytes:
    """A reply whose lists are byte strings."""
    return rlp.encode_list([rlp.encode_int(request.request_id), b"\x80", b"\x80"])


def _account_payload(reply: AccountRange) -> bytes:
    pairs = b"".join(rlp.encode_list([rlp.encode_bytes(key), body]) for key, body in reply.accounts)
    return encode_account_range(reply.request_id, pairs, reply.proof)


def _storage_payload(reply: StorageRanges) -> bytes:
    sets = [
        rlp.encode_list(rlp.encode_list([rlp.encode_bytes(key), rlp.encode_bytes(value)]) for key, value in slots)
        for slots in reply.slots
    ]
    return encode_storage_ranges(reply.request_id, b"".join(sets), reply.proof)


_ENCODERS: Mapping[SnapMessage, Callable[[Any], bytes]] = {
    SnapMessage.ACCOUNT_RANGE: _account_payload,
    SnapMessage.STORAGE_RANGES: _storage_payload,
    SnapMessage.BYTE_CODES: lambda reply: encode_byte_codes(reply.request_id, reply.codes),
    SnapMessage.TRIE_NODES: lambda reply: encode_trie_nodes(reply.request_id, reply.nodes),
}


def encode_reply(reply: SnapReply) -> bytes:
    """Encode a decoded reply again."""
    return _ENCODERS[reply.message](reply)


_CODES = frozenset({SnapMessage.BYTE_CODES})
_ACCOUNTS = frozenset({SnapMessage.ACCOUNT_RANGE})
_STORAGE = frozenset({SnapMessage.STORAGE_RANGES})

PROFILES: Mapping[str, Profile] = {
    profile.name: profile
    for profile in (
        # Real clients. geth: every habit of `ethsync.serve.snap`; importing: while blocks come. Besu announces snap/1
        # with its server switched off.
        Profile("geth"),
        Profile("besu", useless=True),
        Profile("importing", kinds=RANGES, every=3, lie=lies.interrupted),
        Profile("nethermind", malformed_when_unknown=True, empty_tails=True),
        # Honest, but hard to work with.
        Profile("capped", most_bytes=CAPPED_BYTES, most_codes=1),
        Profile("silent", silent=True),
        Profile("slow", delay=1.0),
        Profile("disconnecting", disconnect_after=5),
        Profile("no-accounts", useless=True, kinds=_ACCOUNTS),
        Profile("no-storage", useless=True, kinds=_STORAGE),
        Profile("no-codes", useless=True, kinds=_CODES),
        Profile("bloated-proof", kinds=RANGES, lie=lies.bloated_proof),
        Profile("reversed-proof", kinds=RANGES, lie=lies.reversed_proof),
        Profile("proof-of-full-set", kinds=_STORAGE, lie=lies.proof_of_full_set),
        Profile("late-duplicates", repeats=True),
        Profile("truncated", kinds=RANGES, lie=lies.truncated),
        # Liars.
        Profile("missing-proof-node", kinds=RANGES, lie=lies.missing_proof_node),
        Profile("corrupt-proof", kinds=RANGES, lie=lies.corrupt_proof),
        Profile("misplaced-proof", kinds=RANGES, lie=lies.misplaced_proof),
        Profile("no-proof", kinds=RANGES, lie=lies.no_proof),
        Profile("gap", kinds=RANGES, lie=lies.gap),
        Profile("reordered", kinds=RANGES, lie=lies.reordered),
        Profile("duplicated", kinds=RANGES, lie=lies.duplicated),
        Profile("changed-key", kinds=RANGES, lie=lies.changed_key),
        Profile("changed-value", kinds=RANGES, lie=lies.changed_value),
        Profile("wrong-code", kinds=_CODES, lie=lies.wrong_code),
        Profile("missing-codes", kinds=_CODES, lie=lies.missing_codes),
        Profile("reordered-codes", kinds=_CODES, lie=lies.reordered_codes),
        Profile("unasked-code", kinds=_CODES, lie=lies.unasked_code),
        Profile("wrong-id", id_offset=1),
        # The same of headers: the first three are hard to work with, the others lie.
        Profile("few-headers", header_lie=header_lies.few),
        Profile("no-headers", header_lie=header_lies.empty),
        Profile("silent-about-headers", header_lie=header_lies.silent),
        Profile("header-gap", header_lie=header_lies.gap),
        Profile("headers-upside-down", header_lie=header_lies.upside_down),
        Profile("too-many-headers", header_lie=header_lies.too_many),
        Profile("changed-header", header_lie=header_lies.changed),
        Profile("undecodable-headers", header_lie=header_lies.undecodable),
        Profile("other-chain", header_lie=header_lies.other_chain),
    )
}
"""All profiles by name. Vary one with `dataclasses.replace`, say `replace(PROFILES["slow"], delay=0.1)`."""


def profile_named(name: str) -> Profile:
    """Look a profile up. Raises ConfigError."""
    if name not in PROFILES:
        raise ConfigError(f"there is no server profile '{name}'", hint=f"use one of {', '.join(PROFILES)}")
    return PROFILES[name]
