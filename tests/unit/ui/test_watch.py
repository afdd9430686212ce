"""What `ethsync snap --follow` says when nobody is connected any more, and when somebody is again."""

from __future__ import annotations

import io
import json
from functools import partial

import pytest
import trio
from trio.testing import MockClock

from ethsync.commands.snap import _display_scope
from ethsync.logs import LogFormat
from ethsync.sync.progress import Followed, PeerView, Phase, Progress
from ethsync.ui.watch import AGAIN, ALONE, PeerWatch, run_watch

PEER = PeerView("Geth/v1.17.2", "127.0.0.1:30303", 900, 0, 0.0, 1.0)
WHY = "127.0.0.1:30303 could not be reached: connection refused"
ALONE_FOR_45_SECONDS = (
    f"no peer has been connected for 45.0 s: {WHY} | block 1234 stays held; nodes are dialled again and again, and"
    " following goes on by itself when one is connected"
)


@pytest.fixture
def progress() -> Progress:
    """Block 1234 is held, and one peer is connected."""
    return Progress(0.0, Phase.DONE, held_number=1234, followed=Followed(1234, 1236), peers=[PEER])


def lose(progress: Progress) -> None:
    progress.peers, progress.trouble = [], WHY


async def test_it_is_said_that_nobody_is_connected_why_and_that_it_goes_on_by_itself(
    progress: Progress, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    stream = io.StringIO()
    nursery.start_soon(partial(run_watch, progress, stream=stream))
    # Given a peer that stays, nothing is said, however long it takes;
    await trio.sleep(3601)
    assert stream.getvalue() == ""
    # when it leaves, then after a while that is said, once,
    lose(progress)
    await trio.sleep(ALONE - 1)
    assert stream.getvalue() == ""
    await trio.sleep(AGAIN - ALONE)
    assert stream.getvalue() == ALONE_FOR_45_SECONDS + "\n"
    # and again after ten minutes.
    await trio.sleep(ALONE + 11)
    assert stream.getvalue().splitlines()[1].startswith("no peer has been connected for 10 min 45 s")
    # When others come, then that is said too, once.
    progress.peers, progress.trouble = [PEER, PEER], ""
    await trio.sleep(3600)
    (back,) = stream.getvalue().splitlines()[2:]
    assert back == "2 peers are connected again after 10 min 55 s: following goes on"
    nursery.cancel_scope.cancel()


async def test_an_only_peer_that_is_back_soon_is_not_worth_a_line(
    progress: Progress, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    stream = io.StringIO()
    nursery.start_soon(partial(run_watch, progress, stream=stream))
    for _ in range(5):
        lose(progress)
        await trio.sleep(ALONE - 6)
        progress.peers = [PEER]
        await trio.sleep(60)
    assert stream.getvalue() == ""
    nursery.cancel_scope.cancel()


async def test_programs_get_the_same_as_values(
    progress: Progress, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    stream = io.StringIO()
    lose(progress)
    watch = partial(run_watch, progress, log_format=LogFormat.JSON, stream=stream, wall_clock=lambda: 1_700_000_000.25)
    nursery.start_soon(watch)
    await trio.sleep(ALONE + 1)
    progress.peers = [PEER]
    await trio.sleep(10)
    lost, back = map(json.loads, stream.getvalue().splitlines())
    assert lost == {
        "time": "2023-11-14T22:13:20.250Z",
        "level": "warning",
        "logger": "ethsync.follow",
        "message": ALONE_FOR_45_SECONDS,
        "company": {"peers": 0, "alone": 45.0, "trouble": WHY, "held": 1234},
    }
    assert (back["level"], back["company"]["peers"], back["company"]["alone"]) == ("info", 1, 50.0)
    assert back["message"] == "1 peer is connected again after 50.0 s: following goes on"
    nursery.cancel_scope.cancel()


async def test_it_comes_after_the_display_which_ends_when_a_state_is_complete(
    progress: Progress, autojump_clock: MockClock, nursery: trio.Nursery, capsys: pytest.CaptureFixture[str]
) -> None:
    # Given a sync that comes to its end and follows,
    progress.phase, progress.followed = Phase.VERIFYING, None
    show = await nursery.start(_display_scope, progress, LogFormat.TEXT)
    await trio.sleep(1)
    progress.phase, progress.followed = Phase.DONE, Followed(1234, 1236)
    await trio.sleep(60)
    # when its peer is lost, then the display says so.
    lose(progress)
    await trio.sleep(ALONE + 6)
    assert capsys.readouterr().err.splitlines()[-1] == ALONE_FOR_45_SECONDS
    show.cancel()


def test_before_anything_is_followed_the_display_says_it(progress: Progress) -> None:
    progress.followed = None
    lose(progress)
    watch = PeerWatch()
    assert [watch.look(progress, now) for now in (0.0, 100.0, 10_000.0)] == [None, None, None]


def test_while_a_state_is_healed_in_place_no_block_is_held(progress: Progress) -> None:
    lose(progress)
    progress.phase, progress.trouble = Phase.HEALING, ""
    watch = PeerWatch()
    watch.look(progress, 0.0)
    notice = watch.look(progress, ALONE)
    assert notice is not None
    assert notice.text.startswith("no peer has been connected for 45.0 s | what is stored stays;")


async def test_a_stream_that_is_closed_ends_the_watch_and_nothing_else(
    progress: Progress, autojump_clock: MockClock
) -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    lose(progress)
    await run_watch(progress, stream=Closed())
