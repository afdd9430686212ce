"""The machine code of what `sponge` declares: Keccak-f[1600] on LLVM vectors of `LANES` 64-bit integers.

Specification: "The Keccak reference", version 3.0.
"""
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from ethsync.kernels.compiler import LANES
from ethsync.kernels.sponge import RATE_WORDS, STATE_WORDS

if TYPE_CHECKING:
    from collections.abc import Sequence

# Iota constants and rho offsets (by x, then y): Keccak reference, sections 1.2 and 1.4.
_ROUND_CONSTANTS = (
    0x1, 0x8082, 0x800000000000808A, 0x8000000080008000, 0x808B, 0x80000001, 0x8000000080008081, 0x8000000000008009,
    0x8A, 0x88, 0x80008009, 0x8000000A, 0x8000808B, 0x800000000000008B, 0x8000000000008089, 0x8000000000008003,
    0x8000000000008002, 0x8000000000000080, 0x800A, 0x800000008000000A, 0x8000000080008081, 0x8000000000008080,
    0x80000001, 0x8000000080008008,
)  # fmt: skip
_ROTATIONS = ((0, 36, 3, 41, 18), (1, 44, 10, 45, 2), (62, 6, 43, 15, 61), (28, 55, 25, 21, 56), (27, 20, 39, 8, 14))

_I32 = ir.IntType(32)
_I64 = ir.IntType(64)
_VECTOR = ir.VectorType(_I64, LANES)


def _splat(value: int) -> Any:
    return ir.Constant(_VECTOR, [value] * LANES)


def _round(builder: Any, rotate: Any, a: list[Any]) -> list[Any]:
    """Emit theta, rho, pi and chi on 25 lane vectors, indexed x + 5 * y."""

    def rotl(vector: Any, bits: int) -> Any:
        return builder.call(rotate, [vector, vector, _splat(bits)]) if bits else vector

    columns = []
    for x in range(5):
        column = a[x]
        for y in range(1, 5):
            column = builder.xor(column, a[x + 5 * y])
        columns.append(column)
    d = [builder.xor(columns[(x + 4) % 5], rotl(columns[(x + 1) % 5], 1)) for x in range(5)]
    moved: list[Any] = [None] * STATE_WORDS
    for x in range(5):
        for y in range(5):
            moved[y + 5 * ((2 * x + 3 * y) % 5)] = rotl(builder.xor(a[x + 5 * y], d[x]), _ROTATIONS[x][y])
    mixed = []
    for y in range(0, STATE_WORDS, 5):
        for x in range(5):
            others = builder.and_(builder.not_(moved[(x + 1) % 5 + y]), moved[(x + 2) % 5 + y])
            mixed.append(builder.xor(moved[x + y], others))
    return mixed


def _shuffle(builder: Any, first: Any, second: Any, order: Sequence[int]) -> Any:
    return builder.shuffle_vector(first, second, ir.Constant(ir.VectorType(_I32, len(order)), list(order)))


def _four_words(builder: Any, lanes: list[Any], word: int) -> list[Any]:
    """Words `word` to `word + 3` of four lanes as four vectors: a 4 by 4 transposition, half the work of gathering."""
    rows = []
    for pointer in lanes:
        place = builder.bitcast(builder.gep(pointer, [ir.Constant(_I64, word)]), _VECTOR.as_pointer())
        rows.append(builder.load(place, align=1))
    low = [_shuffle(builder, rows[k], rows[k + 1], (0, 4, 2, 6)) for k in (0, 2)]
    high = [_shuffle(builder, rows[k], rows[k + 1], (1, 5, 3, 7)) for k in (0, 2)]
    halves = ((0, 1, 4, 5), (2, 3, 6, 7))
    return [_shuffle(builder, pair[0], pair[1], half) for half in halves for pair in (low, high)]


def _one_word(builder: Any, lanes: list[Any], word: int) -> Any:
    """One word of every lane as a vector."""
    gathered: Any = ir.Constant(_VECTOR, ir.Undefined)
    for lane, pointer in enumerate(lanes):
        value = builder.load(builder.gep(pointer, [ir.Constant(_I64, word)]), align=1)
        gathered = builder.insert_element(gathered, value, ir.Constant(_I32, lane))
    return gathered


def _absorb_blocks(builder: Any, rows: list[Any], blocks: Any) -> None:
    """Xor one block of each lane into the first 17 words of the state."""
    lanes = []
    for lane in range(LANES):
        address = builder.load(builder.gep(blocks, [ir.Constant(_I64, lane)]))
        lanes.append(builder.inttoptr(address, _I64.as_pointer()))
    word = 0
    while LANES == 4 and word + 4 <= RATE_WORDS:
        for vector in _four_words(builder, lanes, word):
            rows[word] = builder.xor(rows[word], vector)
            word += 1
    while word < RATE_WORDS:
        rows[word] = builder.xor(rows[word], _one_word(builder, lanes, word))
        word += 1


def _permutation(builder: Any, base: Any, blocks: Any | None) -> None:
    """Emit: load the state at `base`, absorb, 24 rounds, store the state."""
    kind = ir.FunctionType(_VECTOR, [_VECTOR] * 3)
    rotate = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fshl.v{LANES}i64")
    table_type = ir.ArrayType(_I64, len(_ROUND_CONSTANTS))
    table = ir.GlobalVariable(builder.module, table_type, name=builder.module.get_unique_name("keccak_rc"))
    table.global_constant, table.linkage = True, "internal"
    table.initializer = ir.Constant(table_type, _ROUND_CONSTANTS)

    rows = [builder.load(builder.gep(base, [ir.Constant(_I64, i)]), align=8) for i in range(STATE_WORDS)]
    if blocks is not None:
        _absorb_blocks(builder, rows, blocks)
    entry = builder.block
    loop, done = builder.append_basic_block("round"), builder.append_basic_block("done")
    builder.branch(loop)
    builder.position_at_end(loop)
    words = [builder.phi(_VECTOR) for _ in range(STATE_WORDS)]
    number = builder.phi(_I64)
    for phi, row in zip(words, rows, strict=True):
        phi.add_incoming(row, entry)
    number.add_incoming(ir.Constant(_I64, 0), entry)
    mixed = _round(builder, rotate, words)
    constant = builder.load(builder.gep(table, [ir.Constant(_I64, 0), number]))
    undefined = ir.Constant(_VECTOR, ir.Undefined)
    first = builder.insert_element(undefined, constant, ir.Constant(_I32, 0))
    mixed[0] = builder.xor(mixed[0], _shuffle(builder, first, undefined, [0] * LANES))
    following = builder.add(number, ir.Constant(_I64, 1))
    number.add_incoming(following, loop)
    for phi, row in zip(words, mixed, strict=True):
        phi.add_incoming(row, loop)
    more = builder.icmp_unsigned("<", following, ir.Constant(_I64, len(_ROUND_CONSTANTS)))
    builder.cbranch(more, loop, done)
    builder.position_at_end(done)
    for i in range(STATE_WORDS):
        builder.store(mixed[i], builder.gep(base, [ir.Constant(_I64, i)])).align = 8


@intrinsic
def absorb(typingctx, state_address, block_addresses):
    def codegen(context, builder, signature, args):
        base = builder.inttoptr(args[0], _VECTOR.as_pointer())
        _permutation(builder, base, builder.inttoptr(args[1], _I64.as_pointer()))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


@intrinsic
def permutation(typingctx, state_address):
    def codegen(context, builder, signature, args):
        _permutation(builder, builder.inttoptr(args[0], _VECTOR.as_pointer()), None)
        return context.get_dummy_value()

    return types.void(types.int64), codegen
