"""What glibc, the C library of most Linux systems, does with memory that was freed.

keep_freed_memory()  # training: the next step needs it again
share_one_heap()     # a server: requests of many threads, and a size that stays

Elsewhere they do nothing. The numbers are those of mallopt(3).
"""

import ctypes
import platform

M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8
MOST = 2**31 - 1


def keep_freed_memory() -> None:
    """Keep large arrays that were freed for the next ones.

    By default the kernel gets those of more than 32 MB back, and fills the next with zeros: up to a
    quarter of a training step (docs/speed.md).
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
