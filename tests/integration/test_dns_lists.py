"""Node lists over real DNS packets: a server on loopback, our resolver, and the command line."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from ipaddress import IPv4Address
from pathlib import Path

import dns.flags
import dns.message
import dns.rcode
import dns.zonefile
import pytest
import trio
import trio.testing

from ethsync.commands.dns import zone_lines
from ethsync.discovery.dns_forest import Forest
from ethsync.discovery.dns_resolver import open_resolver
from ethsync.discovery.dns_service import Reader
from ethsync.discovery.dns_subtree import MOST_DEPTH
from ethsync.discovery.dns_sync import RECHECK
from ethsync.discovery.dns_tree import Link, entry_name, parse_link
from ethsync.errors import LookupFailed
from ethsync.wire import rlp
from ethsync.wire.enr import NodeRecord, address_pairs, sign_record
from ethsync.wire.forkid import ForkId
from tests.oracles.dns_server import DnsServer, open_dns_server, txt
from tests.oracles.node_lists import GETH, OTHER_KEY, link_to, make_list, make_records, signed

ROOT = Path(__file__).parents[2]
FAST = 1000.0  # lookups per second
PATIENCE = 0.3  # seconds, where a server does not answer
QUICK = 5.0  # seconds in which a server on the same machine certainly answers


def zone_of(*lists: dict[str, str]) -> dict[str, list[str]]:
    return {name: [text] for texts in lists for name, text in texts.items()}


async def read(server: DnsServer, *links: Link, timeout: float = QUICK) -> tuple[list[NodeRecord], Forest]:
    """Read what can be had of some lists at once, without what would be tried again later."""
    reader = Reader(Forest(links, random.Random(1), FAST), open_resolver([server.endpoint], timeout))
    found: list[NodeRecord] = []
    with trio.fail_after(30):
        while reader.forest.deadline < trio.current_time() + 0.5:
            found += await reader.read_next()
    return found, reader.forest


def ids(records: list[NodeRecord]) -> set[bytes]:
    return {record.node_id for record in records}


# Lookups


async def test_texts_of_several_parts_are_joined_and_others_that_are_not_ascii_left_out() -> None:
    long, other = "x" * 300 + "y" * 300, "z"
    async with open_dns_server({"a.org": [long, other, "\u00e4"]}) as server:
        assert sorted(await open_resolver([server.endpoint])("a.org")) == [long, other]


async def test_an_answer_too_large_for_a_packet_is_fetched_over_tcp() -> None:
    text = "x" * 30_000
    async with open_dns_server({"a.org": [text]}) as server:
        assert await open_resolver([server.endpoint])("a.org") == [text]
        assert server.over_udp == server.over_tcp == ["a.org"]


async def test_a_truncated_answer_is_a_failure_if_tcp_does_not_work() -> None:
    async with open_dns_server({"a.org": ["x" * 600]}, tcp=False) as server:
        with pytest.raises(LookupFailed, match=r"a\.org"):
            await open_resolver([server.endpoint], PATIENCE)("a.org")


async def test_an_alias_is_followed() -> None:
    async with open_dns_server({"b.org": ["x"]}) as server:
        server.aliases["a.org"] = "b.org"
        assert await open_resolver([server.endpoint])("a.org") == ["x"]


@pytest.mark.parametrize(
    ("rcode", "complaint"),
    [(dns.rcode.SERVFAIL, "SERVFAIL"), (dns.rcode.REFUSED, "REFUSED"), (dns.rcode.NXDOMAIN, "no such name")],
)
async def test_a_server_that_answers_with_an_error_is_named_as_the_reason(
    rcode: dns.rcode.Rcode, complaint: str
) -> None:
    async with open_dns_server({}) as server:
        server.rcodes["a.org"] = rcode
        with pytest.raises(LookupFailed, match=rf"cannot look up a\.org: .*{complaint}"):
            await open_resolver([server.endpoint])("a.org")


async def test_a_name_without_texts_is_a_failure() -> None:
    async with open_dns_server({"a.org": []}) as server:
        with pytest.raises(LookupFailed, match="no text is there"):
            await open_resolver([server.endpoint])("a.org")


async def test_a_server_that_does_not_answer_is_given_up_in_time() -> None:
    async with open_dns_server({}) as server:
        server.misbehaviour["a.org"] = lambda query: []
        began = time.monotonic()
        with pytest.raises(LookupFailed, match="no answer in"):
            await open_resolver([server.endpoint], PATIENCE)("a.org")
        assert PATIENCE * 0.9 <= time.monotonic() - began < 10 * PATIENCE


async def test_a_server_that_cannot_be_reached_is_given_up_in_time() -> None:
    async with open_dns_server({}) as server:
        nobody = server.endpoint
    with pytest.raises(LookupFailed, match=r"a\.org"):
        await open_resolver([nobody], PATIENCE)("a.org")


async def test_of_several_servers_another_is_asked_if_one_fails() -> None:
    async with open_dns_server({"a.org": ["x"]}) as good, open_dns_server({}) as bad:
        bad.rcodes["a.org"] = dns.rcode.SERVFAIL
        assert await open_resolver([bad.endpoint, good.endpoint])("a.org") == ["x"]
        assert bad.over_udp == good.over_udp == ["a.org"]


async def test_packets_that_are_no_answer_to_our_question_are_ignored() -> None:
    async with open_dns_server({"a.org": ["right"]}) as server:

        def forged(query: dns.message.Message) -> list[bytes]:
            wrong = dns.message.make_response(query)
            wrong.answer.append(dns.rrset.from_rdata_list(query.question[0].name, 60, [txt("forged")]))
            wrong.id ^= 1
            elsewhere = dns.message.make_response(dns.message.make_query("b.org", "TXT", id=query.id))
            cut = server.answer(query).to_wire()[:-3]
            return [b"", b"\xff" * 30, wrong.to_wire(), elsewhere.to_wire(), cut, server.answer(query).to_wire()]

        server.misbehaviour["a.org"] = forged
        assert await open_resolver([server.endpoint])("a.org") == ["right"]


async def test_a_lookup_can_be_cancelled() -> None:
    async with open_dns_server({}) as server:
        server.misbehaviour["a.org"] = lambda query: []
        with trio.move_on_after(0.05) as scope:
            await open_resolver([server.endpoint])("a.org")
        assert scope.cancelled_caught


# Lists


async def test_a_signed_list_is_read_whole() -> None:
    records = make_records(60)
    zone = zone_of(make_list("all.example.org", records, [link_to("more.example.org")]), make_list("more.example.org"))
    async with open_dns_server(zone) as server:
        found, forest = await read(server, link_to("all.example.org"))
        assert ids(found) == ids(records)
        assert sorted(set(server.over_udp)) == sorted(zone)
        assert server.over_tcp == []  # every answer fits a packet
        assert len(forest.trees) == 2


async def test_the_list_of_go_ethereum_is_read() -> None:
    async with open_dns_server(zone_of(GETH["tree"])) as server:
        found, forest = await read(server, parse_link(GETH["url"]))
        assert {str(record) for record in found} == {t for t in GETH["tree"].values() if t.startswith("enr:")}
        assert len(forest.trees) == 2  # with the one that it links to, which does not exist here


async def test_branches_too_large_for_a_packet_are_read_over_tcp() -> None:
    records = make_records(100)
    texts = [str(record) for record in records]
    top = "enrtree-branch:" + ",".join(entry_name(text) for text in texts)
    zone = zone_of(signed(top, "enrtree-branch:"), {f"{entry_name(text)}.n": text for text in texts})
    async with open_dns_server(zone) as server:
        found, _ = await read(server, link_to("n"))
        assert ids(found) == ids(records)
        assert server.over_tcp == [f"{entry_name(top)}.n"]


async def test_a_root_between_other_texts_of_its_name_is_found() -> None:
    zone = zone_of(make_list("example.org", make_records(2)))
    zone["example.org"] = ["v=spf1 include:_spf.example.org -all", *zone["example.org"], "verification=" + "x" * 60]
    async with open_dns_server(zone) as server:
        found, _ = await read(server, link_to("example.org"))
        assert len(found) == 2


async def test_a_list_that_another_key_signed_is_not_read() -> None:
    async with open_dns_server(zone_of(make_list("n", make_records(5), key=OTHER_KEY))) as server:
        found, forest = await read(server, link_to("n"))
        assert found == []
        assert set(server.over_udp) == {"n"}
        assert "wrong signature" in forest.trees[link_to("n")].trouble


async def test_entries_that_a_server_exchanged_are_not_believed() -> None:
    zone = zone_of(make_list("n", make_records(3)))
    first = next(name for name, texts in zone.items() if texts[0].startswith("enr:"))
    zone[first] = [str(make_records(1, first=100)[0])]
    async with open_dns_server(zone) as server:
        found, forest = await read(server, link_to("n"))
        assert ids(found) < ids(make_records(3))
        assert len(found) == 2
        assert not forest.settled  # it will be asked for again


async def test_lists_that_link_in_a_circle_end() -> None:
    circle = [link_to(f"{number}.org") for number in range(4)]
    zone = zone_of(*(make_list(f"{number}.org", make_records(2, first=2 * number), [*circle]) for number in range(4)))
    async with open_dns_server(zone) as server:
        found, _ = await read(server, circle[0])
        assert ids(found) == ids(make_records(8))
        assert len(server.over_udp) == len(set(server.over_udp))


async def test_a_list_of_endless_depth_ends() -> None:
    text = str(make_records(1)[0])
    texts = {f"{entry_name(text)}.n": text}
    for _ in range(3 * MOST_DEPTH):
        text = f"enrtree-branch:{entry_name(text)}"
        texts[f"{entry_name(text)}.n"] = text
    async with open_dns_server(zone_of(texts, signed(text, "enrtree-branch:"))) as server:
        found, forest = await read(server, link_to("n"))
        assert found == []
        assert forest.trees[link_to("n")].records_half.beyond == 1
        assert len(server.over_udp) <= MOST_DEPTH + 3


async def test_a_version_that_goes_back_is_refused_and_a_newer_one_read(mock_clock: trio.testing.MockClock) -> None:
    records = make_records(9)
    versions = {seq: zone_of(make_list("n", records[: 3 * seq], seq=seq)) for seq in (1, 2, 3)}
    async with open_dns_server(versions[2]) as server:
        reader = Reader(Forest([link_to("n")], random.Random(1), FAST), open_resolver([server.endpoint]))
        tree = reader.forest.trees[link_to("n")]
        assert ids(await read_on(reader, mock_clock)) == ids(records[:6])
        server.texts = versions[1]
        mock_clock.jump(RECHECK)
        assert await read_on(reader, mock_clock) == []
        assert tree.root is not None
        assert tree.root.seq == 2
        assert "sequence number 1 after 2" in tree.trouble
        server.texts = versions[3]
        mock_clock.jump(RECHECK)
        assert ids(await read_on(reader, mock_clock)) == ids(records[6:])


async def read_on(reader: Reader, clock: trio.testing.MockClock) -> list[NodeRecord]:
    """Read what can be had now, with a clock that stands still but where we move it."""
    found: list[NodeRecord] = []
    while reader.forest.deadline < trio.current_time() + 0.5:
        clock.jump(max(0.0, reader.forest.deadline - trio.current_time()))
        found += await reader.read_next()
    return found


async def test_a_server_that_dies_in_the_middle_does_not_hold_us_up() -> None:
    zone = zone_of(make_list("n", make_records(60)))
    async with open_dns_server(zone) as server:
        reader = Reader(Forest([link_to("n")], random.Random(1), FAST), open_resolver([server.endpoint], 0.05))
        found: list[NodeRecord] = []
        while len(found) < 10:
            found += await reader.read_next()
        for name in zone:
            server.misbehaviour[name] = lambda query: []
        with trio.fail_after(20):
            while not reader.forest.settled:
                found += await reader.read_next()
        assert len(found) == 10


# The command line


async def resolve(server: DnsServer, link: str, *options: str) -> subprocess.CompletedProcess[bytes]:
    """Run `ethsync dns resolve` against the server."""
    arguments = ["resolve", link, "--nameserver", str(server.endpoint), "--rate", "100", *options]
    return await trio.run_process(
        [sys.executable, "cli.py", "dns", *arguments], cwd=ROOT, capture_stdout=True, capture_stderr=True, check=False
    )


async def test_the_command_prints_every_record_and_says_which_version_it_read() -> None:
    records = make_records(20)
    async with open_dns_server(zone_of(make_list("a.org", records, seq=7))) as server:
        done = await resolve(server, str(link_to("a.org")))
    assert done.returncode == 0
    lines = done.stdout.decode().splitlines()
    assert sorted(line.split()[0] for line in lines) == sorted(record.node_id.hex() for record in records)
    assert all(line.split()[1].startswith("192.0.2.") and line.split()[1].endswith(":30303") for line in lines)
    assert done.stderr.decode() == "20 records, version 7 of a.org\n"


async def test_the_command_prints_json_for_programs() -> None:
    fork = ForkId(bytes.fromhex("07c9462e"), 0)
    pairs = {**address_pairs(IPv4Address("192.0.2.1"), tcp=30303, udp=30304), b"eth": rlp.encode_list([fork.encode()])}
    record = sign_record(OTHER_KEY, 5, pairs)
    async with open_dns_server(zone_of(make_list("a.org", [record]))) as server:
        done = await resolve(server, str(link_to("a.org")), "--json")
    assert json.loads(done.stdout) == {
        "record": str(record),
        "node_id": record.node_id.hex(),
        "ip": "192.0.2.1",
        "tcp": 30303,
        "udp": 30304,
        "ip6": None,
        "tcp6": None,
        "udp6": None,
        "fork_id": "07c9462e/0",
    }
    assert done.returncode == 0


async def test_the_command_stops_at_a_limit() -> None:
    async with open_dns_server(zone_of(make_list("a.org", make_records(40)))) as server:
        done = await resolve(server, str(link_to("a.org")), "--limit", "3")
        assert len(done.stdout.splitlines()) == 3
        assert done.returncode == 0
        assert len(server.over_udp) < 20


async def test_the_command_fails_with_the_reason_if_a_list_or_one_it_links_to_cannot_be_read() -> None:
    """Both at once, because giving up a root takes a while."""
    good = make_list("good.org", make_records(2), [link_to("missing.org")])
    zone = zone_of(good, make_list("forged.org", key=OTHER_KEY))
    done: dict[str, subprocess.CompletedProcess[bytes]] = {}

    async def run(domain: str) -> None:
        done[domain] = await resolve(server, str(link_to(domain)))

    async with open_dns_server(zone) as server, trio.open_nursery() as nursery:
        nursery.start_soon(run, "good.org")
        nursery.start_soon(run, "forged.org")
    assert [each.returncode for each in done.values()] == [1, 1]
    assert b"the linked list missing.org cannot be read" in done["good.org"].stderr
    assert b"there is no such name" in done["good.org"].stderr
    assert len(done["good.org"].stdout.splitlines()) == 2
    assert b"wrong signature" in done["forged.org"].stderr
    assert len(done["forged.org"].stderr.splitlines()) == 1
    assert done["forged.org"].stdout == b""


async def test_a_list_that_was_made_as_a_zone_file_is_read_by_the_command() -> None:
    records = make_records(30)
    texts = make_list("a.org", records, [link_to("b.org")])
    zone = dns.zonefile.read_rrsets("\n".join(zone_lines(texts)), rdclass=None)
    served = {
        rrset.name.to_text(omit_final_dot=True): [b"".join(rdata.strings).decode() for rdata in rrset] for rrset in zone
    }
    async with open_dns_server({**served, **zone_of(make_list("b.org"))}) as server:
        done = await resolve(server, str(link_to("a.org")), "--json")
    assert {json.loads(line)["record"] for line in done.stdout.splitlines()} == {str(record) for record in records}
    assert done.returncode == 0
