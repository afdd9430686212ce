"""What people type into the console, as messages. Pure: a line and what is known go in, an action comes out."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from ethsync.errors import ConfigError
from ethsync.wire import eth, p2p, rlp, snap
from ethsync.wire.p2p import P2PMessage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ethsync.rlpx.capabilities import SharedCapability
    from ethsync.wire.rlp import Encodable
    from ethsync.wire.status import Status

MAX_HASH = b"\xff" * 32
ZERO_HASH = bytes(32)

DEFAULT_BYTES = 64 << 10
"""What is asked of a snap server unless the line says otherwise: a screenful many times over, a reply in no time."""


@dataclass(frozen=True, slots=True)
class Send:
    """Send one message. `message_id` is absolute; base protocol messages are those under 0x10."""

    message_id: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Show:
    """Print this."""

    text: str


@dataclass(frozen=True, slots=True)
class Quit:
    """Leave."""


Action: TypeAlias = "Send | Show | Quit"


@dataclass(slots=True)
class Known:
    """What the console knows and lines may refer to. `state_root` is that of the last header that came."""

    shared: Mapping[str, SharedCapability]
    status: Status | None = None
    state_root: bytes | None = None
    request_id: int = 0

    def next_id(self) -> int:
        """A request id that was not used yet."""
        self.request_id += 1
        return self.request_id


def parse_line(line: str, known: Known) -> Action | None:
    """Turn a line into an action; None for an empty one. Raises ConfigError that says what is wrong with it."""
    try:
        words = shlex.split(line, comments=True)
    except ValueError as error:
        raise ConfigError(f"cannot read that: {error}") from error
    if not words:
        return None
    command = COMMANDS.get(words[0])
    if command is None:
        raise ConfigError(f"there is no command '{words[0]}'", hint="`help` lists them")
    return command.act(words[1:], known)


@dataclass(frozen=True, slots=True)
class Command:
    """One command: how it is written, what it does, and the function that does it."""

    usage: str
    help: str
    act: Callable[[list[str], Known], Action]


def _help(words: list[str], known: Known) -> Action:
    return Show("\n".join(f"  {command.usage:<58} {command.help}" for command in COMMANDS.values()))


def _quit(words: list[str], known: Known) -> Action:
    return Quit()


def _ping(words: list[str], known: Known) -> Action:
    return Send(P2PMessage.PING, p2p.EMPTY_PAYLOAD)


def _disconnect(words: list[str], known: Known) -> Action:
    return Send(P2PMessage.DISCONNECT, rlp.encode([number(words[0]) if words else 0x08]))


def _headers(words: list[str], known: Known) -> Action:
    words = words or ["head"]
    origin: bytes | int
    if words[0] == "head":
        if known.status is None:
            raise ConfigError("no Status has come yet, so the head is not known")
        origin = known.status.head_hash
    else:
        origin = hash_of(words[0]) if words[0].startswith("0x") else number(words[0])
    count, skip = (number(words[index]) if len(words) > index else default for index, default in ((1, 1), (2, 0)))
    request = eth.GetBlockHeaders(known.next_id(), origin, count, skip, "reverse" in words[3:])
    return _request(eth.NAME, request.message, request.encode(), known)


def _by_hash(capability: str, kind: Callable[[int, tuple[bytes, ...]], Any]) -> Callable[[list[str], Known], Action]:
    def act(words: list[str], known: Known) -> Action:
        request = kind(known.next_id(), tuple(hash_of(word) for word in _needed(words, "a hash")))
        return _request(capability, request.message, request.encode(), known)

    return act


def _receipts(words: list[str], known: Known) -> Action:
    positional, options = _options(words, "index")
    shared = known.shared.get(eth.NAME)
    request = eth.RECEIPT_REQUESTS[shared.version if shared else max(eth.VERSIONS)](
        known.next_id(), tuple(hash_of(word) for word in _needed(positional, "a hash"))
    )
    if "index" in options:
        if not isinstance(request, eth.GetPartialReceipts):
            raise ConfigError("receipts from an index on exist from eth/70 on")
        request = replace(request, first_index=number(options["index"]))
    return _request(eth.NAME, request.message, request.encode(), known)


def _range(words: list[str], known: Known) -> Action:
    if len(words) != 3:
        raise ConfigError("which blocks?", hint=COMMANDS["range"].usage)
    update = eth.BlockRangeUpdate(number(words[0]), number(words[1]), hash_of(words[2]))
    return _request(eth.NAME, update.message, update.encode(), known)


def _accounts(words: list[str], known: Known) -> Action:
    positional, options = _options(words, "origin", "limit", "bytes")
    request = snap.GetAccountRange(
        known.next_id(),
        _root(positional[:1], known),
        hash_of(options.get("origin", ZERO_HASH.hex())),
        hash_of(options.get("limit", MAX_HASH.hex())),
        number(options.get("bytes", str(DEFAULT_BYTES))),
    )
    return _request(snap.NAME, request.message, request.encode(), known)


def _storage(words: list[str], known: Known) -> Action:
    positional, options = _options(words, "root", "origin", "limit", "bytes")
    request = snap.GetStorageRanges(
        known.next_id(),
        _root([options["root"]] if "root" in options else [], known),
        tuple(hash_of(word) for word in _needed(positional, "an account hash")),
        hash_of(options["origin"]) if "origin" in options else b"",
        hash_of(options["limit"]) if "limit" in options else b"",
        number(options.get("bytes", str(DEFAULT_BYTES))),
    )
    return _request(snap.NAME, request.message, request.encode(), known)


def _codes(request_id: int, hashes: tuple[bytes, ...]) -> snap.GetByteCodes:
    return snap.GetByteCodes(request_id, hashes, DEFAULT_BYTES)


def _nodes(words: list[str], known: Known) -> Action:
    positional, options = _options(words, "root", "bytes")
    paths = tuple(
        tuple(hexadecimal(part) for part in word.split("/")) for word in _needed(positional, "a hex-prefixed path")
    )
    request = snap.GetTrieNodes(
        known.next_id(),
        _root([options["root"]] if "root" in options else [], known),
        paths,
        number(options.get("bytes", str(DEFAULT_BYTES))),
    )
    return _request(snap.NAME, request.message, request.encode(), known)


def _send(words: list[str], known: Known) -> Action:
    if len(words) < 2:
        raise ConfigError("which message?", hint=COMMANDS["send"].usage)
    value = words[2] if len(words) > 2 else "[]"
    return _request(words[0], number(words[1]), rlp.encode(_rlp_value(value)), known)


def _raw(words: list[str], known: Known) -> Action:
    if not words:
        raise ConfigError("which message id?", hint=COMMANDS["raw"].usage)
    return Send(number(words[0]), hexadecimal(words[1]) if len(words) > 1 else b"")


COMMANDS: Mapping[str, Command] = {
    "help": Command("help", "this list", _help),
    "ping": Command("ping", "a base protocol Ping", _ping),
    "headers": Command("headers head|NUMBER|0xHASH [COUNT [SKIP [reverse]]]", "eth GetBlockHeaders", _headers),
    "bodies": Command("bodies 0xHASH…", "eth GetBlockBodies", _by_hash(eth.NAME, eth.GetBlockBodies)),
    "receipts": Command("receipts 0xHASH… [index=N]", "eth GetReceipts", _receipts),
    "accesslists": Command(
        "accesslists 0xHASH…", "eth GetBlockAccessLists (eth/71)", _by_hash(eth.NAME, eth.GetBlockAccessLists)
    ),
    "range": Command("range EARLIEST LATEST 0xHASH", "eth BlockRangeUpdate (eth/69)", _range),
    "transactions": Command(
        "transactions 0xHASH…", "eth GetPooledTransactions", _by_hash(eth.NAME, eth.GetPooledTransactions)
    ),
    "accounts": Command("accounts [0xROOT] [origin=0x…] [limit=0x…] [bytes=N]", "snap GetAccountRange", _accounts),
    "storage": Command("storage 0xACCOUNT… [root=0x…] [origin=0x…] [limit=0x…]", "snap GetStorageRanges", _storage),
    "codes": Command("codes 0xHASH…", "snap GetByteCodes", _by_hash(snap.NAME, _codes)),
    "nodes": Command("nodes PATH|ACCOUNT/PATH… [root=0x…]", "snap GetTrieNodes, paths in hex-prefix form", _nodes),
    "send": Command("send CAPABILITY CODE [JSON]", "any message, e.g. send eth 0x03 '[7, [\"0x64\", 1, 0, 0]]'", _send),
    "raw": Command("raw ID [HEX]", "any message id with these bytes as payload", _raw),
    "disconnect": Command("disconnect [REASON]", "a Disconnect with this reason (default 0x08, quitting)", _disconnect),
    "quit": Command("quit", "leave; so does the end of the input", _quit),
}
"""All commands, in the order in which `help` lists them. A root left out is that of the last header that came."""


def _request(capability: str, code: int, payload: bytes, known: Known) -> Send:
    shared = known.shared.get(capability)
    if shared is None:
        raise ConfigError(f"the node does not share {capability} with us")
    if not 0 <= code < shared.length:
        raise ConfigError(f"{capability}/{shared.version} has no message 0x{code:02x}", hint="`raw` sends any id")
    return Send(shared.offset + code, payload)


def _options(words: list[str], *names: str) -> tuple[list[str], dict[str, str]]:
    """Split words into plain ones and those of the form name=value."""
    pairs = dict(word.split("=", 1) for word in words if "=" in word)
    unknown = set(pairs) - set(names)
    if unknown:
        raise ConfigError(f"there is no option '{unknown.pop()}' here", hint=f"known: {', '.join(names)}")
    return [word for word in words if "=" not in word], pairs


def _needed(words: list[str], what: str) -> list[str]:
    if not words:
        raise ConfigError(f"needs {what}")
    return words


def _root(words: list[str], known: Known) -> bytes:
    if words:
        return hash_of(words[0])
    if known.state_root is None:
        raise ConfigError("no state root is known yet", hint="ask for `headers head` first, or give the root")
    return known.state_root


def number(text: str) -> int:
    """A non-negative number, decimal or 0x…. Raises ConfigError."""
    try:
        value = int(text, 0)
    except ValueError:
        value = -1
    if not 0 <= value < 1 << 64:
        raise ConfigError(f"'{text}' is not a number of up to 64 bits")
    return value


def hexadecimal(text: str) -> bytes:
    """Bytes in hexadecimal digits, with or without 0x. Raises ConfigError."""
    try:
        return bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        raise ConfigError(f"'{text}' is not hexadecimal") from None


def hash_of(text: str) -> bytes:
    """A hash of 32 bytes; shorter ones are filled up with zeros on the right, as a prefix of a key space."""
    data = hexadecimal(text)
    if len(data) > 32:
        raise ConfigError(f"'{text}' has {len(data)} bytes, a hash has 32")
    return data.ljust(32, b"\0")


def _rlp_value(text: str) -> Encodable:
    """JSON as RLP: lists are lists, numbers are integers, strings are hexadecimal bytes."""
    try:
        return _encodable(json.loads(text))
    except json.JSONDecodeError as error:
        raise ConfigError(f"not JSON: {error.msg} at {error.pos}", hint='lists, numbers and "0x…" strings') from error


def _encodable(value: object) -> Encodable:
    if isinstance(value, str):
        return hexadecimal(value)
    if isinstance(value, list):
        return [_encodable(item) for item in value]
    if isinstance(value, int) and value >= 0:
        return int(value)
    raise ConfigError(f"{value!r} has no RLP form", hint='lists, numbers and "0x…" strings')
