"""Unchecked loads, stores and copies at raw addresses, for use inside kernels only.

numba's array indexing costs a wrap-around test and its slices a loop; an encoder that has already proven its bounds
needs neither. Every caller checks its indices first: nothing that a peer sends reaches these as an address.
"""
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from ethsync.kernels.compiler import inlined

_I8 = ir.IntType(8)
_I64 = ir.IntType(64)


def _pointer(builder: Any, address: Any, kind: Any = _I8) -> Any:
    return builder.inttoptr(address, kind.as_pointer())


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
