"""Frames of RLPx: one encrypted and authenticated message each (devp2p rlpx.md, "Framing").

`frame = header(16) ‖ header MAC(16) ‖ body padded to 16 ‖ body MAC(16)`. One AES-256-CTR stream and one running
Keccak MAC per direction cover the whole connection, so after any error nothing more can be read.
"""

from __future__ import annotations

import hmac
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR, ECB

from ethsync.errors import LocalProtocolError, MalformedMessage
from ethsync.wire import rlp

if TYPE_CHECKING:
    from Crypto.Hash.keccak import Keccak_Hash
    from cryptography.hazmat.primitives.ciphers import CipherContext

    from ethsync.rlpx.handshake import Secrets

MAX_FRAME_SIZE = (1 << 24) - 1
"""Longest frame: its size is a 24-bit number (devp2p rlpx.md)."""

SLICE = 128 * 1024
"""Bytes that one step decrypts and authenticates: 0.6 ms, short enough for an event loop."""

HEADER_SIZE = 32
"""Frame header and its MAC."""

MAC_SIZE = 16  # bytes of a Keccak digest that are sent (devp2p rlpx.md, "MAC")

_BLOCK = 16  # AES block; headers and MACs have this size and bodies are padded to it
_HEADER_DATA = b"\xc2\x80\x80".ljust(13, b"\0")  # header-data is always [0, 0] (devp2p rlpx.md)


@dataclass(frozen=True, slots=True)
class Frame:
    """One authentic message: its absolute id, and its payload as it was on the wire (compressed or not)."""

    message_id: int
    payload: memoryview


def _key_stream(key: bytes) -> CipherContext:
    """AES-256-CTR from zero: one direction of a connection. The same operation encrypts and decrypts."""
    return Cipher(AES(key), CTR(bytes(_BLOCK))).encryptor()


class _FrameMac:
    """The MAC of one direction: Keccak over the ciphertexts, mixed with AES-256 blocks."""

    def __init__(self, secret: bytes, state: Keccak_Hash) -> None:
        self._cipher = Cipher(AES(secret), ECB()).encryptor()
        self._state = state

    def update(self, ciphertext: bytes | bytearray | memoryview) -> None:
        self._state.update(ciphertext)

    def header(self, ciphertext: bytes) -> bytes:
        return self._mix(self._state.digest()[:_BLOCK], ciphertext)

    def body(self) -> bytes:
        tail = self._state.digest()[:_BLOCK]
        return self._mix(tail, tail)

    def _mix(self, seed: bytes, block: bytes) -> bytes:
        mixed = int.from_bytes(self._cipher.update(seed), "big") ^ int.from_bytes(block, "big")
        self._state.update(mixed.to_bytes(_BLOCK, "big"))
        return self._state.digest()[:_BLOCK]


class FrameEncoder:
    """Turns messages into frames, in the order in which they go out."""

    def __init__(self, secrets: Secrets) -> None:
        self._cipher = _key_stream(secrets.aes)
        self._mac = _FrameMac(secrets.mac, secrets.egress)

    def encode(self, message_id: int, payload: bytes | memoryview) -> bytes:
        """Return the frame of one message, 5 ms per MiB. Raises `LocalProtocolError` if it is over 16 MiB."""
        prefix = rlp.encode_int(message_id)
        size = len(prefix) + len(payload)
        if size > MAX_FRAME_SIZE:
            raise LocalProtocolError(f"message of {size} bytes does not fit into a frame")
        header = self._cipher.update(size.to_bytes(3, "big") + _HEADER_DATA)
        header_mac = self._mac.header(header)
        body = self._cipher.update(b"".join((prefix, payload, bytes(-size % _BLOCK))))
        self._mac.update(body)
        return b"".join((header, header_mac, body, self._mac.body()))


class FrameDecoder:
    """Turns the bytes of a connection into frames, whatever pieces they come in.

    Give it bytes with `feed` and call `next_frame` until that returns None. A body is authenticated and decrypted as
    it arrives: feed at most `SLICE` bytes between two turns of the event loop. Memory: the bytes fed, and one buffer
    of the size that an authentic header announces, never more than `limit`.
    """

    def __init__(self, secrets: Secrets, *, limit: int = MAX_FRAME_SIZE) -> None:
        """`limit`: longest frame in bytes (message id and compressed payload) that is accepted."""
        self.limit = limit
        self._cipher = _key_stream(secrets.aes)
        self._mac = _FrameMac(secrets.mac, secrets.ingress)
        self._pending: deque[memoryview] = deque()
        self._small = bytearray()  # a header or body MAC that has arrived in part
        self._body: memoryview | None = None
        self._size = 0
        self._filled = 0
        self._failure: str | None = None

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Take bytes as they arrived. They must not change until `next_frame` has returned None."""
        if data:
            self._pending.append(memoryview(data))

    def next_frame(self) -> Frame | None:
        """Return the next whole frame, or None if it takes more bytes.

        Raises `MalformedMessage` on a wrong MAC, an empty frame or one over the limit; then the stream is lost, and
        every later call raises again.
        """
        if self._failure is not None:
            raise MalformedMessage(self._failure)
        try:
            return self._advance()
        except MalformedMessage as error:
            self._failure = str(error)
            raise

    def _advance(self) -> Frame | None:
        if self._body is None:
            header = self._take(HEADER_SIZE)
            if header is None:
                return None
            self._body, self._filled = self._begin(header), 0
        body = self._body
        if not self._fill(body):
            return None
        mac = self._take(MAC_SIZE)
        if mac is None:
            return None
        self._body = None
        if not hmac.compare_digest(mac, self._mac.body()):
            raise MalformedMessage("MAC of a frame is wrong")
        return _parse(body[: self._size])

    def _take(self, count: int) -> bytes | None:
        """Collect `count` bytes; None until they are there."""
        while self._pending and len(self._small) < count:
            self._small += self._next_piece(count - len(self._small))
        if len(self._small) < count:
            return None
        taken = bytes(self._small)
        self._small.clear()
        return taken

    def _next_piece(self, count: int) -> memoryview:
        chunk = self._pending.popleft()
        if len(chunk) > count:
            self._pending.appendleft(chunk[count:])
        return chunk[:count]

    def _begin(self, header: bytes) -> memoryview:
        """Check a header and allocate the body that it announces, padding included."""
        ciphertext, mac = header[:_BLOCK], header[_BLOCK:]
        if not hmac.compare_digest(mac, self._mac.header(ciphertext)):
            raise MalformedMessage("MAC of a frame header is wrong")
        size = int.from_bytes(self._cipher.update(ciphertext)[:3], "big")
        if size == 0:
            raise MalformedMessage("frame without a message id")
        if size > self.limit:
            raise MalformedMessage(f"frame of {size} bytes, more than {self.limit}")
        self._size = size
        return memoryview(bytearray(size + -size % _BLOCK))

    def _fill(self, body: memoryview) -> bool:
        """Authenticate and decrypt what has arrived of the body; return whether it is complete."""
        while self._filled < len(body):
            if not self._pending:
                return False
            piece = self._next_piece(min(SLICE, len(body) - self._filled))
            self._mac.update(piece)
            after = self._filled + len(piece)
            self._cipher.update_into(piece, body[self._filled : after])
            self._filled = after
        return True


def _parse(data: memoryview) -> Frame:
    is_list, start, end = rlp.item_bounds(data, 0, len(data))
    if is_list:
        raise MalformedMessage("frame begins with a list instead of a message id")
    return Frame(rlp.to_int(bytes(data[start:end])), data[end:])
