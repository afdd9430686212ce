"""The vector Keccak against published vectors and against pycryptodome."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

import numpy as np
import pytest
from Crypto.Hash import keccak as pycryptodome
from numpy.typing import NDArray

from ethsync.kernels import keccak
from ethsync.kernels.compiler import LANES

RATE = 136
REFUSED = -1


def digest_of(message: bytes) -> bytes:
    return bytes(pycryptodome.new(digest_bits=256, data=message).digest())


def hashed(buf: NDArray[np.uint8], offsets: Sequence[int], lengths: Sequence[int]) -> list[bytes]:
    out = np.zeros((len(offsets), 32), np.uint8)
    assert keccak.hash_many(buf, np.array(offsets, np.int64), np.array(lengths, np.int64), out) == 0
    return [row.tobytes() for row in out]


@pytest.fixture(scope="module")
def noise() -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, 8192, dtype=np.uint8)


@pytest.mark.parametrize(
    ("message", "digest"),
    [
        # Keccak team, KeccakTestVectors (ShortMsgKAT_256: Len = 0); Ethereum Yellow Paper, KEC(()).
        (b"", "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"),
        # Yellow Paper, appendix D: the root of the empty trie, KEC(RLP(())).
        (b"\x80", "56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421"),
        # EIP-1052 and ethereum/tests: the hash of RLP(()) as a list.
        (b"\xc0", "1dcc4de8dec75d7aab85b567b6ccd41ad312451b948a7413f0a142fd40d49347"),
        # go-ethereum, crypto/crypto_test.go: TestKeccak256Hash.
        (b"abc", "4e03657aea45a94fc7d47ba826c8d667c0d1e6e33a64a036ec44f58fa12d6c45"),
    ],
)
def test_published_vectors(message: bytes, digest: str) -> None:
    assert hashed(np.frombuffer(message, np.uint8), [0], [len(message)]) == [bytes.fromhex(digest)]


def test_permutation_of_the_zero_state() -> None:
    # Keccak team, KeccakF-1600-IntermediateValues.txt: first lane after one permutation of the all-zero state.
    assert int(keccak.permute(1)) & (1 << 64) - 1 == 0xF1258F7940E1DDE7


def test_every_length_up_to_600_bytes(noise: NDArray[np.uint8]) -> None:
    # Given messages of all lengths in one call, so that lanes finish at different times.
    lengths = list(range(601))
    offsets = [3 * length for length in lengths]

    digests = hashed(noise, offsets, lengths)

    assert digests == [digest_of(noise[at : at + size].tobytes()) for at, size in zip(offsets, lengths, strict=True)]


def test_lengths_around_multiples_of_the_rate(noise: NDArray[np.uint8]) -> None:
    # Given messages whose padding begins in the last bytes of a block, or fills a block of its own.
    lengths = [RATE * blocks + more for blocks in range(1, 30) for more in (-2, -1, 0, 1, 2)]
    # When they are hashed forwards and backwards, so that long and short ones share lanes differently.
    for order in (lengths, lengths[::-1]):
        assert hashed(noise, [7] * len(order), order) == [digest_of(noise[7 : 7 + size].tobytes()) for size in order]


@pytest.mark.parametrize("count", range(3 * LANES + 2))
def test_every_number_of_messages(count: int, noise: NDArray[np.uint8]) -> None:
    # Given a result array with more rows than there are messages
    out = np.full((count + 2, 32), 0xEE, np.uint8)
    offsets, lengths = np.arange(count, dtype=np.int64), np.full(count, 140, np.int64)
    # When
    assert keccak.hash_many(noise, offsets, lengths, out) == 0
    # Then every message has its digest and the spare rows are as they were.
    assert [row.tobytes() for row in out[:count]] == [digest_of(noise[k : k + 140].tobytes()) for k in range(count)]
    assert (out[count:] == 0xEE).all()


@pytest.mark.parametrize(
    ("offset", "length"),
    [(-1, 1), (0, -1), (0, 11), (10, 1), (11, 0), (5, 6), (2**40, 1), (-(2**62), 4)],
)
def test_a_message_outside_the_buffer_is_refused_and_nothing_is_hashed(offset: int, length: int) -> None:
    out = np.full((3, 32), 0xEE, np.uint8)
    code = keccak.hash_many(
        np.zeros(10, np.uint8), np.array([0, offset, 0], np.int64), np.array([1, length, 1], np.int64), out
    )
    assert code == REFUSED
    assert (out == 0xEE).all()


def test_a_message_may_end_where_the_buffer_ends() -> None:
    buf = np.arange(10, dtype=np.uint8)
    assert hashed(buf, [0, 4, 10], [10, 6, 0]) == [
        digest_of(bytes(range(10))),
        digest_of(bytes(range(4, 10))),
        digest_of(b""),
    ]


def test_columns_of_different_length_are_refused() -> None:
    buf, out = np.zeros(10, np.uint8), np.zeros((2, 32), np.uint8)
    zeros = np.zeros(3, np.int64)
    assert keccak.hash_many(buf, zeros, zeros, out) == REFUSED, "three messages, room for two digests"
    assert keccak.hash_many(buf, zeros[:2], zeros[:1], out) == REFUSED
    assert keccak.hash_many(buf, zeros[:1], zeros[:2], out) == REFUSED


@pytest.mark.parametrize(("offset", "length"), [(2**63 - 1, 1), (1, 2**63 - 1), (2**62, 2**62)])
def test_a_place_whose_end_overflows_64_bits_is_refused(offset: int, length: int) -> None:
    # In a process of its own: reading there is a segmentation fault.
    script = (
        "import numpy as np\n"
        "from ethsync.kernels import keccak\n"
        f"place = np.array([{offset}]), np.array([{length}])\n"
        "print(keccak.hash_many(np.zeros(10, np.uint8), *place, np.zeros((1, 32), np.uint8)))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=30)
    assert (done.returncode, done.stdout.strip()) == (0, str(REFUSED))
