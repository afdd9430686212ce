"""Texts of DNS node lists: the specification's and go-ethereum's examples, hashes, signatures, and what is refused."""

from __future__ import annotations

import dns.message
import dns.rrset
import pytest

from ethsync.discovery.dns_tree import (
    LONGEST_DOMAIN,
    LONGEST_TEXT,
    MOST_CHILDREN,
    Branch,
    Link,
    Root,
    build_tree,
    decode_entry,
    decode_name,
    decode_root,
    entry_name,
    is_named,
    parse_link,
)
from ethsync.errors import ConfigError, MalformedMessage
from ethsync.hashing import keccak256
from ethsync.wire import keys
from ethsync.wire.enr import NodeRecord, decode_base64url, parse_record
from tests.oracles.node_lists import (
    GETH,
    KEY,
    OTHER_KEY,
    VECTORS,
    encode_base64url,
    link_to,
    make_list,
    make_records,
    resign,
    short_name,
)

SPECIFICATION = VECTORS["specification"]
ZONE: dict[str, str] = {name: text for name, _, text in SPECIFICATION["zone"]}
PUBLIC_KEY = KEY.public_key.format()


# The link


def test_the_link_of_the_specification() -> None:
    link = parse_link(SPECIFICATION["link"])
    assert link.domain == "nodes.example.org"
    assert link.public_key[:1] in (b"\x02", b"\x03")
    assert str(link) == SPECIFICATION["link"]


def test_space_around_a_link_and_the_case_of_its_domain_and_a_final_dot_do_not_matter() -> None:
    text = GETH["url"].replace("@n", "@Nodes.Example.ORG.")
    assert parse_link(f"  {text}\n") == link_to("nodes.example.org")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "does not begin with enrtree://"),
        (GETH["url"].replace("enrtree", "enode"), "does not begin with enrtree://"),
        ("enrtree://nodes.example.org", "without a key"),
        ("enrtree://@n", "33"),
        (GETH["url"].replace("AKPY", "akpy"), "base32"),
        (GETH["url"].replace("AKPY", "AKP1"), "base32"),
        (GETH["url"].replace("AKPY", "AKP"), "base32"),
        (GETH["url"].replace("AKPY", "BKPY"), "not a point"),
        (GETH["url"].replace("@", "AAAAA@"), "instead of 33"),
    ],
)
def test_a_link_without_a_proper_key_is_refused_with_a_reason(text: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        parse_link(text)


@pytest.mark.parametrize(
    "domain",
    ["", ".", "a..b", ".n", "-a.org", "a-.org", "a b", "a@b", "a/b", "ä.org", "\u212a.org", "a\n", "x" * 64, "x" * 300],
)
def test_a_link_to_what_is_no_domain_is_refused(domain: str) -> None:
    with pytest.raises(ConfigError, match="not a domain"):
        parse_link(GETH["url"].replace("@n", f"@{domain}") + ("." if domain.endswith("\n") else ""))


def test_a_domain_is_so_short_that_a_whole_hash_below_it_is_a_valid_name() -> None:
    whole_hash = "A" * 52
    longest = ".".join(["x" * 49] * 4)
    assert len(longest) == LONGEST_DOMAIN - 1
    link = parse_link(GETH["url"].replace("@n", f"@{longest}y"))
    assert dns.name.from_text(f"{whole_hash}.{link.domain}.").is_absolute()
    with pytest.raises(ConfigError, match="not a domain"):
        parse_link(GETH["url"].replace("@n", f"@{longest}yz"))


# The root


def test_the_root_of_the_specification_is_signed_by_the_key_that_it_names() -> None:
    key = keys.public_key(bytes.fromhex(SPECIFICATION["public_key"])[1:])
    assert decode_root(ZONE["@"], key.format()) == Root("JWXYDBPXYWG6FX3GMDIBFA6CJ4", "C7HRFPF3BLGF3YR4DY5KX3SMBE", 1)


def test_a_published_root_of_holesky_is_signed_by_the_key_that_clients_have_built_in() -> None:
    vector = VECTORS["ethdisco"]
    assert decode_root(vector["root"], parse_link(vector["link"]).public_key).seq == vector["seq"]


def test_a_root_of_go_ethereum_is_read() -> None:
    text, signature = GETH["roots"]["valid"], bytes.fromhex(GETH["roots"]["valid_signature"])
    body = text.partition(" sig=")[0]
    owner = keys.recover(keccak256(body.encode()), signature)
    assert decode_root(text, owner.format()) == Root("QFT4PBCRX4XQCV3VUYJ6BTCEPU", "JGUFMSAGI7KZYB3P7IZW4S5Y3A", 3)


@pytest.mark.parametrize("name", ["without_links", "short_signature"])
def test_a_root_that_go_ethereum_cannot_read_neither_can_we(name: str) -> None:
    with pytest.raises(MalformedMessage, match="another form"):
        decode_root(GETH["roots"][name], PUBLIC_KEY)


def test_a_root_that_another_key_signed_is_refused() -> None:
    with pytest.raises(MalformedMessage, match="wrong signature"):
        decode_root(ZONE["@"], OTHER_KEY.public_key.format())


@pytest.mark.parametrize(("old", "new"), [("seq=1", "seq=2"), ("e=J", "e=K"), ("l=C", "l=D"), ("sig=o", "sig=p")])
def test_a_root_with_a_changed_character_is_refused(old: str, new: str) -> None:
    with pytest.raises(MalformedMessage, match="wrong signature"):
        decode_root(ZONE["@"].replace(old, new), PUBLIC_KEY)


def test_the_recovery_id_of_a_signature_does_not_matter() -> None:
    body, _, encoded = ZONE["@"].partition(" sig=")
    for last in range(256):
        changed = encode_base64url(decode_base64url(encoded)[:64] + bytes([last]))
        assert decode_root(f"{body} sig={changed}", PUBLIC_KEY).seq == 1


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("enrtree-root:v1", "enrtree-root:v2"),
        ("seq=1", "seq=-1"),
        ("seq=1", "seq=0x1"),
        ("seq=1", "seq="),
        ("seq=1", "seq=" + "9" * 5000),
        ("seq=1", f"seq={2**64}"),
        ("e=JWXYDBPXYWG6FX3GMDIBFA6CJ4", "e="),
        ("e=JWXYDBPXYWG6FX3GMDIBFA6CJ4", "e=jwxydbpxywg6fx3gmdibfa6cj4"),
        ("e=JWXYDBPXYWG6FX3GMDIBFA6CJ4", "e=" + "A" * 18),
        ("l=C7HRFPF3BLGF3YR4DY5KX3SMBE", "l=" + "A" * 53),
        (" l=", "  l="),
    ],
)
def test_a_root_of_another_form_is_refused_even_if_it_is_signed(old: str, new: str) -> None:
    assert old in ZONE["@"]
    with pytest.raises(MalformedMessage, match=r"form|64 bits|hash of|base32"):
        decode_root(resign(ZONE["@"].replace(old, new)), PUBLIC_KEY)


def test_the_largest_sequence_number_is_read() -> None:
    root = resign(ZONE["@"].replace("seq=1", f"seq={2**64 - 1}"))
    assert decode_root(root, PUBLIC_KEY).seq == 2**64 - 1


@pytest.mark.parametrize("tail", ["\n", " ", "=", " x=1"])
def test_nothing_may_follow_a_root(tail: str) -> None:
    with pytest.raises(MalformedMessage, match="another form"):
        decode_root(ZONE["@"] + tail, PUBLIC_KEY)


# Entries and their names


def test_every_entry_of_the_specification_is_at_the_hash_of_its_text() -> None:
    for name, text in ZONE.items():
        if name != "@":
            assert entry_name(text) == name
            assert is_named(text, name)


def test_every_valid_entry_of_go_ethereum_is_read() -> None:
    empty, one, two, link, record = [decode_entry(text) for text in GETH["entries"]["valid"]]
    assert empty == Branch(())
    assert one == Branch(("A" * 20,))
    assert two == Branch(("A" * 20, "B" * 20))
    assert link == Link(PUBLIC_KEY, "nodes.example.org")
    assert isinstance(record, NodeRecord)
    assert str(record) == GETH["entries"]["valid"][4]


@pytest.mark.parametrize("text", GETH["entries"]["refused"])
def test_every_invalid_entry_of_go_ethereum_is_refused(text: str) -> None:
    with pytest.raises(MalformedMessage):
        decode_entry(text)


@pytest.mark.parametrize(
    "text",
    [
        "enrtree-branch:,",
        "enrtree-branch:" + "A" * 26 + ",",
        "enrtree-branch:" + "A" * 26 + " ," + "B" * 26,
        "enrtree-branch:" + "A" * 22,  # no number of bytes has so many characters
        "enrtree-root:v1 e=",
        "enr:-----",
        "v=spf1 -all",
    ],
)
def test_what_is_no_entry_is_refused(text: str) -> None:
    with pytest.raises(MalformedMessage):
        decode_entry(text)


def test_a_record_with_a_wrong_signature_is_refused() -> None:
    text = ZONE["2XS2367YHAXJFGLZHVAWLQD4ZY"]
    at = text.index("QOFz")
    with pytest.raises(MalformedMessage, match="wrong signature"):
        decode_entry(text[:at] + "QOFy" + text[at + 4 :])


def test_a_hash_may_be_cut_to_12_bytes_and_have_up_to_32() -> None:
    text = "enrtree-branch:"
    digest = keccak256(text.encode())
    assert decode_name(short_name(text)) == digest[:12]
    assert is_named(text, short_name(text))
    whole = "2PPEWVCS4TRFHW4ECWB7BJ6JBLQEZ7S3W4GUTHTXHHUB2B4WLVSA"  # not the hash of this text, but as long
    assert len(decode_name(whole)) == 32
    assert not is_named(text, whole)
    for wrong in ("A" * 18, "A" * 53):
        with pytest.raises(MalformedMessage, match="12 to 32"):
            decode_name(wrong)


def test_a_text_with_a_changed_character_is_not_at_its_place() -> None:
    text = ZONE["JWXYDBPXYWG6FX3GMDIBFA6CJ4"]
    assert not is_named(text.replace("2XS", "3XS"), "JWXYDBPXYWG6FX3GMDIBFA6CJ4")
    assert not is_named(text + " ", "JWXYDBPXYWG6FX3GMDIBFA6CJ4")


def test_an_entry_may_be_longer_than_it_should_but_not_for_ever() -> None:
    names = ["A" * 26] * (LONGEST_TEXT // 27 + 1)
    text = "enrtree-branch:" + ",".join(names)
    assert len(text) > LONGEST_TEXT
    with pytest.raises(MalformedMessage, match="characters"):
        decode_entry(text)
    assert decode_entry("enrtree-branch:" + ",".join(names[1:])) == Branch(tuple(names[1:]))


# Making a list


def test_a_list_of_the_same_records_is_the_one_of_the_specification_to_the_last_character() -> None:
    """The signature too: go-ethereum signs with the same deterministic nonce (RFC 6979)."""
    texts = GETH["tree"]
    records = [parse_record(text) for text in texts.values() if text.startswith("enr:")]
    links = [parse_link(text) for text in texts.values() if text.startswith("enrtree://")]
    assert build_tree(reversed(records), links, "n", KEY, 1) == texts


def test_an_empty_list_has_an_empty_branch_in_both_halves() -> None:
    texts = make_list("n")
    empty = entry_name("enrtree-branch:")
    root = decode_root(texts.pop("n"), PUBLIC_KEY)
    assert root == Root(empty, empty, 1)
    assert texts == {f"{empty}.n": "enrtree-branch:"}


@pytest.mark.parametrize("count", [1, 12, 13, 14, 170])
def test_no_branch_has_more_than_13_children_and_every_record_is_in_the_list(count: int) -> None:
    records = make_records(count)
    texts = make_list("n", records)
    del texts["n"]
    entries = [decode_entry(text) for text in texts.values()]
    assert {entry.node_id for entry in entries if isinstance(entry, NodeRecord)} == {each.node_id for each in records}
    assert all(len(entry.children) <= MOST_CHILDREN for entry in entries if isinstance(entry, Branch))
    assert all(is_named(text, name.removesuffix(".n")) for name, text in texts.items())


def test_every_answer_of_a_list_fits_a_dns_packet_of_512_bytes() -> None:
    texts = make_list("all.mainnet.example.net", make_records(170), [link_to("more.example.org")])
    for name, text in texts.items():
        response = dns.message.make_response(dns.message.make_query(f"{name}.", "TXT"))
        parts = " ".join(f'"{text[at : at + 255]}"' for at in range(0, len(text), 255))
        response.answer.append(dns.rrset.from_text(f"{name}.", 60, "IN", "TXT", parts))
        assert len(response.to_wire()) <= 512
