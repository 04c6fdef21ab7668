"""The machine that numbers were made on, and what its processor can do at best."""

import os
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from benchmarks.timing import Work, in_turns, rates

SIZE = 1024
LIBRARIES = ("domain-experts", "torch", "numpy")


def describe(threads: int) -> dict[str, Any]:
    """Processor, cores, versions and the measured speed of matrix products."""
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": threads,
        "load_at_start": round(os.getloadavg()[0], 2),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in LIBRARIES},
        "gemm_gflops": round(gemm_flops() / 1e9, 1),
        "made": time.strftime("%Y-%m-%d"),
    }


def processor() -> str:
    """Name of the processor."""
    path = Path("/proc/cpuinfo")
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def product() -> Work:
    """One product of two (SIZE, SIZE) float32 matrices."""
    a, b = torch.randn(2, SIZE, SIZE).unbind()
    return lambda: torch.mm(a, b)


def gemm_flops(rounds: int = 7) -> float:
    """Floating point operations a second of that product."""
    seconds = in_turns({"product": product()}, rounds)["product"]
    return rates(2 * SIZE**3, seconds).median
