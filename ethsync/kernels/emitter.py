"""Machine code of kernels, by way of numba. Imported only where the cache lacks some of it."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from types import FunctionType
from typing import TYPE_CHECKING, Any

import numba
from llvmlite import ir
from numba.core import types
from numba.core.compiler_lock import global_compiler_lock
from numba.np.numpy_support import from_dtype

from ethsync.kernels.compiler import FAILED, Column, Kernel, Number, Part, symbol
from ethsync.kernels.memory_code import array_over, pointer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_OPTIONS = {"nogil": True, "_nrt": False, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
"""Kernels do without numba's runtime, so they cannot allocate (`memory.scratch` takes its place) and no references to
arrays are counted: the locked instructions that did so took two thirds of the time of `trie.build`."""

_WORD = ir.IntType(64)


def emit(function: Callable[..., Any], arguments: Sequence[Column | Number]) -> bytes:
    """Compile a kernel: an object file with one function, named by `symbol`, of 64-bit integers.

    It takes, per array, address and shape; per number, the number. It needs nothing but `memcpy` and `memset`.
    """
    kinds = [_numba_type(argument) for argument in arguments]
    compiled = numba.njit(types.int64(*kinds), **_OPTIONS)(_translated(function)).overloads[tuple(kinds)]
    codegen = compiled.library.codegen
    library = codegen.create_library(symbol(function))
    module = library.create_ir_module(symbol(function))
    _add_entry(module, symbol(function), compiled, kinds)
    with global_compiler_lock:
        library.add_ir_module(module)
        library.add_linking_library(compiled.library)
        library.finalize()
    return bytes(codegen._tm.emit_object(library._final_module))


def _numba_type(argument: Column | Number) -> Any:
    if isinstance(argument, Number):
        return types.boolean if argument.is_truth else types.int64
    element = from_dtype(argument.type)
    return types.Array(element, argument.dimensions, "C", readonly=not argument.written)


def _translated(function: Callable[..., Any]) -> FunctionType:
    """The same function, calling what numba makes of the parts that it names."""
    known = function.__globals__
    named = {name: known.get(name) for name in function.__code__.co_names}
    parts = {name: _compiled(part) for name, part in named.items() if isinstance(part, (Part, Kernel))}
    return FunctionType(function.__code__, known | parts, function.__name__)


@cache
def _compiled(part: Part | Kernel) -> Any:
    """What numba makes of a part, or of a kernel that another one calls."""
    if isinstance(part, Part) and part.is_intrinsic:
        return getattr(import_module(f"{part.function.__module__}_code"), part.function.__name__)
    return numba.njit(**_OPTIONS)(_translated(part.function))


def _add_entry(module: Any, name: str, compiled: Any, kinds: Sequence[Any]) -> None:
    """Add a function that makes arrays of its arguments and calls the compiled one."""
    context = compiled.target_context
    count = sum(kind.ndim + 1 if isinstance(kind, types.Array) else 1 for kind in kinds)
    entry = ir.Function(module, ir.FunctionType(_WORD, [_WORD] * count), name)
    builder = ir.IRBuilder(entry.append_basic_block())
    words = iter(entry.args)
    values = []
    for kind in kinds:
        if isinstance(kind, types.Array):
            memory = pointer(builder, next(words), context.get_data_type(kind.dtype))
            values.append(array_over(context, builder, kind, memory, [next(words) for _ in range(kind.ndim)]))
        else:
            values.append(builder.trunc(next(words), ir.IntType(1)) if kind == types.boolean else next(words))
    inner = context.declare_function(module, compiled.fndesc)
    status, result = context.call_conv.call_function(builder, inner, types.int64, kinds, values)
    builder.ret(builder.select(status.is_error, ir.Constant(_WORD, FAILED), result))
