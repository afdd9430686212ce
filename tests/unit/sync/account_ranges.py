"""Three hundred accounts and honest answers about them, made with the `trie` package."""

from __future__ import annotations

from random import Random

from ethsync.kernels.trie import SLIM_ACCOUNT
from ethsync.peers.track import Outcome
from ethsync.state.pages import decode_pages, stored_path
from ethsync.store.datadir import Datadir
from ethsync.store.schema import ACCOUNT_PAGE
from ethsync.store.writer import Writer
from ethsync.sync.accounts import AccountJob, AccountStage
from ethsync.sync.progress import Progress
from tests.oracles import messages
from tests.oracles.accounts import Account
from tests.oracles.tries import proof_of, trie_of
from tests.unit.sync.storages import written


class Accounts:
    """Accounts without storage and code, and honest answers about them."""

    def __init__(self, count: int) -> None:
        rng = Random(count)
        self.keys = sorted(rng.randbytes(32) for _ in range(count))
        accounts = [Account(nonce=row, balance=rng.getrandbits(90)) for row in range(count)]
        self.pairs = [(key, account.slim) for key, account in zip(self.keys, accounts, strict=True)]
        self.trie = trie_of(self.keys, [account.full for account in accounts])

    @property
    def root(self) -> bytes:
        return bytes(self.trie.root_hash)

    def answer(self, job: AccountJob, most: int) -> bytes:
        origin = job.gap.resume.to_bytes(32, "big")
        found = [pair for pair in self.pairs if pair[0] >= origin][:most]
        return messages.account_range(1, found, proof_of(self.trie, origin, *[key for key, _ in found[-1:]]))


ACCOUNTS = Accounts(300)


async def assert_all_accounts_once(stage: AccountStage, progress: Progress, datadir: Datadir, writer: Writer) -> None:
    while stage.ready():
        job = stage.take(5000)
        assert await stage.process(job, ACCOUNTS.answer(job, 60)) is Outcome.SERVED
    assert stage.done
    assert (progress.accounts.items, progress.accounts.in_flight, progress.key_space) == (300, 0, 1.0)
    await written(writer, datadir)
    pages = [(stored_path(key), value) for key, value in datadir.accounts.scan(ACCOUNT_PAGE)]
    leaves, _ = decode_pages([path for path, _ in pages], [value for _, value in pages], SLIM_ACCOUNT)
    assert [(leaves.key(row), leaves.value(row)) for row in range(len(leaves))] == ACCOUNTS.pairs
