"""Random leaves: each depends on its seed and number alone."""

from __future__ import annotations

import numpy as np

from ethsync.serve import random_leaves


def test_a_code_does_not_depend_on_the_codes_made_with_it() -> None:
    # given: a batch of codes
    together = random_leaves.codes(7, np.arange(64), 100)
    for number in range(64):
        # when: one of them is made alone
        rows, lengths, hashes = random_leaves.codes(7, np.array([number]), 100)
        # then: it is the same code
        assert hashes[0].tobytes() == together[2][number].tobytes()
        assert rows[0, : lengths[0]].tobytes() == together[0][number, : together[1][number]].tobytes()
