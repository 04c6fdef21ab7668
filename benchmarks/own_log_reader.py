"""The process that `benchmarks.own_log` measures."""

import sys
from pathlib import Path

from benchmarks.own_log import read

if __name__ == "__main__":
    read(Path(sys.argv[1]))
