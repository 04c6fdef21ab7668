"""What becomes of the memory that tensors give back."""

import ctypes

# of malloc.h
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
NEVER, NONE = -1, 0


def keep_freed_memory() -> None:
    """Have the C library keep freed memory for the next step, where it is glibc.

    By default glibc gives large blocks back to the system at once, and the system has to clear each
    of their pages again when the next step asks for them.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_TRIM_THRESHOLD, NEVER)
        mallopt(M_MMAP_MAX, NONE)
