"""What becomes of memory that was freed, counted in processes of their own."""

import platform
import subprocess
import sys

import pytest

of_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="what is set is glibc's")

# How often Python looks for garbage during an import, and how much is exempt from it afterwards.
COLLECTIONS = """
import contextlib, gc
from music_genre.memory import large_imports
found = []
gc.callbacks.append(lambda phase, info: found.append(phase))
with {call}:
    import decimal, email.message, xml.dom.minidom
gc.callbacks.clear()
print(len(found), gc.get_freeze_count(), gc.isenabled())
"""

# Pages of 4 KB that the kernel had to provide for eight texts of 40 MB, one after another.
PAGES = """
import resource
from music_genre import memory
{call}
size = 40_000_000  # a name, or it is computed once
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(8):
    b"x" * size
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""

# The heaps of eight threads that all allocate before the first one ends.
HEAPS = """
import ctypes, threading
from music_genre import memory
{call}
barrier = threading.Barrier(8)
def allocate():
    kept = bytearray(10_000)
    barrier.wait()
threads = [threading.Thread(target=allocate) for _ in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
libc = ctypes.CDLL(None)
libc.fdopen.restype = ctypes.c_void_p
libc.malloc_info(0, ctypes.c_void_p(libc.fdopen(1, b"w")))
libc.fflush(None)
"""


def run(code: str, call: str) -> str:
    command = [sys.executable, "-c", code.format(call=call)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_no_garbage_is_looked_for_during_large_imports():
    by_default, large = (
        run(COLLECTIONS, call).split() for call in ("contextlib.nullcontext()", "large_imports()")
    )
    assert int(by_default[0]) > 0 and int(large[0]) == 0
    assert int(large[1]) > int(by_default[1]) + 10_000
    assert large[2] == "True"


@of_glibc
def test_arrays_that_were_freed_are_used_again():
    by_default, kept = (int(run(PAGES, call)) for call in ("", "memory.keep_freed_memory()"))
    assert by_default > 8 * 9_000
    assert kept < 1.2 * 10_000


@of_glibc
def test_threads_share_one_heap():
    by_default, shared = (
        run(HEAPS, call).count("<heap nr=") for call in ("", "memory.share_one_heap()")
    )
    assert by_default > 1
    assert shared == 1


def test_another_c_library_is_left_alone(monkeypatch):
    from music_genre import memory

    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(memory.ctypes, "CDLL", None)
    memory.keep_freed_memory()
