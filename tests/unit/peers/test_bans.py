"""The ban list: keys for a while, addresses for repeated offences, and a file that does no harm."""

from __future__ import annotations

import json
import logging
from ipaddress import ip_address
from pathlib import Path

import pytest

from ethsync.peers.bans import DURATION, LONGEST, MOST, OFFENDERS, Bans, load, save
from tests.unit.discovery.crowds import key

NOW = 1_800_000_000.0
IP = ip_address("66.6.6.6")


def ban_keys(bans: Bans, count: int, ip: str) -> None:
    for number in range(count):
        bans.ban(key(f"{ip} {number}"), "it lied", NOW + number, ip=ip_address(ip))


def test_a_ban_says_why_and_ends_after_a_day() -> None:
    bans = Bans()
    bans.ban(key(1), "a proof was wrong", NOW)
    assert bans.is_banned(key(1), NOW) == "a proof was wrong"
    assert bans.is_banned(key(1), NOW + DURATION - 1) == "a proof was wrong"
    assert bans.is_banned(key(1), NOW + DURATION) is None
    assert bans.is_banned(key(2), NOW) is None


def test_a_ban_may_be_longer_but_never_for_ever() -> None:
    bans = Bans()
    bans.ban(key(1), "again", NOW, 1e12)
    assert bans.is_banned(key(1), NOW + LONGEST - 1)
    assert not bans.is_banned(key(1), NOW + LONGEST)


def test_a_later_shorter_ban_does_not_shorten_an_earlier_one() -> None:
    bans = Bans()
    bans.ban(key(1), "first", NOW, 1000.0)
    bans.ban(key(1), "second", NOW, 10.0)
    assert bans.is_banned(key(1), NOW + 999) == "second"
    assert len(bans) == 1


def test_an_address_is_banned_from_the_third_liar_on_until_the_first_is_free() -> None:
    bans = Bans()
    ban_keys(bans, OFFENDERS - 1, "66.6.6.6")
    assert bans.is_banned(key("innocent"), NOW, IP) is None
    ban_keys(bans, OFFENDERS, "66.6.6.6")
    assert bans.is_banned(key("innocent"), NOW, IP) == "3 nodes at its address are banned"
    assert bans.is_address_banned(IP, NOW) == "3 nodes at its address are banned"
    assert bans.is_address_banned(ip_address("66.6.6.7"), NOW) is None
    assert bans.is_address_banned(IP, NOW + DURATION) is None
    assert bans.is_address_banned(None, NOW) is None


def test_one_liar_that_lies_again_does_not_ban_its_address() -> None:
    bans = Bans()
    for _ in range(5):
        bans.ban(key(1), "it lied", NOW, ip=IP)
    assert bans.is_address_banned(IP, NOW) is None


def test_an_ipv6_address_is_a_64() -> None:
    bans = Bans()
    for number in range(OFFENDERS):
        bans.ban(key(number), "it lied", NOW, ip=ip_address(f"2a01:4f8:1:2::{number}"))
    assert bans.is_address_banned(ip_address("2a01:4f8:1:2:ffff::1"), NOW)
    assert not bans.is_address_banned(ip_address("2a01:4f8:1:3::1"), NOW)


@pytest.mark.parametrize("ip", ["127.0.0.1", "10.0.0.5", "fd00::1"])
def test_addresses_nearby_are_never_banned(ip: str) -> None:
    bans = Bans()
    ban_keys(bans, 20, ip)
    assert bans.is_address_banned(ip_address(ip), NOW) is None
    assert bans.is_banned(key(f"{ip} 0"), NOW) == "it lied"


def test_there_is_a_limit_and_the_ban_that_ends_first_makes_room() -> None:
    bans = Bans()
    for number in range(MOST + 1):
        bans.ban(key(number), "it lied", NOW, 1000.0 - 0.1 * (number == 7))
    assert len(bans) == MOST
    assert bans.is_banned(key(7), NOW) is None
    assert bans.is_banned(key(MOST), NOW) is not None


def test_bans_that_are_over_are_forgotten() -> None:
    bans = Bans()
    ban_keys(bans, 5, "66.6.6.6")
    bans.expire(NOW + DURATION + 2)
    assert len(bans) == 2
    bans.expire(NOW + 2 * DURATION)
    assert len(bans) == 0
    assert not bans._by_address


# Between runs


def test_bans_outlive_the_program(tmp_path: Path) -> None:
    bans = Bans()
    ban_keys(bans, 3, "66.6.6.6")
    bans.ban(key("soon"), "for a minute", NOW, 60.0)
    bans.ban(key("elsewhere"), "x" * 9999, NOW, ip=None)
    assert save(bans.document(NOW), tmp_path / "bans.json")
    again = load(tmp_path / "bans.json", NOW + 3600)
    assert len(again) == 4
    assert again.is_banned(key("66.6.6.6 0"), NOW + 3600) == "it lied"
    assert again.is_banned(key("66.6.6.6 0"), NOW + DURATION) is None
    assert again.is_address_banned(IP, NOW + 3600)
    assert again.is_banned(key("soon"), NOW + 3600) is None
    assert again.is_banned(key("elsewhere"), NOW + 3600) == "x" * 500


def test_a_clock_that_was_set_back_makes_no_ban_longer_than_the_longest(tmp_path: Path) -> None:
    bans = Bans()
    bans.ban(key(1), "it lied", NOW)
    save(bans.document(NOW), tmp_path / "bans.json")
    long_ago = 1_000_000.0
    again = load(tmp_path / "bans.json", long_ago)
    assert again.is_banned(key(1), long_ago + LONGEST - 1)
    assert not again.is_banned(key(1), long_ago + LONGEST)


def test_without_a_file_nobody_is_banned(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert len(load(tmp_path / "none", NOW)) == 0
    assert not caplog.records


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"version":2,"bans":[]}',
        '{"version":1}',
        '{"version":1,"bans":7}',
        '{"version":1,"bans":[7]}',
        '{"version":1,"bans":[["00",1e12,"why",null]]}',
        json.dumps({"version": 1, "bans": [["00" * 64, "soon", "why", None]]}),
        json.dumps({"version": 1, "bans": [["00" * 64, float("nan"), "why", None]]}),
        json.dumps({"version": 1, "bans": [["00" * 64, 10**400, "why", None]]}),
        json.dumps({"version": 1, "bans": [["00" * 64, 1e12, None, None]]}),
        json.dumps({"version": 1, "bans": [["00" * 64, 1e12, "why", "nowhere"]]}),
        json.dumps({"version": 1, "bans": [["00" * 64, 1e12, "why", ["x"]]]}),
        json.dumps({"version": 1, "bans": [[7, 1e12, "why", None]]}),
    ],
)
def test_a_damaged_file_is_set_aside_with_a_warning(
    content: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "bans.json"
    path.write_text(content)
    assert len(load(path, NOW)) == 0
    assert [each.levelno for each in caplog.records] == [logging.WARNING]
    assert (tmp_path / "bans.json.damaged").read_text() == content
