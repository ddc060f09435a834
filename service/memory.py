"""Memory that a call took goes back to the system when the call ends."""

import ctypes

# glibc's name for the size from which a block is mapped on its own, and unmapped as soon as it is freed.
_M_MMAP_THRESHOLD = -3
_LARGE = 2**20


def return_large_blocks() -> None:
    """Keep glibc from raising that size as blocks are freed, after which each thread's heap keeps decoded pictures.

    Where there is no glibc nothing is done.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(_M_MMAP_THRESHOLD, _LARGE)
