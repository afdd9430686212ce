"""Receipts of several blocks from answers that may end inside a block (eth/70, EIP-7975). Pure: payloads in, lists out.

Receipts are proven by the root of the whole list, so the beginning of one is taken on trust, within what the gas that
its block used can have paid for. That bounds what a liar can make us keep.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ethsync.errors import MalformedMessage
from ethsync.wire import eth
from ethsync.wire.receipts import Receipt, decode_block_receipts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ethsync.wire.eth import GetPartialReceipts, GetReceipts
    from ethsync.wire.headers import Header

TRANSACTION_GAS = 21000  # what any transaction costs (Yellow Paper, appendix G)
AMSTERDAM_TRANSACTION_GAS = 4500  # the same from Amsterdam on (geth eth/protocols/eth/peer.go, minTxGas)
LOG_BYTE_GAS = 8  # what a byte of log data costs (Yellow Paper, appendix G)


class ReceiptPages:
    """Collects the receipts of blocks from one peer, over as many answers as it takes.

    `lists` are those of the first blocks, in order, complete as the peer says; fewer than asked for if it has no more.
    """

    def __init__(self, version: int, headers: Sequence[Header]) -> None:
        self._version = version
        self._headers = headers
        self._open: list[Receipt] = []
        self.lists: list[tuple[Receipt, ...]] = []
        self.done = not headers

    def request(self, request_id: int) -> GetReceipts | GetPartialReceipts:
        """What to ask for next: all blocks, or the rest of one and those after it."""
        hashes = tuple(header.hash for header in self._headers[len(self.lists) :])
        if self._open:
            return eth.GetPartialReceipts(request_id, hashes, len(self._open))
        return eth.RECEIPT_REQUESTS[self._version](request_id, hashes)

    def take(self, payload: bytes) -> None:
        """Take the payload of an answer; afterwards `done`, or ask on. Raises MalformedMessage."""
        answer = eth.decode(self._version, eth.EthMessage.RECEIPTS, payload)
        if not isinstance(answer, eth.Receipts | eth.PartialReceipts):
            raise MalformedMessage("another message came instead of receipts")
        if len(answer.receipts) > len(self._headers) - len(self.lists):
            raise MalformedMessage(f"receipts of {len(answer.receipts)} blocks came, more than were asked for")
        incomplete = isinstance(answer, eth.PartialReceipts) and answer.incomplete
        for number, raw in enumerate(answer.receipts, 1):
            receipts = decode_block_receipts(self._version, raw)
            if incomplete and number == len(answer.receipts):
                self._keep_open(receipts)
            else:
                self.lists.append((*self._open, *receipts))
                self._open = []
        self.done = not incomplete

    def _keep_open(self, receipts: tuple[Receipt, ...]) -> None:
        header = self._headers[len(self.lists)]
        if not receipts:
            raise MalformedMessage(f"an unfinished list of receipts of block {header.number} without a receipt")
        self._open += receipts
        least = TRANSACTION_GAS if header.block_access_list_hash is None else AMSTERDAM_TRANSACTION_GAS
        if len(self._open) > header.gas_used // least:
            raise MalformedMessage(f"{len(self._open)} receipts of block {header.number}, more than its gas allows")
        size = sum(len(receipt.logs) for receipt in self._open)
        if size > header.gas_used // LOG_BYTE_GAS:
            raise MalformedMessage(f"{size} bytes of logs of block {header.number}, more than its gas allows")
