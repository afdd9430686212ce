"""Tokens of the Engine API and the file with their secret."""

from __future__ import annotations

import json
import stat
from base64 import urlsafe_b64decode, urlsafe_b64encode
from pathlib import Path
from typing import Any

import pytest

from ethsync.errors import ConfigError
from ethsync.heads.jwt import LEEWAY, NotAuthorized, check_authorization, load_secret, make_token

SECRET = bytes(range(32))
NOW = 1_700_000_000


def encoded(content: bytes) -> str:
    return urlsafe_b64encode(content).rstrip(b"=").decode()


def bearer(**claims: Any) -> str:
    return f"Bearer {make_token(SECRET, json.dumps(claims).encode())}"


def test_the_example_of_the_rfc_has_the_right_signature() -> None:
    # RFC 7515, appendix A.1: header, claims and key as they stand there, line ends included.
    header = b'{"typ":"JWT",\r\n "alg":"HS256"}'
    claims = b'{"iss":"joe",\r\n "exp":1300819380,\r\n "http://example.com/is_root":true}'
    text = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"
    key = urlsafe_b64decode(text + "==")
    token = f"{encoded(header)}.{encoded(claims)}.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
    # Then the token is genuine: all that is wrong is that it has no time of issue.
    with pytest.raises(NotAuthorized, match="issued"):
        check_authorization(f"Bearer {token}", key, 1300819379)
    with pytest.raises(NotAuthorized, match="signature"):
        check_authorization(f"Bearer {token[:-1]}A", key, 1300819379)


@pytest.mark.parametrize("off", [-LEEWAY, 0, 0.5, LEEWAY - 1])
def test_a_token_issued_within_a_minute_is_good(off: float) -> None:
    check_authorization(bearer(iat=NOW + off), SECRET, NOW)


def test_unknown_claims_are_ignored_and_the_scheme_has_no_case() -> None:
    check_authorization(bearer(iat=NOW, id="me", clv="x/1", other=[1]).replace("Bearer", "bearer"), SECRET, NOW)


@pytest.mark.parametrize(
    "claims",
    [
        {},
        {"iat": None},
        {"iat": str(NOW)},
        {"iat": True},
        {"iat": NOW - LEEWAY - 1},
        {"iat": NOW + LEEWAY + 1},
        {"iat": 1e400},
        {"iat": 10**400},
        {"iat": NOW, "exp": NOW - 1},
        {"iat": NOW, "exp": "never"},
    ],
)
def test_a_token_of_another_time_is_refused(claims: dict[str, Any]) -> None:
    text = json.dumps(claims).replace("Infinity", "1e400")
    with pytest.raises(NotAuthorized):
        check_authorization(f"Bearer {make_token(SECRET, text.encode())}", SECRET, NOW)


def test_a_token_made_with_another_secret_is_refused() -> None:
    with pytest.raises(NotAuthorized, match="signature"):
        check_authorization(bearer(iat=NOW), bytes(32), NOW)


@pytest.mark.parametrize("algorithm", ["none", "None", "HS512", "RS256", "hs256", None, ["HS256"]])
def test_only_hs256_is_taken(algorithm: Any) -> None:
    # Given a token that names another algorithm, also one that is signed rightly all the same
    good = make_token(SECRET, json.dumps({"iat": NOW}).encode()).split(".")
    forged = encoded(json.dumps({"alg": algorithm}).encode())
    for signature in ("", good[2]):
        with pytest.raises(NotAuthorized, match="HS256"):
            check_authorization(f"Bearer {forged}.{good[1]}.{signature}", SECRET, NOW)


@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Bearer ", "Basic abc", "Bearer a.b", "Bearer a.b.c.d", "Bearer é.b.c",
     "Bearer eyJhbGciOiJIUzI1NiJ9.é.c", "Bearer " + "a" * 9999,
     "Bearer " + encoded(b"[]") + ".e30.e30", "Bearer ..", "Bearer !.!.!"],
)  # fmt: skip
def test_what_is_no_token_is_refused(header: str | None) -> None:
    with pytest.raises(NotAuthorized):
        check_authorization(header, SECRET, NOW)


def test_a_signature_has_one_spelling() -> None:
    # Given a signature whose last character has bits that mean nothing
    token = bearer(iat=NOW)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    other = alphabet[alphabet.index(token[-1]) ^ 1]
    with pytest.raises(NotAuthorized):
        check_authorization(token[:-1] + other, SECRET, NOW)


def test_a_missing_secret_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "jwt.hex"
    secret = load_secret(path)
    assert len(secret) == 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    # And the next start, and the consensus client, read the same.
    assert load_secret(path) == secret
    assert bytes.fromhex(path.read_text().strip().removeprefix("0x")) == secret
    assert load_secret(tmp_path / "other.hex") != secret


@pytest.mark.parametrize("text", [SECRET.hex(), f"0x{SECRET.hex()}\n", f"  {SECRET.hex().upper()} \r\n"])
def test_a_secret_is_read_as_other_clients_write_it(tmp_path: Path, text: str) -> None:
    path = tmp_path / "secret"
    path.write_text(text)
    assert load_secret(path) == SECRET


@pytest.mark.parametrize(
    "content", [b"", b"0x", b"ab" * 31, b"ab" * 33, b"zz" * 32, b"\xff" * 64, b"a b" * 22, b"a" * 9999]
)
def test_a_file_with_something_else_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "secret"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="64 hexadecimal digits"):
        load_secret(path)
    assert path.read_bytes() == content


def test_a_place_that_cannot_be_read_or_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_secret(tmp_path)
    with pytest.raises(ConfigError, match="cannot be written"):
        load_secret(tmp_path / "missing" / "jwt.hex")
