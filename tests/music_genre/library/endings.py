"""What a file may do to the process that decodes it; imports nothing that is large."""

import os
import signal
import time


def end_or_return(path: str) -> str:
    """Runs in a decoder process."""
    if "crash" in path:
        os.kill(os.getpid(), signal.SIGSEGV)
    if "killed" in path:
        os.kill(os.getpid(), signal.SIGKILL)
    if "hang" in path:
        time.sleep(60)
    if "huge" in path:
        bytearray(2**40)
    if "odd" in path:
        raise KeyError("moov")
    return path
