"""Compiled kernels: arrays in, arrays out; no I/O, no trio, no Python objects.

Everything here is compiled by numba the first time it is imported on a machine (see `compiler`) and releases the GIL
while it runs. The layers above never touch numba, and most of them call the functions of `ethsync.state` instead.
"""
