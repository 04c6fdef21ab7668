import platform
import subprocess
import sys

import pytest

STEPS = """
import resource
import numpy as np
{before}
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def step():
    np.ones(2**23)
step()
start = faults()
for _ in range(10):
    step()
print(faults() - start)
"""
PAGES = 2**23 * 8 // 2**12


def faults(before: str) -> int:
    """Page faults of ten steps that each need 64 MiB anew."""
    code = STEPS.format(before=before)
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return int(ran.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_freed_memory_is_used_again():
    keep = "from domain_experts.training.memory import keep_freed_memory; keep_freed_memory()"
    # huge pages, where numpy asks for them, are 512 pages each
    assert faults("") > 10 * PAGES / 512 > 10 > faults(keep)
