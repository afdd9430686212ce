"""`ethsync enr`: records taken apart and made."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import coincurve
import pytest
import rlp as oracle

from ethsync.hashing import keccak256
from ethsync.networks import load_network
from ethsync.wire import keys
from ethsync.wire.enr import decode_record, parse_record, sign_record
from ethsync.wire.forkid import ForkId
from tests.unit.commands.running import Run

DATA = Path(__file__).parents[3] / "data"

# devp2p, enr.md, "Test Vectors"
EXAMPLE_KEY = "b71c71a67e1177ad4e901695e1b4b9ee17ae16c6668d313eac2f96dbcda3f291"
EXAMPLE = (
    "enr:-IS4QHCYrYZbAKWCBRlAy5zzaDZXJBGkcnh4MHcBFZntXNFrdvJjX04jRzjzCBOonrkTfj499SZuOh8R33Ls8RRcy5wBgmlkgnY0gmlwhH8AAAG"
    "Jc2VjcDI1NmsxoQPKY0yuDUmstAHYpMa2_oxVtw0RW_QAdpzBQA8yWM0xOIN1ZHCCdl8"
)
POINT = "0x03ca634cae0d49acb401d8a4c6b6fe8c55b70d115bf400769cc1400f3258cd3138"
FORGED = EXAMPLE[:20] + "A" + EXAMPLE[21:]
KEY = coincurve.PrivateKey(bytes.fromhex(EXAMPLE_KEY))


@pytest.fixture
def key_file(tmp_path: Path) -> str:
    path = tmp_path / "key"
    path.touch(mode=0o600)
    path.write_text(EXAMPLE_KEY)
    return str(path)


def signed(**entries: Any) -> str:
    return str(sign_record(KEY, 1, {name.encode(): oracle.encode(value) for name, value in entries.items()}))


def rows_of(text: str) -> dict[str, str]:
    """What stands after the names at the start of lines."""
    return {line[:12].strip(): line[12:].strip() for line in text.splitlines()}


class TestDecode:
    def test_all_that_the_example_of_the_specification_says(self, run: Run) -> None:
        code, out, _ = run("enr", "decode", EXAMPLE, "--json")

        assert code == 0
        assert json.loads(out) == {
            "record": EXAMPLE,
            "signature": "valid",
            "node_id": "a448f24c6d18e575453db13171562b71999873db5b286df957af199ec94617f7",
            "public_key": keys.identity(KEY.public_key).hex(),
            "seq": 1,
            "size": 134,
            "enode": None,
            "chain": None,
            "next_fork": None,
            "entries": {"id": "v4", "ip": "127.0.0.1", "secp256k1": POINT, "udp": 30303},
        }

    def test_the_same_for_people(self, run: Run) -> None:
        code, out, _ = run("enr", "decode", f" {EXAMPLE}\n")

        assert code == 0
        rows = rows_of(out)
        assert rows["signature"] == "valid"
        assert rows["node id"] == "a448f24c6d18e575453db13171562b71999873db5b286df957af199ec94617f7"
        assert rows["chain"] == "none: it has no eth entry"
        assert rows["enode"] == "none: it has no address with a TCP port"
        assert (rows["ip"], rows["udp"], rows["secp256k1"]) == ("127.0.0.1", "30303", POINT)

    def test_a_wrong_signature_is_shown_as_such_and_is_a_failure(self, run: Run) -> None:
        code, out, _ = run("enr", "decode", FORGED)

        assert code == 1
        assert rows_of(out)["signature"] == "wrong"
        assert rows_of(out)["ip"] == "127.0.0.1"

    @pytest.mark.parametrize(
        ("fork_hash", "following", "chain"),
        [
            ("07c9462e", 0, "mainnet, after BPO2"),
            ("07c9462e", 1800000000, "mainnet, after BPO2; next fork at 1800000000 (2027-01-15 08:00:00 UTC)"),
            ("fc64ec04", 1150000, "mainnet, at genesis; next fork at block 1150000"),
            ("6c1d9423", 0, "sepolia, after Amsterdam"),
            ("deadbeef", 0, "none that is built in"),
            ("07c9462e", 2**64 - 1, "mainnet, after BPO2; next fork at 18446744073709551615"),
        ],
    )
    def test_the_fork_id_is_named(self, run: Run, fork_hash: str, following: int, chain: str) -> None:
        record = signed(eth=[[bytes.fromhex(fork_hash), following]])

        _, out, _ = run("enr", "decode", record)
        _, as_json, _ = run("enr", "decode", record, "--json")

        assert rows_of(out)["chain"] == chain
        assert json.loads(as_json)["entries"]["eth"] == {"fork_hash": fork_hash, "fork_next": following}
        assert json.loads(as_json)["next_fork"] == following

    def test_the_enode_url_of_a_node_that_can_be_dialled(self, run: Run) -> None:
        _, out, _ = run("enr", "decode", signed(ip=b"\1\2\3\4", tcp=30303, udp=30301), "--json")

        assert json.loads(out)["enode"] == (
            f"enode://{keys.identity(KEY.public_key).hex()}@1.2.3.4:30303?discport=30301"
        )

    @pytest.mark.parametrize(
        ("entry", "value", "shown"),
        [
            ("ip6", bytes(15) + b"\1", "::1"),
            ("tcp6", 9001, 9001),
            ("client", [b"Nethermind", b"1.2", b"c0ffee"], ["Nethermind", "1.2", "c0ffee"]),  # EIP-7636
            ("eth2", bytes.fromhex("bba4da9603000000ffffffffffffffff"),
             {"fork_digest": "bba4da96", "next_fork_version": "03000000", "next_fork_epoch": None}),
            ("eth2", bytes.fromhex("bba4da96030000000100000000000000"),
             {"fork_digest": "bba4da96", "next_fork_version": "03000000", "next_fork_epoch": 1}),
            ("quic", 9001, 9001),
            ("cgc", 128, 128),
            ("attnets", bytes(8), "0x0000000000000000"),
            ("snap", [], []),
            ("les", [b"\1", [b"\2"]], ["0x01", ["0x02"]]),
            ("x\x1b[31m", b"\1", "0x01"),
        ],
    )  # fmt: skip
    def test_known_entries_are_decoded_and_others_shown(self, run: Run, entry: str, value: Any, shown: Any) -> None:
        _, out, _ = run("enr", "decode", signed(**{entry: value}), "--json")

        name = entry if entry.isprintable() else f"0x{entry.encode().hex()}"
        assert json.loads(out)["entries"][name] == shown

    @pytest.mark.parametrize(
        ("entry", "value", "shown"),
        [
            ("ip", b"abc", "0x616263"),
            ("tcp", b"\1\2\3", "0x010203"),
            ("eth", [], []),
            ("eth", b"", "0x"),
            ("eth2", b"short", "0x73686f7274"),
            ("client", [b"\x1b[31m"], ["0x1b5b33316d"]),
            ("client", b"Geth", "0x47657468"),
        ],
    )
    def test_entries_of_another_form_are_shown_in_hexadecimal(
        self, run: Run, entry: str, value: Any, shown: Any
    ) -> None:
        """Nothing that a stranger writes reaches the terminal as it is."""
        code, out, _ = run("enr", "decode", signed(**{entry: value}), "--json")

        assert code == 0
        assert json.loads(out)["entries"][entry] == shown

    def test_an_entry_that_is_not_even_rlp_is_shown_as_it_is(self, run: Run) -> None:
        """The items of an inner list are nobody's business but their reader's."""
        content = b"\1" + b"".join(
            map(oracle.encode, [b"id", b"v4", b"secp256k1", KEY.public_key.format(), b"zz"])
        ) + bytes.fromhex("c281ff")  # fmt: skip
        listed = oracle.codec.length_prefix(len(content), 0xC0) + content
        signature = oracle.encode(keys.sign(KEY, keccak256(listed)))
        raw = oracle.codec.length_prefix(len(signature + content), 0xC0) + signature + content

        code, out, _ = run("enr", "decode", str(decode_record(raw)), "--json")

        assert code == 0
        assert json.loads(out)["entries"]["zz"] == ["0xff"]

    def test_every_record_of_a_file_is_shown(self, run: Run) -> None:
        """Whatever the file's form: here TOML with comments."""
        code, out, _ = run("enr", "decode", str(DATA / "discv5.toml"), "--json")

        facts = [json.loads(line) for line in out.splitlines()]
        assert code == 0
        assert [fact["record"] for fact in facts] == list(load_network("mainnet").v5_boot_nodes)
        assert all(fact["entries"]["eth2"]["fork_digest"] for fact in facts)

    def test_of_several_the_broken_ones_are_named_and_the_others_shown(self, run: Run, tmp_path: Path) -> None:
        path = tmp_path / "records"
        path.write_text(f"- {EXAMPLE}\n- enr:nonsense\n- {FORGED}\n")

        code, out, _ = run("enr", "decode", str(path), "--json")
        _, text, _ = run("enr", "decode", str(path))

        assert code == 1
        first, second, third = [json.loads(line) for line in out.splitlines()]
        assert (first["signature"], third["signature"]) == ("valid", "wrong")
        assert "not a node record" in second["error"]
        assert "malformed    not a node record: 'enr:nonsense'" in text

    def test_standard_input_is_read(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "stdin", io.StringIO(f"{EXAMPLE}\n"))

        code, out, _ = run("enr", "decode", "-", "--json")

        assert code == 0
        assert json.loads(out)["record"] == EXAMPLE

    def test_what_is_no_record_is_wrong_usage(self, run: Run, tmp_path: Path) -> None:
        (tmp_path / "empty").touch()

        for source, complaint in [
            ("enr:nonsense", "not a node record"),
            (str(tmp_path / "empty"), "holds no node record"),
            (str(tmp_path / "none"), "is no node record and cannot be read: No such file or directory"),
        ]:
            code, out, err = run("enr", "decode", source)
            assert (code, out) == (2, "")
            assert complaint in err


class TestSign:
    def test_the_example_of_the_specification_is_made_again(self, run: Run, key_file: str) -> None:
        code, out, _ = run("enr", "sign", "--key", key_file, "--ip", "127.0.0.1", "--udp", "30303", "--seq", "1")

        assert (code, out) == (0, f"{EXAMPLE}\n")

    def test_every_option_stands_in_the_record(self, run: Run, key_file: str) -> None:
        ports = ["--tcp", "1", "--udp", "2", "--tcp6", "3", "--udp6", "4"]
        code, out, _ = run(
            "enr", "sign", "--key", key_file, "--ip", "1.2.3.4", "--ip6", "2a02::1", *ports,
            "--set", "snap=rlp:c0", "--set", "foo=0xdeadbeef",
        )  # fmt: skip

        record = parse_record(out)
        assert code == 0
        assert (str(record.ip), str(record.ip6)) == ("1.2.3.4", "2a02::1")
        assert (record.tcp, record.udp, record.tcp6, record.udp6) == (1, 2, 3, 4)
        assert record.serves_snap
        assert record.value(b"foo") == oracle.encode(b"\xde\xad\xbe\xef")

    def test_the_number_is_the_time_in_milliseconds(
        self, run: Run, key_file: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("time.time", lambda: 1790000000.25)

        assert parse_record(run("enr", "sign", "--key", key_file)[1]).seq == 1790000000250

    def test_a_network_gives_its_present_fork(self, run: Run, key_file: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("time.time", lambda: 1790000000.0)

        _, out, _ = run("enr", "sign", "--key", key_file, "--network", "sepolia")

        assert parse_record(out).fork_id == ForkId(bytes.fromhex("268956b6"), 1791294816)

    def test_a_fork_may_be_elsewhere(self, run: Run, key_file: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("time.time", lambda: 1790000000.0)
        moved = ("--override-fork", "Amsterdam=1790000001")

        _, out, _ = run("enr", "sign", "--key", key_file, "--network", "sepolia", *moved)
        assert parse_record(out).fork_id == ForkId(bytes.fromhex("268956b6"), 1790000001)

        code, _, err = run("enr", "sign", "--key", key_file, *moved)
        assert (code, "--override-fork needs the chain whose fork it is (add --network NAME)" in err) == (2, True)

    @pytest.mark.parametrize(
        ("options", "complaint"),
        [
            (["--ip", "1.2.3"], "'1.2.3' is not an IPv4 address"),
            (["--ip", "::1"], "'::1' is not an IPv4 address"),
            (["--ip6", "1.2.3.4"], "'1.2.3.4' is not an IPv6 address"),
            (["--set", "foo"], "'foo' is not a key with a value"),
            (["--set", "=00"], "'=00' is not a key with a value"),
            (["--set", "foo=xyz"], "'foo=xyz' has no value that can be put into a record"),
            (["--set", "foo=rlp:c1"], "'foo=rlp:c1' has no value that can be put into a record"),
            (["--set", "foo=rlp:0102"], "has no value that can be put into a record"),
            (["--set", "id=7635"], "'id' follows from the key that signs"),
            (["--set", "foo=" + "00" * 300], "more than 300 (leave something out)"),
            (["--network", "mainet"], "neither a built-in network nor a file"),
            (["--tcp", "65536"], "65536 is not in the range"),
            (["--seq", str(2**64)], "is not in the range"),
        ],
    )
    def test_what_cannot_be_is_wrong_usage(self, run: Run, key_file: str, options: list[str], complaint: str) -> None:
        code, out, err = run("enr", "sign", "--key", key_file, *options)

        assert (code, out) == (2, "")
        assert complaint in " ".join(err.split())

    def test_a_key_that_cannot_be_used_is_explained(self, run: Run, tmp_path: Path, key_file: str) -> None:
        code, _, err = run("enr", "sign", "--key", str(tmp_path / "none"))
        assert code == 2
        assert "none cannot be read: No such file or directory" in err

        Path(key_file).write_text("no key")
        code, _, err = run("enr", "sign", "--key", key_file)
        assert (code, f"{key_file} holds no private key (it should be 64 hex" in err) == (2, True)
        Path(key_file).chmod(0o644)
        code, _, err = run("enr", "sign", "--key", key_file)
        assert code == 2
        assert f"(chmod 600 {key_file})" in err
