"""Unchecked loads, stores and copies at raw addresses, for use inside kernels only.

numba's array indexing costs a wrap-around test and its slices a loop; an encoder that has already proven its bounds
needs neither. Every caller checks its indices first: nothing that a peer sends reaches these as an address.
"""
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from ethsync.kernels.compiler import inlined, intrinsic


@intrinsic
def scratch(element, count):
    """Return an array of `count` (a constant) elements of a NumPy type, with whatever stands there.

    It lives on the stack until the kernel returns; reaching this line again gives the same memory.
    """


@intrinsic
def scratch_rows(element, rows, columns):
    """As `scratch`, with two dimensions."""


@intrinsic
def address(array):
    """Return the address of an array's first element.

    The array must outlive the address: arguments of a kernel do, and so does what `scratch` makes.
    """


@intrinsic
def ints_at(address, count):
    """Return the array of `count` int64 that begins at an address."""


@intrinsic
def int_rows_at(address, rows, columns):
    """As `ints_at`, with two dimensions."""


@intrinsic
def load8(address):
    """Return the byte at an address as int64."""


@intrinsic
def store8(address, value):
    """Store the low byte of a value at an address."""


@intrinsic
def copy32(target, source):
    """Copy exactly 32 bytes."""


@intrinsic
def copy64(target, source):
    """Copy exactly 64 bytes."""


@intrinsic
def first_difference(one, other):
    """Return the number of the first of 32 bytes in which two places differ; 32 if they are equal."""


@intrinsic
def copy(target, source, size):
    """Copy `size` bytes between buffers that do not overlap."""


@intrinsic
def zero(target, size):
    """Set `size` bytes to zero."""


@inlined
def outside(buf, offset, length):
    """Whether buf[offset : offset + length] does not lie inside the buffer. Safe against overflow of the sum."""
    return offset < 0 or length < 0 or offset > buf.shape[0] or length > buf.shape[0] - offset
