"""What some blocks do to a synthetic state: which accounts and slots are others than before, are new, or are gone.

A function of the spec alone. Which ones change goes by their numbers, evenly spread, for keys are random. Most of the
changed accounts get another nonce and balance, some get other storage, some are deleted, some are new.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ethsync.serve.random_leaves import ACCOUNT_WORDS, KEY_WORDS, SLOT_WORDS, Kind, under, words

if TYPE_CHECKING:
    from ethsync.arrays import Ints
    from ethsync.serve.random_leaves import Mask, Words
    from ethsync.serve.spec import SyntheticSpec

STORAGE_PART = 8  # one in so many changed accounts has other storage, as far as there are contracts
NEW_PART = 16  # one in so many is new
GONE_PART = 16  # one in so many is deleted
SLOTS_PART = 32  # of a contract that changes one slot in so many: mainnet changes 3 slots per changed account
MOST_PART = 32  # but not more than one for so many changed accounts, three at least: a block does not rewrite a giant


@dataclass(frozen=True, slots=True)
class Shares:
    """How many accounts change in which way. Their sum is what the spec says."""

    values: int
    storage: int
    gone: int
    new: int


def shares(spec: SyntheticSpec) -> Shares:
    """Divide the changed accounts of a spec. Some of those with other storage may get other values too, or go."""
    storage = min(spec.contracts, spec.changed // STORAGE_PART)
    gone, new = spec.changed // GONE_PART, spec.changed // NEW_PART
    return Shares(spec.changed - storage - gone - new, storage, gone, new)


class Changes:
    """The changes to one state."""

    def __init__(self, spec: SyntheticSpec) -> None:
        self._spec = spec
        self._shares = shares(spec)
        self.contracts: Mask = np.zeros(spec.contracts, np.bool_)
        """(contracts,) which of them have other storage: the giant always, if any has."""
        many = self._shares.storage
        if many:
            numbers = spec.contracts * np.arange(many) // many
            numbers[many // 2] = spec.contracts // 2
            self.contracts[numbers] = True

    def change_accounts(self, drawn: Words, first: int) -> Mask:
        """Give accounts numbered from `first` on, whose words these are, other values; their keys stay.

        Returns which of them are gone.
        """
        spec = self._spec
        many, deaths = self._shares.values + self._shares.gone, self._shares.gone
        gone = np.zeros(len(drawn), np.bool_)
        if not many:
            return gone
        begin, end = (-(-number * many // spec.accounts) for number in (first, first + len(drawn)))
        part = np.arange(begin, end)
        numbers = spec.accounts * part // many
        dies = (part + 1) * deaths // many > part * deaths // many
        gone[numbers[dies] - first] = True
        fresh = words(spec.seed, Kind.CHANGED_ACCOUNT, numbers, ACCOUNT_WORDS)
        drawn[numbers - first, KEY_WORDS:] = fresh[:, KEY_WORDS:]
        return gone

    def new_accounts(self, part: int, parts: int, nibbles: int) -> Words:
        """Words of the accounts that are new in one slice of the key space."""
        many = self._shares.new
        numbers = np.arange(many * part // parts, many * (part + 1) // parts) + self._spec.accounts
        drawn = words(self._spec.seed, Kind.ACCOUNT, numbers, ACCOUNT_WORDS)
        under(drawn, part, nibbles)
        return drawn

    def change_slots(self, drawn: Words, contracts: Ints, sizes: Ints, numbers: Ints) -> None:
        """Change slots, whose words these are: every other one gets another value, the rest make room for new ones.

        contracts, sizes, numbers: for each slot its contract, how many slots that has, and which of them it is.
        """
        spec = self._spec
        stride = np.maximum(SLOTS_PART, sizes // max(3, spec.changed // MOST_PART))
        rows = np.flatnonzero(self.contracts[contracts] & (numbers % stride == 0))
        fresh = words(spec.seed, Kind.CHANGED_SLOT, (contracts[rows] << 32) + numbers[rows], SLOT_WORDS)
        stays = numbers[rows] // stride[rows] % 2 == 0
        fresh[stays, :KEY_WORDS] = drawn[rows[stays], :KEY_WORDS]
        drawn[rows] = fresh
