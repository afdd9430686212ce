"""Unchecked loads, stores and copies at raw addresses, for use inside kernels only.

numba's array indexing costs a wrap-around test and its slices a loop; an encoder that has already proven its bounds
needs neither. Every caller checks its indices first: nothing that a peer sends reaches these as an address.
"""
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from math import prod
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array

from ethsync.kernels.compiler import inlined

_I8 = ir.IntType(8)
_I64 = ir.IntType(64)
CACHE_LINE = 64  # bytes, on every processor that has vectors


def _pointer(builder: Any, address: Any, kind: Any = _I8) -> Any:
    return builder.inttoptr(address, kind.as_pointer())


def _array_on_stack(element: Any, *shape: Any) -> Any:
    """Signature and code of an intrinsic that makes an array of this shape on the kernel's stack."""
    kind = types.Array(element.dtype, len(shape), "C")
    extents = [size.literal_value for size in shape]
    size = element.dtype.bitwidth // 8

    def codegen(context, builder, signature, args):
        memory = cgutils.alloca_once(builder, context.get_value_type(element.dtype), ir.Constant(_I64, prod(extents)))
        memory.align = CACHE_LINE
        array = context.make_array(kind)(context, builder)
        steps = [ir.Constant(_I64, size * prod(extents[k + 1 :])) for k in range(len(extents))]
        numbers = [ir.Constant(_I64, extent) for extent in extents]
        populate_array(array, memory, numbers, steps, ir.Constant(_I64, size), None)
        return array._getvalue()

    return kind(element, *shape), codegen


@intrinsic(prefer_literal=True)
def scratch(typingctx, element, count):
    """Return an array of `count` (a constant) elements of a NumPy type, with whatever stands there.

    It lives on the stack until the kernel returns; reaching this line again gives the same memory.
    """
    return _array_on_stack(element, count)


@intrinsic(prefer_literal=True)
def scratch_rows(typingctx, element, rows, columns):
    """As `scratch`, with two dimensions."""
    return _array_on_stack(element, rows, columns)


@intrinsic
def address(typingctx, array):
    """Return the address of an array's first element.

    The array must outlive the address: arguments of a kernel do, and so does what `scratch` makes.
    """

    def codegen(context, builder, signature, args):
        return builder.ptrtoint(context.make_array(signature.args[0])(context, builder, args[0]).data, _I64)

    return types.int64(array), codegen


@intrinsic
def load8(typingctx, address):
    """Return the byte at an address as int64."""

    def codegen(context, builder, signature, args):
        return builder.zext(builder.load(_pointer(builder, args[0])), _I64)

    return types.int64(types.int64), codegen


@intrinsic
def store8(typingctx, address, value):
    """Store the low byte of a value at an address."""

    def codegen(context, builder, signature, args):
        builder.store(builder.trunc(args[1], _I8), _pointer(builder, args[0]))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


@intrinsic
def copy32(typingctx, target, source):
    """Copy exactly 32 bytes."""

    def codegen(context, builder, signature, args):
        vector = ir.VectorType(_I8, 32)
        value = builder.load(_pointer(builder, args[1], vector), align=1)
        builder.store(value, _pointer(builder, args[0], vector), align=1)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


@intrinsic
def copy(typingctx, target, source, size):
    """Copy `size` bytes between buffers that do not overlap."""

    def codegen(context, builder, signature, args):
        cgutils.raw_memcpy(builder, _pointer(builder, args[0]), _pointer(builder, args[1]), args[2], 1)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), codegen


@intrinsic
def zero(typingctx, target, size):
    """Set `size` bytes to zero."""

    def codegen(context, builder, signature, args):
        cgutils.memset(builder, _pointer(builder, args[0]), args[1], 0)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


@inlined
def outside(buf, offset, length):
    """Whether buf[offset : offset + length] does not lie inside the buffer. Safe against overflow of the sum."""
    return offset < 0 or length < 0 or offset > buf.shape[0] or length > buf.shape[0] - offset
