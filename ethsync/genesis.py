"""Genesis files in go-ethereum's JSON format: the state, header, hash and forks they define.

The format is that of go-ethereum's core/genesis.go: numbers are decimal or 0x-prefixed hexadecimal, as JSON numbers or
strings; addresses and byte strings are hexadecimal, `0x` or not.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from ethsync.errors import ConfigError
from ethsync.hashing import EMPTY_CODE_HASH, EMPTY_TRIE_ROOT, keccak256
from ethsync.kernels.keccak import hash_many
from ethsync.networks import BLOCK_FORKS, TIME_FORKS, Fork, Network
from ethsync.state.tries import root_of
from ethsync.wire import rlp
from ethsync.wire.forkid import ForkSchedule
from ethsync.wire.headers import Header, build_header

GenesisSource: TypeAlias = "str | Path | Mapping[str, Any]"
"""The path of a genesis JSON, or the document itself."""

RootOf: TypeAlias = Callable[[list[bytes], list[bytes]], bytes]
"""(keys in ascending order, their values) -> trie root."""

DEFAULT_GAS_LIMIT = 4_712_388
"""Gas limit where the file says 0 (go-ethereum, params/protocol_params.go, GenesisGasLimit)."""

INITIAL_BASE_FEE = 1_000_000_000
"""Base fee in wei of a London genesis that names none (EIP-1559)."""

EMPTY_ACCESS_LIST_HASH = keccak256(b"\xc0")
"""Hash of an empty block access list (EIP-7928)."""

EMPTY_REQUESTS_HASH = sha256(b"").digest()
"""Hash of no execution requests (EIP-7685)."""

_OTHER_NAMES = {"daoFork": "DAO", "eip150": "TangerineWhistle", "eip155": "EIP-155", "eip158": "SpuriousDragon"}
"""Forks whose keys in the file are not their names."""


class GenesisAccount(NamedTuple):
    """One account of the genesis state. `storage` maps slot numbers to values, none of them zero."""

    address: bytes
    nonce: int
    balance: int
    code: bytes
    storage: dict[int, int]


def network_from_genesis(source: GenesisSource) -> Network:
    """Compute the network that a genesis file describes: forks, state root, header and hash.

    Takes about 2 seconds per 100,000 accounts. Raises `ConfigError`.
    """
    document = _read(source)
    config = _config(document)
    header = genesis_header(document, state_root(genesis_state(document)))
    chain_id = _number(config, "chainId")
    return Network(
        name=Path(source).stem if isinstance(source, str | Path) else "genesis",
        chain_id=chain_id,
        network_id=chain_id,
        forks=ForkSchedule(header.hash, header.timestamp, *fork_points(config, header.timestamp)),
        genesis_header_raw=header.raw,
        genesis_state_root=header.state_root,
        named_forks=named_forks(config, header.timestamp),
    )


def genesis_state(source: GenesisSource) -> list[GenesisAccount]:
    """Return the accounts of the `alloc` section, in its order. Raises `ConfigError`."""
    alloc = _read(source).get("alloc")
    if not isinstance(alloc, Mapping):
        raise ConfigError("the genesis has no 'alloc' section", hint="it lists the accounts; it may be empty: {}")
    accounts = [_account(address, fields) for address, fields in alloc.items()]
    if len({account.address for account in accounts}) < len(accounts):
        raise ConfigError("the genesis names an account twice", hint="once with 0x and once without, perhaps")
    return accounts


def state_root(accounts: list[GenesisAccount], root_of: RootOf = root_of) -> bytes:
    """Return the root of the state trie that holds these accounts (Yellow Paper, section 4.1)."""
    slot_hashes = iter(_hash_all([slot.to_bytes(32, "big") for account in accounts for slot in account.storage]))
    bodies = [
        rlp.encode(
            [
                account.nonce,
                account.balance,
                _root([(next(slot_hashes), rlp.encode_int(value)) for value in account.storage.values()], root_of),
                keccak256(account.code) if account.code else EMPTY_CODE_HASH,
            ]
        )
        for account in accounts
    ]
    account_hashes = _hash_all([account.address for account in accounts])
    return _root(list(zip(account_hashes, bodies, strict=True)), root_of)


def genesis_header(source: GenesisSource, state_root: bytes) -> Header:
    """Return the genesis header over this state root, with the tail that the forks active in it ask for.

    Raises `ConfigError`.
    """
    document = _read(source)
    return build_header(
        parent_hash=_fixed(document, "parentHash", 32),
        coinbase=_fixed(document, "coinbase", 20),
        state_root=state_root,
        difficulty=_number(document, "difficulty", bits=256),
        number=_number(document, "number", 0),
        gas_limit=_number(document, "gasLimit") or DEFAULT_GAS_LIMIT,
        gas_used=_number(document, "gasUsed", 0),
        timestamp=_number(document, "timestamp", 0),
        extra_data=_bytes(document.get("extraData") or "0x", "'extraData'"),
        mix_hash=_fixed(document, "mixHash", 32),
        nonce=_number(document, "nonce", 0).to_bytes(8, "big"),
        **_header_tail(document),
    )


def fork_points(config: Mapping[str, Any], genesis_time: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return (block numbers, times in seconds) at which a chain config changes the rules after its genesis.

    As in go-ethereum, every entry named `...Block` or `...Time` is a fork, so forks that do not exist yet count too.
    Equal points are one fork, and those of the genesis are none (EIP-2124, EIP-6122).
    """
    blocks = {_number(config, key) for key, value in config.items() if key.endswith("Block") and value is not None}
    times = {_number(config, key) for key, value in config.items() if key.endswith("Time") and value is not None}
    return tuple(sorted(blocks - {0})), tuple(sorted(time for time in times if time > genesis_time))


def named_forks(config: Mapping[str, Any], genesis_time: int) -> tuple[Fork, ...]:
    """The same forks under their names: `shanghaiTime` is Shanghai, `bpo1Time` BPO1."""
    points = fork_points(config, genesis_time)
    found = [
        Fork(_fork_name(key.removesuffix(ending)), _number(config, key), by_time)
        for ending, by_time in (("Block", False), ("Time", True))
        for key, value in config.items()
        if key.endswith(ending) and value is not None and _number(config, key) in points[by_time]
    ]
    return tuple(sorted(found, key=lambda fork: (fork.by_time, fork.at)))


def _fork_name(word: str) -> str:
    plain = _OTHER_NAMES.get(word, word).casefold()
    names = (*BLOCK_FORKS, *TIME_FORKS)
    return next((name for name in names if name.replace(" ", "").casefold() == plain), word[:1].upper() + word[1:])


def _header_tail(document: Mapping[str, Any]) -> dict[str, bytes | int]:
    """Return the optional header fields. Each fork's fields follow those of all forks before it."""
    config = _config(document)
    time = _number(document, "timestamp", 0)
    stages: list[tuple[str, dict[str, bytes | int]]] = [
        ("londonBlock", {"base_fee": _number(document, "baseFeePerGas", INITIAL_BASE_FEE, bits=256)}),
        ("shanghaiTime", {"withdrawals_root": EMPTY_TRIE_ROOT}),
        (
            "cancunTime",
            {
                "blob_gas_used": _number(document, "blobGasUsed", 0),
                "excess_blob_gas": _number(document, "excessBlobGas", 0),
                "parent_beacon_root": bytes(32),  # a genesis has no parent (EIP-4788)
            },
        ),
        ("pragueTime", {"requests_hash": EMPTY_REQUESTS_HASH}),
        (
            "amsterdamTime",
            {"block_access_list_hash": EMPTY_ACCESS_LIST_HASH, "slot_number": _number(document, "slotNumber", 0)},
        ),
    ]
    tail: dict[str, bytes | int] = {}
    absent = ""
    for fork, fields in stages:
        since = config.get(fork)
        if since is None or _number(config, fork) > (0 if fork.endswith("Block") else time):
            absent = absent or fork
        elif absent:
            raise ConfigError(f"the genesis has {fork} but not {absent}, whose header fields come first")
        else:
            tail.update(fields)
    return tail


def _root(leaves: list[tuple[bytes, bytes]], root_of: RootOf) -> bytes:
    if not leaves:
        return EMPTY_TRIE_ROOT
    leaves.sort()
    return root_of([key for key, _ in leaves], [value for _, value in leaves])


def _hash_all(messages: list[bytes]) -> list[bytes]:
    """Keccak-256 of each message, in one call: some ten times faster than one by one."""
    lengths = np.fromiter(map(len, messages), np.int64, len(messages))
    hashes = np.empty((len(messages), 32), np.uint8)
    hash_many(np.frombuffer(b"".join(messages), np.uint8), np.cumsum(lengths) - lengths, lengths, hashes)
    return [row.tobytes() for row in hashes]


def _account(address: str, fields: object) -> GenesisAccount:
    where = f"account {address}"
    key = _bytes(address, where)
    if len(key) != 20 or not isinstance(fields, dict):
        raise ConfigError(f"{where} of the genesis is not an address with its fields")
    storage = fields.get("storage") or {}
    if not isinstance(storage, dict):
        raise ConfigError(f"the storage of {where} is not an object of slots and values")
    slots = {_word(slot, where): _word(value, where) for slot, value in storage.items()}
    return GenesisAccount(
        address=key,
        nonce=_number(fields, "nonce", 0),
        balance=_number(fields, "balance", 0, bits=256),
        code=_bytes(fields.get("code") or "0x", f"the code of {where}"),
        storage={slot: value for slot, value in slots.items() if value},
    )


def _read(source: GenesisSource) -> Mapping[str, Any]:
    if isinstance(source, Mapping):
        return source
    try:
        document = json.loads(Path(source).read_bytes())
    except OSError as error:
        raise ConfigError(f"cannot read the genesis file {source}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"the genesis file {source} is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise ConfigError(f"the genesis file {source} is not a JSON object")
    return document


def _config(document: Mapping[str, Any]) -> Mapping[str, Any]:
    config = document.get("config")
    if not isinstance(config, Mapping):
        raise ConfigError("the genesis has no 'config' section", hint="it holds the chain id and the forks")
    return config


def _number(fields: Mapping[str, Any], name: str, default: int | None = None, *, bits: int = 64) -> int:
    """Read a non-negative number of at most `bits` bits; null counts as missing."""
    value = fields.get(name)
    if value is None:
        if default is None:
            raise ConfigError(f"the genesis lacks '{name}'")
        return default
    try:
        number = int(value, 16 if value[:2] in ("0x", "0X") else 10) if isinstance(value, str) else value
    except ValueError:
        number = None
    if type(number) is not int or not 0 <= number < 1 << bits:  # `type`, since True is an int as well
        raise ConfigError(f"'{name}' of the genesis is not a number of at most {bits} bits: {value!r}")
    return number


def _word(text: object, where: str) -> int:
    """Read a storage key or value: at most 32 bytes, left-padded."""
    word = _bytes(text, f"the storage of {where}")
    if len(word) > 32:
        raise ConfigError(f"the storage of {where} has a key or value of more than 32 bytes")
    return int.from_bytes(word, "big")


def _fixed(document: Mapping[str, Any], name: str, width: int) -> bytes:
    value = document.get(name)
    data = bytes(width) if value is None else _bytes(value, f"'{name}'")
    if len(data) != width:
        raise ConfigError(f"'{name}' of the genesis has {len(data)} bytes instead of {width}")
    return data


def _bytes(text: object, where: str) -> bytes:
    """Read hexadecimal digits; an odd number of them gets a leading zero, as storage words need."""
    if not isinstance(text, str):
        raise ConfigError(f"{where} of the genesis is not a hexadecimal string: {text!r}")
    digits = text.removeprefix("0x")
    try:
        return bytes.fromhex(digits if len(digits) % 2 == 0 else "0" + digits)
    except ValueError as error:
        raise ConfigError(f"{where} of the genesis is not hexadecimal: {text[:80]!r}") from error
