"""Node keys: points, ids and signatures, and what is refused of each."""

from __future__ import annotations

import coincurve
import pytest

from ethsync.errors import MalformedMessage
from ethsync.hashing import keccak256
from ethsync.wire import keys

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141  # SEC 2, section 2.4.1
FIELD = 2**256 - 2**32 - 977  # the same

# EIP-778, "Test Vectors"
KEY = coincurve.PrivateKey(bytes.fromhex("b71c71a67e1177ad4e901695e1b4b9ee17ae16c6668d313eac2f96dbcda3f291"))
COMPRESSED = bytes.fromhex("03ca634cae0d49acb401d8a4c6b6fe8c55b70d115bf400769cc1400f3258cd3138")
NODE_ID = "a448f24c6d18e575453db13171562b71999873db5b286df957af199ec94617f7"

# go-ethereum, crypto/signature_test.go
DIGEST = bytes.fromhex("ce0677bb30baa8cf067c88db9811f4333d131bf8bcf12fe7065d211dce971008")
SIGNATURE = bytes.fromhex(
    "90f27b8b488db00b00606796d2987f6a5f59ae62ea05effe84fef5b8b0e54998"
    "4a691139ad57a3f0b906637673aa2f63d1f55cb1a69199d4009eea23ceaddc9301"
)
SIGNER = bytes.fromhex(
    "e32df42865e97135acfb65f3bae71bdc86f4d49150ad6a440b6f15878109880a"
    "0a2b2667f7e725ceea70c673093bf67663e0312623c8e091b13cf2c0f11ef652"
)

ONE = b"\x02" + (1).to_bytes(32)  # the point with x = 1 and an even y, compressed
UNREDUCED = (FIELD + 1).to_bytes(32) + coincurve.PublicKey(ONE).format(compressed=False)[33:]


def high_s(signature: bytes) -> bytes:
    """The other signature that is as valid: with n - s, and the recovery id turned over if there is one."""
    s = ORDER - int.from_bytes(signature[32:64], "big")
    return signature[:32] + s.to_bytes(32, "big") + bytes(v ^ 1 for v in signature[64:])


class TestPoints:
    def test_both_forms_of_a_point_are_one_key_with_one_id(self) -> None:
        identity = keys.identity(keys.decompress(COMPRESSED))

        assert identity == keys.identity(KEY.public_key)
        assert keys.public_key(identity).format() == COMPRESSED
        assert keys.node_id(identity).hex() == NODE_ID

    @pytest.mark.parametrize("length", [0, 1, 32, 33, 63, 65, 128])
    def test_a_key_of_another_length_than_64_is_refused(self, length: int) -> None:
        with pytest.raises(MalformedMessage, match=f"of {length} bytes instead of 64"):
            keys.public_key(bytes(length))

    @pytest.mark.parametrize("length", [0, 1, 32, 34, 64, 65])
    def test_a_compressed_key_of_another_length_than_33_is_refused(self, length: int) -> None:
        with pytest.raises(MalformedMessage, match=f"of {length} bytes instead of 33"):
            keys.decompress(COMPRESSED[:1] * length)

    @pytest.mark.parametrize(
        "identity",
        [bytes(64), b"\xff" * 64, SIGNER[:-1] + b"\x53", SIGNER[32:] + SIGNER[:32], UNREDUCED],
        ids=["infinity", "beyond the field", "one bit changed", "coordinates swapped", "not reduced"],
    )
    def test_a_point_that_is_not_on_the_curve_is_refused(self, identity: bytes) -> None:
        with pytest.raises(MalformedMessage, match="not a point"):
            keys.public_key(identity)

    @pytest.mark.parametrize(
        "point",
        # No point of the curve has x = 0 or x = 5; the prefix says that y is even (02) or odd (03), nothing else.
        [bytes(33), b"\x02" + bytes(32), b"\x02" + (5).to_bytes(32), b"\x04" + COMPRESSED[1:], b"\x02" + b"\xff" * 32],
        ids=["all zero", "x of no point", "x of no point either", "another prefix", "beyond the field"],
    )
    def test_a_compressed_point_that_is_none_is_refused(self, point: bytes) -> None:
        with pytest.raises(MalformedMessage, match="not a point"):
            keys.decompress(point)


class TestSignatures:
    def test_gos_signature_belongs_to_gos_key(self) -> None:
        assert keys.is_signed_by(keys.public_key(SIGNER), DIGEST, SIGNATURE[:64])
        assert keys.identity(keys.recover(DIGEST, SIGNATURE)) == SIGNER

    def test_our_signature_is_ours_and_nobody_elses(self) -> None:
        digest = keccak256(b"a message")
        signature = keys.sign(KEY, digest)

        assert len(signature) == 64
        assert keys.is_signed_by(KEY.public_key, digest, signature)
        assert not keys.is_signed_by(keys.public_key(SIGNER), digest, signature)
        assert not keys.is_signed_by(KEY.public_key, keccak256(b"another"), signature)

    def test_signing_is_deterministic_with_a_low_s(self) -> None:
        """RFC 6979 and EIP-2: so a record has one form."""
        for number in range(20):
            digest = keccak256(bytes([number]))
            signature = keys.sign(KEY, digest)
            assert signature == keys.sign(KEY, digest)
            assert int.from_bytes(signature[32:], "big") <= ORDER // 2

    def test_a_high_s_is_refused_where_the_key_is_known(self) -> None:
        """As in go-ethereum (crypto, VerifySignature); otherwise anybody could make a second form of a record."""
        assert not keys.is_signed_by(keys.public_key(SIGNER), DIGEST, high_s(SIGNATURE)[:64])

    def test_a_high_s_recovers_the_same_key(self) -> None:
        """As in go-ethereum (crypto, Ecrecover), where packets are concerned, which have no second life."""
        assert keys.identity(keys.recover(DIGEST, high_s(SIGNATURE))) == SIGNER

    @pytest.mark.parametrize("length", [0, 1, 32, 63, 65])
    def test_a_signature_of_another_length_than_64_is_none(self, length: int) -> None:
        assert not keys.is_signed_by(keys.public_key(SIGNER), DIGEST, SIGNATURE[:length])

    @pytest.mark.parametrize(
        "signature",
        [bytes(64), b"\xff" * 64, ORDER.to_bytes(32) + SIGNATURE[32:64], SIGNATURE[:32] + bytes(32)],
        ids=["zero", "beyond the order", "r not reduced", "s is zero"],
    )
    def test_numbers_out_of_range_are_no_signature(self, signature: bytes) -> None:
        assert not keys.is_signed_by(keys.public_key(SIGNER), DIGEST, signature)
        with pytest.raises(MalformedMessage, match="belongs to no key"):
            keys.recover(DIGEST, signature + b"\0")

    @pytest.mark.parametrize("signature", [b"", SIGNATURE[:64], SIGNATURE + b"\0", SIGNATURE[:64] + b"\x04"])
    def test_a_wrong_length_or_recovery_id_is_refused(self, signature: bytes) -> None:
        with pytest.raises(MalformedMessage, match="wrong length or recovery id"):
            keys.recover(DIGEST, signature)

    def test_another_recovery_id_gives_another_key_or_none(self) -> None:
        assert keys.identity(keys.recover(DIGEST, SIGNATURE[:64] + b"\0")) != SIGNER
        for recovery_id in (2, 3):  # r + n would have to be under the field's prime, which is so for one in 2**128
            with pytest.raises(MalformedMessage, match="belongs to no key"):
                keys.recover(DIGEST, SIGNATURE[:64] + bytes([recovery_id]))
