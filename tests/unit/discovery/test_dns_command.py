"""`ethsync dns` without a network: making lists, how things are shown, and wrong usage."""

from __future__ import annotations

import json
import random
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

import dns.zonefile
import pytest
import trio
import trio.testing

from ethsync import cli
from ethsync.commands.dns import ListReader, parse_nameserver, zone_lines
from ethsync.commands.record_facts import brief_facts, brief_line
from ethsync.discovery.dns_forest import Forest
from ethsync.discovery.dns_subtree import MOST_DEPTH
from ethsync.discovery.dns_tree import entry_name
from ethsync.discovery.node import Endpoint
from ethsync.errors import ConfigError, LookupFailed
from ethsync.wire import rlp
from ethsync.wire.enr import address_pairs, sign_record
from ethsync.wire.forkid import ForkId
from tests.oracles.node_lists import GETH, KEY, link_to, make_list, make_records, signed

FORK = {b"eth": rlp.encode_list([ForkId(bytes.fromhex("07c9462e"), 7).encode()])}


def ethsync(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code and what was printed."""
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    shown = capsys.readouterr()
    assert isinstance(caught.value.code, int)
    return caught.value.code, shown.out, shown.err


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    """A file of 30 records and one with the owner's key."""
    (tmp_path / "records").write_text("# nodes\n\n" + "\n".join(f" {record}" for record in make_records(30)) + "\n")
    (tmp_path / "key").write_text(f"{KEY.to_hex()}\n")
    (tmp_path / "key").chmod(0o600)
    return str(tmp_path / "records"), str(tmp_path / "key")


def test_a_list_is_made_of_a_file_of_records(capsys: pytest.CaptureFixture[str], files: tuple[str, str]) -> None:
    records, key = files
    options = ("--key", key, "--domain", "A.org.", "--seq", "3", "--link", str(link_to("b.org")), "--json")
    code, out, err = ethsync(capsys, "dns", "make", records, *options)
    assert code == 0
    assert json.loads(out) == make_list("a.org", make_records(30), [link_to("b.org")], seq=3)
    assert err.strip() == str(link_to("a.org"))


def test_a_list_is_printed_as_a_zone_file(capsys: pytest.CaptureFixture[str], files: tuple[str, str]) -> None:
    records, key = files
    code, out, _ = ethsync(capsys, "dns", "make", records, "--key", key, "--domain", "a.org", "--seq", "1")
    assert code == 0
    zone = dns.zonefile.read_rrsets(out, rdclass=None)
    read = {each.name.to_text(omit_final_dot=True): b"".join(each[0].strings).decode() for each in zone}
    assert read == make_list("a.org", make_records(30))
    assert {each.ttl for each in zone} == {60, 86900}
    assert next(each.ttl for each in zone if each.name.to_text() == "a.org.") == 60


def test_no_part_of_a_text_in_a_zone_file_is_too_long() -> None:
    (line,) = zone_lines({"a.org": "x" * 600})
    assert [len(part) for part in line.split('"')[1::2]] == [255, 255, 90]


def test_a_key_that_others_can_read_is_refused(capsys: pytest.CaptureFixture[str], files: tuple[str, str]) -> None:
    Path(files[1]).chmod(0o640)
    code, _, err = ethsync(capsys, "dns", "make", files[0], "--key", files[1], "--domain", "a.org", "--seq", "1")
    assert code == 2
    assert f"(chmod 600 {files[1]})" in err


@pytest.mark.parametrize("key", ["", "00" * 32, "11" * 31, "zz" * 32, "enr:-"])
def test_a_file_without_a_key_is_refused(
    capsys: pytest.CaptureFixture[str], files: tuple[str, str], tmp_path: Path, key: str
) -> None:
    (tmp_path / "key").write_text(key)
    options = ("--key", files[1], "--domain", "a.org", "--seq", "1")
    code, out, err = ethsync(capsys, "dns", "make", files[0], *options)
    assert (code, out) == (2, "")
    assert "holds no private key" in err


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("--domain", "a..org"), "not a domain"),
        (("--seq", "-1"), "seq"),
        (("--seq", str(2**64)), "seq"),
        (("--link", "enrtree://a.org"), "without a key"),
        (("--key", "/nonexistent"), "cannot be read: No such file"),
    ],
)
def test_a_list_that_cannot_be_is_not_made(
    capsys: pytest.CaptureFixture[str], files: tuple[str, str], change: tuple[str, str], complaint: str
) -> None:
    options = ("--key", files[1], "--domain", "a.org", "--seq", "1", *change)
    code, out, err = ethsync(capsys, "dns", "make", files[0], *options)
    assert (code, out) == (2, "")
    assert complaint in err


def test_a_line_that_is_no_record_is_refused(
    capsys: pytest.CaptureFixture[str], files: tuple[str, str], tmp_path: Path
) -> None:
    (tmp_path / "records").write_text("enode://1@2:3")
    options = ("--key", files[1], "--domain", "a.org", "--seq", "1")
    code, _, err = ethsync(capsys, "dns", "make", files[0], *options)
    assert code == 2
    assert "enr:" in err


@pytest.mark.parametrize(
    "arguments",
    [
        ("enrtree://a.org",),
        ("enode://a.org",),
        (GETH["url"], "--nameserver", "dns.example.org"),
        (GETH["url"], "--limit", "0"),
        (GETH["url"], "--rate", "0"),
    ],
)
def test_wrong_usage_of_resolve_is_2_before_anything_is_asked(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    code, out, err = ethsync(capsys, "dns", "resolve", *arguments)
    assert (code, out) == (2, "")
    assert err


async def test_on_a_terminal_it_shows_how_far_it_is_and_wipes_that_away(
    capsys: pytest.CaptureFixture[str], autojump_clock: trio.testing.MockClock
) -> None:
    texts = make_list("a.org", make_records(5))

    async def resolve(name: str) -> list[str]:
        await trio.lowlevel.checkpoint()
        return [texts[name]]

    reader = ListReader(link_to("a.org"), None, as_json=False, live=True)
    assert await reader.read(Forest([reader.link], random.Random(1)), resolve) == 0
    shown = capsys.readouterr()
    assert len(shown.out.splitlines()) == 5
    assert "\r0 records; 0 entries read, 2 to go" in shown.err
    assert "\r5 records; 7 entries read, 0 to go" in shown.err
    assert shown.err.endswith("\r5 records, version 1 of a.org\n")


async def test_what_was_not_read_of_a_list_is_said(
    capsys: pytest.CaptureFixture[str], autojump_clock: trio.testing.MockClock
) -> None:
    nested = str(make_records(1)[0])
    nest = {entry_name(nested): nested}
    for _ in range(MOST_DEPTH + 1):
        nested = f"enrtree-branch:{entry_name(nested)}"
        nest[entry_name(nested)] = nested
    top = f"enrtree-branch:{entry_name('gone')},{entry_name('enr:-----')},{entry_name(nested)}"
    texts = {f"{name}.a.org": text for name, text in {**nest, entry_name("enr:-----"): "enr:-----"}.items()}
    texts |= signed(top, "enrtree-branch:", domain="a.org")

    async def resolve(name: str) -> list[str]:
        await trio.lowlevel.checkpoint()
        if name not in texts:
            raise LookupFailed(f"cannot look up {name}: there is no such name")
        return [texts[name]]

    reader = ListReader(link_to("a.org"), None, as_json=False, live=False)
    assert await reader.read(Forest([reader.link], random.Random(1)), resolve) == 1
    said = capsys.readouterr().err
    assert "a.org: entries that could not be had: 1 (" in said
    assert "a.org: entries that are not valid: 1 (" in said
    assert "a.org: entries left out, because the list is too large or too deep: 1\n" in said


def test_a_record_is_shown_with_its_id_address_and_fork() -> None:
    record = sign_record(KEY, 1, {**address_pairs(IPv4Address("192.0.2.9"), tcp=30303, udp=30304), **FORK})
    assert brief_line(record) == f"{record.node_id.hex()}  192.0.2.9:30303        07c9462e/7"
    assert brief_facts(record) == {
        "record": str(record),
        "node_id": record.node_id.hex(),
        "ip": "192.0.2.9",
        "tcp": 30303,
        "udp": 30304,
        "ip6": None,
        "tcp6": None,
        "udp6": None,
        "fork_id": "07c9462e/7",
    }


def test_a_record_with_an_ipv6_address_only_is_shown_with_that() -> None:
    record = sign_record(KEY, 1, address_pairs(ip6=IPv6Address("2001:db8::1"), tcp6=30303, udp6=30304))
    assert brief_line(record).split() == [record.node_id.hex(), "[2001:db8::1]:30303", "-"]
    facts = brief_facts(record)
    assert (facts["ip6"], facts["tcp6"], facts["udp6"]) == ("2001:db8::1", 30303, 30304)


def test_a_record_without_an_address_is_shown_too() -> None:
    record = sign_record(KEY, 1, {})
    assert brief_line(record).split() == [record.node_id.hex(), "-", "-"]
    assert brief_facts(record)["ip"] is None


@pytest.mark.parametrize(
    ("text", "ip", "port"),
    [
        ("192.0.2.1", "192.0.2.1", 53),
        ("192.0.2.1:5353", "192.0.2.1", 5353),
        ("::1", "::1", 53),
        ("2001:db8::53", "2001:db8::53", 53),
        ("[::1]", "::1", 53),
        ("[::1]:5353", "::1", 5353),
    ],
)
def test_a_name_server_is_an_address_with_or_without_a_port(text: str, ip: str, port: int) -> None:
    assert parse_nameserver(text) == Endpoint(ip_address(ip), port)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "dns.example.org",
        "192.0.2.1:",
        "192.0.2.1:0",
        "192.0.2.1:65536",
        "192.0.2.1:x",
        "[::1]:",
        "[::1",
        "1::2:",
    ],
)
def test_a_name_server_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="not a name server"):
        parse_nameserver(text)
