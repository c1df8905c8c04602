"""Memory settings of the host."""

import ctypes
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # of mallopt(3)


def keep_memory() -> bool:
    """Let glibc keep freed memory instead of returning it to the kernel after each computation.

    XLA on CPU allocates its buffers anew for each call. Those of a training step are so large that glibc
    requests them from the kernel and returns them every time, so each step waits for pages to be mapped and
    zeroed. The cost is that the process stays at its peak size. Call it before the first computation.

    Returns:
      Whether the setting was applied; it has no effect on C libraries other than glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = {_MMAP_MAX: 0, _TRIM_THRESHOLD: 2**31 - 1, _TOP_PAD: 64 * 2**20}
    done = [mallopt(name, value) == 1 for name, value in settings.items()]
    return all(done)
