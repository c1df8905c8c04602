"""The host that computations run on."""

import ctypes
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # of mallopt(3)


def keep_memory() -> bool:
    """Let glibc keep the memory that it has, and not give it back after each computation.

    XLA on CPU allocates its buffers anew for each call. Those of a training step are so large that glibc
    takes them from the kernel and returns them every time, and each step then waits for pages to be mapped
    and zeroed. The price is that the process stays as large as it once was. To be called before the first
    computation.

    Returns:
      Whether it was done; other C libraries than glibc are left alone.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = {_MMAP_MAX: 0, _TRIM_THRESHOLD: 2**31 - 1, _TOP_PAD: 64 * 2**20}
    done = [mallopt(name, value) == 1 for name, value in settings.items()]
    return all(done)
