"""Bounded memory and rates."""

from __future__ import annotations

from ethsync.discovery.bounded import LRU, Outbox, RateLimiter, TokenBucket


def test_the_least_recently_used_entry_makes_room() -> None:
    entries: LRU[str, int] = LRU(2)
    entries.put("a", 1)
    entries.put("b", 2)
    assert entries.get("a") == 1
    entries.put("c", 3)
    assert entries.items() == [("a", 1), ("c", 3)]
    assert "b" not in entries
    assert entries.get("b") is None


def test_writing_an_entry_again_takes_no_more_room_and_makes_it_recent() -> None:
    entries: LRU[str, int] = LRU(2)
    entries.put("a", 1)
    entries.put("b", 2)
    entries.put("a", 3)
    entries.put("c", 4)
    assert entries.items() == [("a", 3), ("c", 4)]


def test_an_entry_can_be_taken_out() -> None:
    entries: LRU[str, int] = LRU(2)
    entries.put("a", 1)
    assert entries.pop("a") == 1
    assert entries.pop("a") is None
    assert len(entries) == 0


def test_a_bucket_allows_its_burst_and_then_its_rate() -> None:
    bucket = TokenBucket(rate=2.0, burst=3.0)
    assert [bucket.take(10.0) for _ in range(4)] == [True, True, True, False]
    assert not bucket.take(10.4)
    assert bucket.take(10.5)
    assert not bucket.take(10.9)
    assert [bucket.take(100.0) for _ in range(4)] == [True, True, True, False]


def test_looking_whether_there_is_a_token_uses_none() -> None:
    bucket = TokenBucket(rate=1.0, burst=1.0)
    assert [bucket.ready(0.0) for _ in range(3)] == [True] * 3
    assert bucket.take(0.0)
    assert not bucket.ready(0.5)
    assert bucket.ready(1.0)


def test_a_clock_that_goes_back_gives_nothing() -> None:
    bucket = TokenBucket(rate=1.0, burst=1.0)
    assert bucket.take(10.0)
    assert not bucket.take(5.0)
    assert not bucket.take(10.5)
    assert bucket.take(11.0)


def test_every_key_has_its_own_rate() -> None:
    limiter: RateLimiter[str] = RateLimiter(rate=1.0, burst=1.0, capacity=10)
    assert limiter.allow("a", 0.0)
    assert limiter.allow("b", 0.0)
    assert not limiter.allow("a", 0.5)


def test_only_so_many_keys_are_remembered() -> None:
    limiter: RateLimiter[int] = RateLimiter(rate=1.0, burst=1.0, capacity=10)
    for key in range(100):
        assert limiter.allow(key, 0.0)
    assert len(limiter) == 10


def test_an_outbox_refuses_what_is_offered_when_it_is_full_and_keeps_what_was_asked_for() -> None:
    outbox: Outbox[int] = Outbox(2)
    assert outbox.offer(1)
    assert outbox.offer(2)
    assert not outbox.offer(3)
    outbox.put(4)
    assert len(outbox) == 3
    assert outbox.take() == [1, 2, 4]
    assert outbox.take() == []
    assert outbox.offer(5)
