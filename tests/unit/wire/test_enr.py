"""Node records: the vectors of EIP-778, devp2p and go-ethereum, what others sign, and what is refused."""

from __future__ import annotations

import tomllib
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

import coincurve
import pytest
import rlp as oracle

from ethsync.errors import ConfigError, LocalProtocolError, MalformedMessage
from ethsync.hashing import keccak256
from ethsync.wire import keys, rlp
from ethsync.wire.enr import (
    MAX_SIZE,
    NodeRecord,
    address_pairs,
    decode_base64url,
    decode_record,
    parse_record,
    parse_unverified,
    sign_record,
)
from ethsync.wire.forkid import ForkId

DATA = Path(__file__).parents[3] / "data"

# devp2p, enr.md, "Test Vectors" (EIP-778 has the same); go-ethereum, p2p/enode/node_test.go, pyRecord.
EXAMPLE_KEY = coincurve.PrivateKey(bytes.fromhex("b71c71a67e1177ad4e901695e1b4b9ee17ae16c6668d313eac2f96dbcda3f291"))
POINT = EXAMPLE_KEY.public_key.format()
UNCOMPRESSED = EXAMPLE_KEY.public_key.format(compressed=False)
EXAMPLE_ID = "a448f24c6d18e575453db13171562b71999873db5b286df957af199ec94617f7"
EXAMPLE = (
    "enr:-IS4QHCYrYZbAKWCBRlAy5zzaDZXJBGkcnh4MHcBFZntXNFrdvJjX04jRzjzCBOonrkTfj499SZuOh8R33Ls8RRcy5wBgmlkgnY0gmlwhH8AAAG"
    "Jc2VjcDI1NmsxoQPKY0yuDUmstAHYpMa2_oxVtw0RW_QAdpzBQA8yWM0xOIN1ZHCCdl8"
)
EXAMPLE_RAW = bytes.fromhex(
    "f884b8407098ad865b00a582051940cb9cf36836572411a47278783077011599ed5cd16b76f2635f4e234738f30813a89eb9137e3e3df5266e3a1f"
    "11df72ecf1145ccb9c01826964827634826970847f00000189736563703235366b31a103ca634cae0d49acb401d8a4c6b6fe8c55b70d115bf40076"
    "9cc1400f3258cd31388375647082765f"
)

# go-ethereum, p2p/enode/urlv4_test.go
GETH_KEY = coincurve.PrivateKey(bytes.fromhex("45a915e4d060149eb4365960e6a7a45f334393093061116b197e3240065ff2d8"))
GETH = (
    "enr:-IS4QGrdq0ugARp5T2BZ41TrZOqLc_oKvZoPuZP5--anqWE_J-Tucc1xgkOL7qXl0puJgT7qc2KSvcupc4NCb0nr4tdjgmlkgnY0gmlwhH8AAAG"
    "Jc2VjcDI1NmsxoQM6UUF2Rm-oFe1IH_rQkRCi00T2ybeMHRSvw1HDpRvjPYN1ZHCCdl8"
)
GETH_UNSIGNED = (
    "enr:-EmGZm9vYmFyY4JpZIJ2NIJpcIR_AAABiXNlY3AyNTZrMaEDOlFBdkZvqBXtSB_60JEQotNE9sm3jB0Ur8NRw6Ub4z2DdWRwgnZf"
)


def signed(pairs: list[Any], seq: Any = 1, key: coincurve.PrivateKey = EXAMPLE_KEY) -> bytes:
    """A record of any content in any order, with a signature that holds, put together by the `rlp` package."""
    content = [seq, *pairs]
    return bytes(oracle.encode([keys.sign(key, keccak256(oracle.encode(content))), *content]))


def identified(*pairs: Any) -> list[Any]:
    """These keys and values beside `id` and `secp256k1`, ascending."""
    every = [
        (b"id", b"v4"),
        (b"secp256k1", POINT),
        *zip(pairs[::2], pairs[1::2], strict=True),
    ]
    return [part for pair in sorted(every, key=lambda pair: pair[0]) for part in pair]


class TestVectors:
    def test_the_example_of_eip_778(self) -> None:
        record = parse_record(EXAMPLE)

        assert record.raw == EXAMPLE_RAW
        assert record.node_id.hex() == EXAMPLE_ID
        assert record.public_key == keys.identity(EXAMPLE_KEY.public_key)
        assert (record.seq, record.ip, record.udp, record.tcp) == (1, IPv4Address("127.0.0.1"), 30303, 0)
        assert str(record) == EXAMPLE

    def test_signing_the_example_gives_the_same_bytes(self) -> None:
        pairs = address_pairs(IPv4Address("127.0.0.1"), udp=30303)

        assert sign_record(EXAMPLE_KEY, 1, pairs) == decode_record(EXAMPLE_RAW)

    def test_signing_what_go_ethereum_signed_gives_the_same_bytes(self) -> None:
        record = sign_record(GETH_KEY, 99, address_pairs(IPv4Address("127.0.0.1"), udp=30303))

        assert str(record) == GETH
        assert parse_record(GETH) == record

    def test_go_ethereums_record_with_a_wrong_signature_is_refused(self) -> None:
        with pytest.raises(ConfigError, match="the signature is wrong"):
            parse_record(GETH_UNSIGNED)
        shown = parse_unverified(GETH_UNSIGNED)
        assert (shown.is_signed, shown.signature) == (False, b"foobar")
        assert (shown.content.seq, shown.content.udp) == (99, 30303)

    @pytest.mark.parametrize("text", tomllib.loads((DATA / "discv5.toml").read_text())["boot_nodes"])
    def test_records_of_consensus_clients_are_read(self, text: str) -> None:
        record = parse_record(text)

        assert str(record) == text
        assert record.ip is not None
        assert record.udp in (9000, 9100, 10000, 11000)
        assert record.value(b"eth2") is not None
        assert record.fork_id is None
        assert not record.serves_snap


class TestContent:
    def test_addresses_and_ports_are_what_the_record_says(self) -> None:
        pairs = address_pairs(IPv4Address("1.2.3.4"), IPv6Address("2001::5"), tcp=1, udp=2, tcp6=3, udp6=65535)

        record = decode_record(sign_record(EXAMPLE_KEY, 5, pairs).raw)

        assert (record.ip, record.tcp, record.udp) == (IPv4Address("1.2.3.4"), 1, 2)
        assert (record.ip6, record.tcp6, record.udp6) == (IPv6Address("2001::5"), 3, 65535)

    def test_ports_of_ipv4_hold_for_ipv6_unless_it_has_its_own(self) -> None:
        record = sign_record(EXAMPLE_KEY, 5, address_pairs(ip6=IPv6Address("2001::5"), tcp=30303, udp=30304))

        assert (record.tcp6, record.udp6) == (30303, 30304)

    def test_what_is_absent_is_none_or_0(self) -> None:
        record = sign_record(EXAMPLE_KEY, 0, {})

        assert (record.ip, record.ip6, record.tcp, record.udp, record.tcp6, record.udp6) == (None, None, 0, 0, 0, 0)
        assert (record.seq, record.fork_id, record.serves_snap) == (0, None, False)
        assert [name for name, _ in record.pairs] == [b"id", b"secp256k1"]

    @pytest.mark.parametrize("value", [b"", b"abc", b"abcde", [b"abcd"]])
    def test_an_address_of_a_wrong_form_does_not_spoil_the_record(self, value: Any) -> None:
        record = decode_record(signed(identified(b"ip", value, b"ip6", value)))

        assert (record.ip, record.ip6) == (None, None)

    @pytest.mark.parametrize("value", [b"\1\0\0", b"\0\1", [], [b"\1"]])
    def test_a_port_of_a_wrong_form_does_not_spoil_the_record(self, value: Any) -> None:
        record = decode_record(signed(identified(b"tcp", value, b"udp", value, b"udp6", value)))

        assert (record.tcp, record.udp, record.udp6) == (0, 0, 0)

    def test_the_eth_entry_holds_the_fork_id(self) -> None:
        """devp2p, enr-entries/eth.md; further list elements are ignored."""
        plain = decode_record(signed(identified(b"eth", [[b"\xde\xad\xbe\xef", b"\5"]])))
        extended = decode_record(signed(identified(b"eth", [[b"\xde\xad\xbe\xef", b"\5"], b"later", [b"things"]])))

        assert plain.fork_id == extended.fork_id == ForkId(b"\xde\xad\xbe\xef", 5)

    @pytest.mark.parametrize(
        "value", [b"", b"eth", [], [[]], [b"\xde\xad\xbe\xef", b"\5"], [[b"12345", b""]], [[b"1234"]]]
    )
    def test_an_eth_entry_of_another_form_counts_as_none(self, value: Any) -> None:
        assert decode_record(signed(identified(b"eth", value))).fork_id is None

    def test_a_snap_entry_is_seen(self) -> None:
        assert decode_record(signed(identified(b"snap", []))).serves_snap

    def test_keys_that_we_do_not_know_survive(self) -> None:
        pairs = identified(b"", b"nameless", b"client", [b"Nethermind", b"1.2", b""], b"zz", [[[]], b"\1"])

        record = decode_record(signed(pairs))

        assert [part for name, value in record.pairs for part in (name, oracle.decode(value))] == pairs
        assert sign_record(EXAMPLE_KEY, 1, dict(record.pairs)).raw == record.raw


class TestRefused:
    def test_a_record_with_a_changed_byte_is_refused(self) -> None:
        for position in range(len(EXAMPLE_RAW)):
            for change in (1, 0x80, 0xFF):
                changed = bytearray(EXAMPLE_RAW)
                changed[position] ^= change
                with pytest.raises(MalformedMessage):
                    decode_record(bytes(changed))

    def test_a_record_that_is_cut_off_or_followed_by_more_is_refused(self) -> None:
        for end in range(len(EXAMPLE_RAW)):
            with pytest.raises(MalformedMessage):
                decode_record(EXAMPLE_RAW[:end])
        with pytest.raises(MalformedMessage):
            decode_record(EXAMPLE_RAW + b"\0")

    def test_a_record_of_300_bytes_is_the_largest(self) -> None:
        """EIP-778; go-ethereum's TestRecordTooBig."""
        room = MAX_SIZE - len(signed(identified(b"x", b"1" * 160))) + 160

        assert len(decode_record(signed(identified(b"x", b"1" * room))).raw) == MAX_SIZE
        with pytest.raises(MalformedMessage, match="of 301 bytes, more than 300"):
            decode_record(signed(identified(b"x", b"1" * (room + 1))))
        assert len(sign_record(EXAMPLE_KEY, 1, {b"x": rlp.encode_bytes(b"1" * room)}).raw) == MAX_SIZE
        with pytest.raises(LocalProtocolError, match="would have 301 bytes"):
            sign_record(EXAMPLE_KEY, 1, {b"x": rlp.encode_bytes(b"1" * (room + 1))})

    @pytest.mark.parametrize("raw", ["c0", "c101", "c3010203", "c50102030405"])
    def test_an_incomplete_list_is_refused(self, raw: str) -> None:
        """go-ethereum, p2p/enr/enr_test.go, TestDecodeIncomplete."""
        with pytest.raises(MalformedMessage, match="without a sequence number or with a key that has no value"):
            decode_record(bytes.fromhex(raw))

    @pytest.mark.parametrize("raw", ["c20102", "c401020304"])
    def test_a_complete_list_without_an_identity_is_refused(self, raw: str) -> None:
        """The same test accepts these, but there the signature is looked at later."""
        with pytest.raises(MalformedMessage, match="another identity scheme"):
            decode_record(bytes.fromhex(raw))

    @pytest.mark.parametrize(
        ("pairs", "complaint"),
        [
            (identified()[2:] + identified()[:2], "do not ascend"),
            (identified(b"a", b"1", b"a", b"2"), "do not ascend"),
            (identified(b"a", b"1", b"a", b"1"), "do not ascend"),
            ([b"id", b"v5", b"secp256k1", POINT], "another identity scheme"),
            ([b"secp256k1", POINT], "another identity scheme"),
            ([b"id", [b"v4"], b"secp256k1", POINT], "found a list"),
            ([b"id", b"v4"], "of 0 bytes instead of 33"),
            ([b"id", b"v4", b"secp256k1", POINT[:-1]], "of 32 bytes instead of 33"),
            (
                [b"id", b"v4", b"secp256k1", UNCOMPRESSED],
                "of 65 bytes instead of 33",
            ),
            ([b"id", b"v4", b"secp256k1", b"\2" + bytes(32)], "not a point"),
            ([b"id", b"v4", b"secp256k1", GETH_KEY.public_key.format()], "wrong signature"),
            ([[b"id"], b"v4"], "found a list"),
        ],
    )
    def test_a_record_of_another_form_is_refused_though_it_is_signed(self, pairs: list[Any], complaint: str) -> None:
        with pytest.raises(MalformedMessage, match=complaint):
            decode_record(signed(pairs))

    @pytest.mark.parametrize("seq", [b"\0", b"\0\1", b"\1" + bytes(8), [], [b"\1"]])
    def test_a_sequence_number_that_is_none_of_64_bits_is_refused(self, seq: Any) -> None:
        with pytest.raises(MalformedMessage):
            decode_record(signed(identified(), seq))

    @pytest.mark.parametrize("signature", [b"", b"foobar", bytes(64), bytes(65), []])
    def test_a_signature_that_is_none_is_refused(self, signature: Any) -> None:
        with pytest.raises(MalformedMessage):
            decode_record(oracle.encode([signature, b"\1", *identified()]))

    def test_the_other_signature_that_is_as_valid_is_refused(self) -> None:
        order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141  # SEC 2, section 2.4.1
        fields: list[Any] = oracle.decode(EXAMPLE_RAW)
        signature = fields[0]
        fields[0] = signature[:32] + (order - int.from_bytes(signature[32:], "big")).to_bytes(32, "big")

        with pytest.raises(MalformedMessage, match="wrong signature"):
            decode_record(oracle.encode(fields))

    @pytest.mark.parametrize("seq", [-1, 2**64])
    def test_we_sign_no_sequence_number_that_others_could_not_read(self, seq: int) -> None:
        with pytest.raises(LocalProtocolError, match="not one of 64 bits"):
            sign_record(EXAMPLE_KEY, seq, {})
        assert decode_record(sign_record(EXAMPLE_KEY, 2**64 - 1, {}).raw).seq == 2**64 - 1


class TestText:
    def test_space_around_the_text_does_no_harm(self) -> None:
        assert parse_record(f"  {EXAMPLE}\n").node_id.hex() == EXAMPLE_ID

    @pytest.mark.parametrize(
        ("text", "complaint"),
        [
            ("", "'' does not begin with enr:"),
            (EXAMPLE[4:], "does not begin with enr:"),
            ("ENR:" + EXAMPLE[4:], "does not begin with enr:"),
            ("enr:", "RLP ends where an item should begin"),  # go-ethereum, p2p/enode/urlv4_test.go
            ("enr:x", "not base64url"),  # the same
            ("enr://" + EXAMPLE[4:], "not base64url"),
            (EXAMPLE[:-1], "not a node record"),
            (EXAMPLE + "=", "not base64url"),
            (EXAMPLE.replace("_", "/"), "not base64url"),
            (EXAMPLE.replace("-", "+"), "not base64url"),
            (EXAMPLE[:50] + "\n" + EXAMPLE[50:], "not base64url"),
            (EXAMPLE[:50] + "é" + EXAMPLE[51:], "not base64url"),
            (EXAMPLE[:20] + "A" + EXAMPLE[21:], "the signature is wrong"),
        ],
    )
    def test_a_text_that_is_no_record_is_explained(self, text: str, complaint: str) -> None:
        with pytest.raises(ConfigError, match=complaint) as caught:
            parse_record(text)
        assert caught.value.hint == "write enr: followed by the record in base64url"

    def test_a_long_text_is_not_repeated_in_full(self) -> None:
        with pytest.raises(ConfigError) as caught:
            parse_record("x" * 10_000)
        assert len(str(caught.value)) < 200

    @pytest.mark.parametrize(
        ("text", "data"),
        [("", b""), ("Zg", b"f"), ("Zm8", b"fo"), ("Zm9v", b"foo"), ("Zm9vYmFy", b"foobar"), ("_-A", b"\xff\xe0")],
    )
    def test_base64url_is_read_without_padding(self, text: str, data: bytes) -> None:
        """RFC 4648, section 10, without the padding; and the two characters of section 5."""
        assert decode_base64url(text) == data


def test_a_record_is_its_bytes() -> None:
    record: NodeRecord = parse_record(EXAMPLE)

    assert record == decode_record(bytearray(EXAMPLE_RAW)) == decode_record(memoryview(EXAMPLE_RAW))
    assert {record: 1}[decode_record(EXAMPLE_RAW)] == 1
