"""What Python and glibc, the C library of most Linux systems, do with memory that was freed.

with large_imports(): import torch, transformers, gradio
keep_freed_memory()  # training: the next step needs it again
share_one_heap()     # a server: requests of many threads, and a size that stays

Without glibc the last two do nothing. Their numbers are those of mallopt(3).
"""

import ctypes
import gc
import platform
from collections.abc import Iterator
from contextlib import contextmanager

M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8
MOST = 2**31 - 1


@contextmanager
def large_imports() -> Iterator[None]:
    """Do not look for garbage during imports, nor later among what they left: it stays.

    Looking takes a quarter of the time of torch's and transformers' imports (docs/speed.md).
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()


def keep_freed_memory() -> None:
    """Keep large arrays that were freed for the next ones.

    By default the kernel gets those of more than 32 MB back, and fills the next with zeros, which
    costs a training step up to 8 % (docs/speed.md).
    """
    _set(M_MMAP_MAX, 0)
    _set(M_TRIM_THRESHOLD, MOST)


def share_one_heap() -> None:
    """Let all threads allocate from one heap.

    By default each has its own, where what one request leaves free is no use to the next, which
    another thread answers. Threads that Python runs one at a time do not wait for each other here.
    """
    _set(M_ARENA_MAX, 1)


def _set(parameter: int, value: int) -> None:
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).mallopt(parameter, value)
