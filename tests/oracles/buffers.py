"""Memory in which a read one byte too far, or one byte too early, ends the process instead of passing unnoticed."""

from __future__ import annotations

import ctypes
import mmap

import numpy as np
from numpy.typing import NDArray

_PROT_NONE = 0


class GuardedMemory:
    """Room for one buffer at a time, between two pages that may not be touched."""

    def __init__(self, capacity: int) -> None:
        page = mmap.PAGESIZE
        pages = -(-capacity // page)
        self._map = mmap.mmap(-1, (pages + 2) * page)
        address = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        libc = ctypes.CDLL(None, use_errno=True)
        for guard in (address, address + (pages + 1) * page):
            if libc.mprotect(ctypes.c_void_p(guard), ctypes.c_size_t(page), _PROT_NONE):
                raise OSError(ctypes.get_errno(), "mprotect")
        self._room: NDArray[np.uint8] = np.frombuffer(self._map, np.uint8, pages * page, page)

    def hold(self, data: bytes, *, at_end: bool = True) -> NDArray[np.uint8]:
        """Copy data to the end (or the start) of the room and return exactly these bytes. Invalidates earlier ones."""
        start = len(self._room) - len(data) if at_end else 0
        view = self._room[start : start + len(data)]
        view[:] = np.frombuffer(data, np.uint8)
        return view
