"""The chain of headers under random peers, liars, kills and heads: it ends with the true chain, at a bounded price."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.oracles.header_world import Server, World
from tests.oracles.headers import demo_chain, relinked

PAGE = 1024
LENGTH = 4_700
RAWS = demo_chain(LENGTH + 1)
LIES = [demo_chain(LENGTH + 1, seed=2), relinked(RAWS, 900, coinbase=b"\x01" * 20)]
BRANCH = relinked(RAWS, LENGTH - 90, coinbase=b"\x02" * 20)

DETERMINISTIC = settings(derandomize=True, deadline=None, max_examples=15)


@DETERMINISTIC
@given(st.integers(0, 2**32), st.integers(0, 2))
def test_the_true_chain_is_stored_whatever_peers_and_kills_do(seed: int, liars: int) -> None:
    rng = Random(seed)
    honest = Server(RAWS)
    servers = {0: honest, **{number + 1: Server(rng.choice(LIES)) for number in range(liars)}}
    here = World(servers)
    heads = sorted(rng.sample(range(1_500, LENGTH), 3))
    here.follow(RAWS[heads[0]])
    for _ in range(rng.randrange(10, 60)):
        event = rng.random()
        if event < 0.5:
            here.ask(
                rng.choice([peer for peer in servers if peer not in here.blamed | here.banned]),
                rng.choice([64, 500, 1024]),
            )
        elif event < 0.85 and here.jobs:
            here.answer(rng.choice(here.jobs), rng.choice([30, 1024]))
        elif event < 0.9:
            here.write(rng.randrange(3))
        elif event < 0.93:
            here.follow(RAWS[rng.choice(heads)])
        elif event < 0.95:
            here.follow(BRANCH[LENGTH])
            here.chain.hurry()
        elif event < 0.98 and here.jobs:
            here.chain.give_back(here.jobs.pop(rng.randrange(len(here.jobs))))
        else:
            # The process dies with all that is not written, and another one begins.
            lost = World(servers, here.disk)
            lost.blamed, lost.banned = here.blamed, here.banned
            here = lost
            here.follow(RAWS[rng.choice(heads)])
        if event > 0.97:
            # Whatever is shown hangs together, down from a head that was trusted.
            shown = here.shown()
            assert shown in (_part(RAWS, shown), _part(BRANCH, shown))
    assert 0 not in here.blamed | here.banned
    here.follow(RAWS[LENGTH])
    here.chain.hurry()
    here.finish(rng)
    assert here.shown() == RAWS
    assert 0 not in here.blamed | here.banned


@DETERMINISTIC
@given(st.integers(0, 2**32))
def test_whatever_a_power_cut_takes_is_fetched_again(seed: int) -> None:
    # Given a chain that grew by some heads, of whose batches a power cut takes some from the middle or the end
    rng = Random(seed)
    here = World({0: Server(RAWS)})
    for head in sorted(rng.sample(range(1_500, LENGTH), 3)):
        here.follow(RAWS[head])
        here.finish(rng, most=rng.choice([300, 1024]))
    first = rng.randrange(len(here.disk.log))
    here.disk.lose(first, rng.randrange(1, 4))
    # Then what is left is part of the chain, and the rest comes again.
    shown = here.shown()
    assert shown == _part(RAWS, shown)
    again = World(here.servers, here.disk)
    again.follow(RAWS[LENGTH])
    again.finish(rng)
    assert again.shown() == RAWS


def _part(raws: list[bytes], shown: list[bytes | None]) -> list[bytes]:
    """The part of a chain that ends as what is shown."""
    try:
        last = raws.index(shown[-1] or b"") if shown else -1
    except ValueError:
        return []
    return raws[last + 1 - len(shown) : last + 1]
