"""Memory that is kept: seen in the size of a process that has freed a large array."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
import numpy as np
from lstmjax.training import parallel

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

if sys.argv[1] == "kept":
    assert parallel.keep_memory()
before = resident()
array = np.ones(25_000_000)
del array
print(resident() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mallopt is glibc's")
def test_freed_memory_is_kept_only_when_asked_for():
    def grown(how):
        program = [sys.executable, "-c", PROGRAM, how]
        return int(subprocess.run(program, check=True, capture_output=True, text=True).stdout)

    assert grown("kept") > 190_000_000
    assert grown("returned") < 50_000_000
