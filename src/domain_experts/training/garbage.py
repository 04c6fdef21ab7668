"""What Python's garbage collector looks at."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def old_objects_aside() -> Iterator[None]:
    """Have the collector pass over all objects that there are, until this ends.

    Every few hundred steps it would go through all that a process has imported, for nothing. What
    a step leaves behind it still finds.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
