"""Who we are across restarts: the key's file and its protection, and what is remembered of our record."""

from __future__ import annotations

import json
import os
import re
import stat
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import coincurve
import pytest

from ethsync.discovery.identity import IDENTITY_FILE, KEY_FILE, open_identity, read_node_key, save_identity
from ethsync.discovery.node import Endpoint
from ethsync.errors import ConfigError, DatadirDamaged, StoreError
from ethsync.wire.enr import sign_record

# EIP-778
DIGITS = "b71c71a67e1177ad4e901695e1b4b9ee17ae16c6668d313eac2f96dbcda3f291"
POINT = "03ca634cae0d49acb401d8a4c6b6fe8c55b70d115bf400769cc1400f3258cd3138"
ORDER = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141"  # SEC 2, section 2.4.1


def put_key(directory: Path, text: str = DIGITS, mode: int = 0o600) -> Path:
    path = directory / KEY_FILE
    path.write_text(text)
    path.chmod(mode)
    return path


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


class TestKey:
    def test_it_is_made_once_and_read_back(self, tmp_path: Path) -> None:
        first, second = open_identity(tmp_path), open_identity(tmp_path)

        assert first.key.secret == second.key.secret
        assert (first.record, first.seen) == (None, ())
        assert [path.name for path in tmp_path.iterdir()] == [KEY_FILE]

    @pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
    def test_its_file_is_for_its_owner_alone_whatever_the_umask(self, tmp_path: Path, umask: int) -> None:
        before = os.umask(umask)
        try:
            open_identity(tmp_path)
        finally:
            os.umask(before)

        assert mode_of(tmp_path / KEY_FILE) == 0o600

    def test_its_file_has_the_form_that_geth_reads(self, tmp_path: Path) -> None:
        key = open_identity(tmp_path).key

        assert (tmp_path / KEY_FILE).read_text() == key.secret.hex()
        assert re.fullmatch("[0-9a-f]{64}", (tmp_path / KEY_FILE).read_text())

    def test_every_directory_gets_another(self, tmp_path: Path) -> None:
        (tmp_path / "a").mkdir()
        (tmp_path / "b").mkdir()

        assert open_identity(tmp_path / "a").key.secret != open_identity(tmp_path / "b").key.secret

    @pytest.mark.parametrize("text", [DIGITS, DIGITS + "\n", f" {DIGITS.upper()}\r\n"])
    def test_one_that_was_brought_along_is_used(self, tmp_path: Path, text: str) -> None:
        put_key(tmp_path, text)

        assert open_identity(tmp_path).key.public_key.format().hex() == POINT
        assert (tmp_path / KEY_FILE).read_bytes() == text.encode()

    def test_many_that_start_at_once_are_one_node(self, tmp_path: Path) -> None:
        with ThreadPoolExecutor(8) as threads:
            secrets = set(threads.map(lambda _: open_identity(tmp_path).key.secret, range(32)))

        assert len(secrets) == 1
        assert [path.name for path in tmp_path.iterdir()] == [KEY_FILE]

    def test_a_kill_before_it_is_whole_leaves_none(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Given a process that dies while it writes: the name appears only when the bytes are on the disk."""
        made: list[bytes] = []
        link = os.link

        def watched(source: Path, target: Path) -> None:
            made.append(Path(source).read_bytes())
            assert not (tmp_path / KEY_FILE).exists()
            link(source, target)

        monkeypatch.setattr(os, "link", watched)
        key = open_identity(tmp_path).key

        assert made == [key.secret.hex().encode()]

    def test_a_full_disk_leaves_nothing_behind(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(_: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", refuse)
        with pytest.raises(StoreError, match="No space left on device"):
            open_identity(tmp_path)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o610, 0o602, 0o777])
    def test_one_that_others_may_use_is_refused_with_what_to_do(self, tmp_path: Path, mode: int) -> None:
        path = put_key(tmp_path, mode=mode)

        with pytest.raises(ConfigError) as caught:
            open_identity(tmp_path)
        assert str(caught.value) == f"{path} may be used by others (mode {mode:04o}) (chmod 600 {path})"

    @pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
    def test_one_for_its_owner_alone_is_taken(self, tmp_path: Path, mode: int) -> None:
        put_key(tmp_path, mode=mode)

        assert open_identity(tmp_path).key.secret.hex() == DIGITS

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "\n",
            DIGITS[:-1],
            DIGITS + "0",
            DIGITS[:-1] + "g",
            "0x" + DIGITS[2:],
            DIGITS[:30] + "  " + DIGITS[32:],
            DIGITS[:32] + "  " + DIGITS[32:],
            "0" * 64,
            ORDER,
            "ff" * 32,
            "é" * 32,
        ],
    )
    def test_a_damaged_one_is_refused_and_left_as_it_is(self, tmp_path: Path, text: str) -> None:
        path = put_key(tmp_path, text)

        with pytest.raises(DatadirDamaged, match=r"is not a private key in 64 hexadecimal digits .*remove it to"):
            open_identity(tmp_path)
        assert path.read_text() == text

    def test_a_directory_that_is_missing_is_an_error_that_says_so(self, tmp_path: Path) -> None:
        with pytest.raises(StoreError, match=r"none.* cannot be used: No such file or directory"):
            open_identity(tmp_path / "none")

    def test_a_file_of_another_name_can_be_read_alone(self, tmp_path: Path) -> None:
        path = put_key(tmp_path).rename(tmp_path / "my-key")

        assert read_node_key(path).secret.hex() == DIGITS


class TestMemory:
    SEEN = (Endpoint(IPv4Address("89.12.3.4"), 30303), Endpoint(IPv6Address("2a02:1::5"), 30304))

    def test_what_is_saved_is_there_at_the_next_start(self, tmp_path: Path) -> None:
        key = open_identity(tmp_path).key
        record = sign_record(key, 1234, {})
        save_identity(tmp_path, record, self.SEEN)

        found = open_identity(tmp_path)

        assert (found.key.secret, found.record, found.seen) == (key.secret, record, self.SEEN)
        assert {path.name for path in tmp_path.iterdir()} == {KEY_FILE, IDENTITY_FILE}

    def test_the_latest_counts(self, tmp_path: Path) -> None:
        key = open_identity(tmp_path).key
        for seq in (5, 6, 7):
            save_identity(tmp_path, sign_record(key, seq, {}))

        found = open_identity(tmp_path)

        assert found.record is not None
        assert (found.record.seq, found.seen) == (7, ())

    def test_a_record_of_another_key_is_not_ours(self, tmp_path: Path) -> None:
        """Given a key that was replaced."""
        save_identity(tmp_path, sign_record(coincurve.PrivateKey(), 5, {}), self.SEEN)

        assert open_identity(tmp_path).record is None

    @pytest.mark.parametrize(
        "text",
        [
            "", "[]", "5", "null", "{}", '{"record": 5, "seen": []}', '{"record": "enr:x", "seen": []}', "[" * 50_000,
            '{"seen": []}', "\xff\xfe", "{" * 100_000,
        ],
    )  # fmt: skip
    def test_a_damaged_memory_counts_as_none(self, tmp_path: Path, text: str) -> None:
        open_identity(tmp_path)
        (tmp_path / IDENTITY_FILE).write_bytes(text.encode("latin-1"))

        found = open_identity(tmp_path)

        assert (found.record, found.seen) == (None, ())

    @pytest.mark.parametrize("seen", [None, 5, ["here"], ["1.2.3.4"], ["1.2.3.4:x"], [5], [None]])
    def test_addresses_of_another_form_count_as_damaged(self, tmp_path: Path, seen: object) -> None:
        record = sign_record(open_identity(tmp_path).key, 5, {})
        (tmp_path / IDENTITY_FILE).write_text(json.dumps({"record": str(record), "seen": seen}))

        assert open_identity(tmp_path).record is None

    def test_a_write_that_fails_leaves_the_memory_as_it_was(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        key = open_identity(tmp_path).key
        save_identity(tmp_path, sign_record(key, 5, {}))

        def refuse(_: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", refuse)
        with pytest.raises(StoreError, match=f"{IDENTITY_FILE} cannot be written: No space left on device"):
            save_identity(tmp_path, sign_record(key, 6, {}))
        found = open_identity(tmp_path)
        assert found.record is not None
        assert found.record.seq == 5
        assert {path.name for path in tmp_path.iterdir()} == {KEY_FILE, IDENTITY_FILE}
