"""Reading JSON from strangers: the encodings of the Engine API and the Beacon API, each checked for form and size.

Sources: execution-apis `src/engine/common.md` ("Encoding": DATA, QUANTITY) and beacon-APIs `types/primitive.yaml`
(numbers are decimal strings). Everything raises `MalformedMessage` and nothing else.
"""

from __future__ import annotations

import json
import re
from binascii import unhexlify
from typing import TYPE_CHECKING, NoReturn, TypeAlias

from ethsync.errors import MalformedMessage

if TYPE_CHECKING:
    from collections.abc import Mapping

JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"

_QUANTITY = re.compile(r"0x(?:0|[1-9a-fA-F][0-9a-fA-F]*)", re.ASCII)
_DECIMAL = re.compile(r"0|[1-9][0-9]*", re.ASCII)
_SHOWN = 40  # characters of a wrong value that are repeated in an error


def parse_json(body: bytes) -> JsonValue:
    """Parse one JSON document in UTF-8. Numbers that JSON has not (NaN) are refused."""
    try:
        document: JsonValue = json.loads(body.decode("utf-8"), parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise MalformedMessage(f"not JSON: {error}") from error
    return document


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number in JSON")


def mapping(value: JsonValue, what: str) -> dict[str, JsonValue]:
    """A JSON object."""
    if not isinstance(value, dict):
        raise _wrong(value, what, "an object")
    return value


def items(value: JsonValue, what: str, most: int) -> list[JsonValue]:
    """A JSON array of at most `most` items."""
    if not isinstance(value, list):
        raise _wrong(value, what, "an array")
    if len(value) > most:
        raise MalformedMessage(f"{what} has {len(value)} items, more than {most}")
    return value


def member(value: JsonValue, *path: str) -> JsonValue:
    """What nested objects hold under these names. A member that is null is taken for missing."""
    for depth, name in enumerate(path):
        value = value.get(name) if isinstance(value, dict) else None
        if value is None:
            raise MalformedMessage(f"{'.'.join(path[: depth + 1])} is missing")
    return value


def data(value: JsonValue, what: str, width: int | None = None, most: int | None = None) -> bytes:
    """DATA: 0x and two hexadecimal digits for each byte; exactly `width` bytes, or at most `most`."""
    if not isinstance(value, str) or not value.startswith("0x"):
        raise _wrong(value, what, "0x and hexadecimal digits")
    try:
        found = unhexlify(value[2:])
    except ValueError:
        raise _wrong(value, what, "0x and hexadecimal digits") from None
    if width is not None and len(found) != width:
        raise MalformedMessage(f"{what} has {len(found)} bytes instead of {width}")
    if most is not None and len(found) > most:
        raise MalformedMessage(f"{what} has {len(found)} bytes, more than {most}")
    return found


def quantity(value: JsonValue, what: str, bits: int = 64) -> int:
    """QUANTITY: 0x and hexadecimal digits without leading zeros, below 2^bits."""
    if not isinstance(value, str) or len(value) > 2 + bits // 4 or not _QUANTITY.fullmatch(value):
        raise _wrong(value, what, f"0x and a number of {bits} bits without leading zeros")
    return int(value, 16)


def decimal(value: JsonValue, what: str, bits: int = 64) -> int:
    """A number of the Beacon API: a string of decimal digits, below 2^bits."""
    if not isinstance(value, str) or len(value) > bits // 3 or not _DECIMAL.fullmatch(value) or int(value) >> bits:
        raise _wrong(value, what, f"a string with a number of {bits} bits")
    return int(value)


def flag(value: JsonValue, what: str) -> bool:
    """true or false."""
    if not isinstance(value, bool):
        raise _wrong(value, what, "true or false")
    return value


def only(fields: Mapping[str, JsonValue], allowed: Mapping[str, object], what: str) -> None:
    """Check that an object has no members but these; members that are null count as missing (cancun.md)."""
    for name, value in fields.items():
        if name not in allowed and value is not None:
            raise MalformedMessage(f"{what} has a field {name[:_SHOWN]!r} that is not among its fields")


def _wrong(value: JsonValue, what: str, wanted: str) -> MalformedMessage:
    text = f"an array of {len(value)}" if isinstance(value, list) else "an object" if isinstance(value, dict) else None
    if text is None:
        text = "nothing" if value is None else repr(value if not isinstance(value, str) else value[:_SHOWN])
    return MalformedMessage(f"{what} is {text[: _SHOWN + 2]} instead of {wanted}")
