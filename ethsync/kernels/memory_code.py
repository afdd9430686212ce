"""The machine code of what `memory` declares."""
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from math import prod
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array

_I8 = ir.IntType(8)
_I64 = ir.IntType(64)
_CACHE_LINE = 64  # bytes, on every processor that has vectors


def pointer(builder: Any, address: Any, kind: Any = _I8) -> Any:
    return builder.inttoptr(address, kind.as_pointer())


def array_over(context: Any, builder: Any, kind: Any, memory: Any, extents: list[Any]) -> Any:
    """An array of this type over memory that nobody counts references to."""
    size = ir.Constant(_I64, kind.dtype.bitwidth // 8)
    steps = [size]
    for extent in reversed(extents[1:]):
        steps.insert(0, builder.mul(steps[0], extent))
    array = context.make_array(kind)(context, builder)
    populate_array(array, memory, extents, steps, size, None)
    return array._getvalue()


def _on_stack(element: Any, *shape: Any) -> Any:
    """Signature and code of an intrinsic that makes an array of constant shape on the kernel's stack."""
    kind = types.Array(element.dtype, len(shape), "C")
    extents = [ir.Constant(_I64, extent.literal_value) for extent in shape]

    def codegen(context, builder, signature, args):
        count = ir.Constant(_I64, prod(extent.literal_value for extent in shape))
        memory = cgutils.alloca_once(builder, context.get_value_type(element.dtype), count)
        memory.align = _CACHE_LINE
        return array_over(context, builder, kind, memory, extents)

    return kind(element, *shape), codegen


def _ints_at(*arguments: Any) -> Any:
    """Signature and code of an intrinsic that takes an address and a shape."""
    kind = types.Array(types.int64, len(arguments) - 1, "C")

    def codegen(context, builder, signature, args):
        return array_over(context, builder, kind, pointer(builder, args[0], _I64), list(args[1:]))

    return kind(*[types.int64] * len(arguments)), codegen


@intrinsic(prefer_literal=True)
def scratch(typingctx, element, count):
    return _on_stack(element, count)


@intrinsic(prefer_literal=True)
def scratch_rows(typingctx, element, rows, columns):
    return _on_stack(element, rows, columns)


@intrinsic
def ints_at(typingctx, address, count):
    return _ints_at(address, count)


@intrinsic
def int_rows_at(typingctx, address, rows, columns):
    return _ints_at(address, rows, columns)


@intrinsic
def address(typingctx, array):
    def codegen(context, builder, signature, args):
        return builder.ptrtoint(context.make_array(signature.args[0])(context, builder, args[0]).data, _I64)

    return types.int64(array), codegen


@intrinsic
def load8(typingctx, address):
    def codegen(context, builder, signature, args):
        return builder.zext(builder.load(pointer(builder, args[0])), _I64)

    return types.int64(types.int64), codegen


@intrinsic
def store8(typingctx, address, value):
    def codegen(context, builder, signature, args):
        builder.store(builder.trunc(args[1], _I8), pointer(builder, args[0]))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


def _copy_fixed(size: int) -> Any:
    """Signature and code of an intrinsic that copies so many bytes, by way of a register if it is wide enough."""

    def codegen(context, builder, signature, args):
        vector = ir.VectorType(_I8, size)
        value = builder.load(pointer(builder, args[1], vector), align=1)
        builder.store(value, pointer(builder, args[0], vector), align=1)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


@intrinsic
def copy32(typingctx, target, source):
    return _copy_fixed(32)


@intrinsic
def copy64(typingctx, target, source):
    return _copy_fixed(64)


@intrinsic
def first_difference(typingctx, one, other):
    def codegen(context, builder, signature, args):
        vector = ir.VectorType(_I8, 32)
        values = [builder.load(pointer(builder, place, vector), align=1) for place in args]
        differ = builder.bitcast(builder.icmp_unsigned("!=", *values), ir.IntType(32))
        return builder.zext(builder.cttz(differ, ir.Constant(ir.IntType(1), 0)), _I64)

    return types.int64(types.int64, types.int64), codegen


@intrinsic
def copy(typingctx, target, source, size):
    def codegen(context, builder, signature, args):
        cgutils.raw_memcpy(builder, pointer(builder, args[0]), pointer(builder, args[1]), args[2], 1)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), codegen


@intrinsic
def zero(typingctx, target, size):
    def codegen(context, builder, signature, args):
        cgutils.memset(builder, pointer(builder, args[0]), args[1], 0)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen
