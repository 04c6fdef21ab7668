"""Arrays in .npy files, of which none is ever unpickled."""

import tokenize
import warnings
from pathlib import Path

import numpy as np

from domain_experts.errors import UserError


def read_array(path: Path, remedy: str, mapped: bool = False) -> np.ndarray:
    """Read an array.

    Args:
        path: an .npy file.
        remedy: the command that mends it.
        mapped: leave it on the disk, read-only.

    Raises:
        UserError: the file is missing or holds no array of plain values; names it and the remedy.
    """
    try:
        with path.open("rb") as file:
            # else `numpy.load` looks for a zip archive or a pickle
            np.lib.format.read_magic(file)
        with warnings.catch_warnings():
            # of a header that Python 2 may have written
            warnings.simplefilter("error")
            found = np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
    except FileNotFoundError:
        raise UserError(f"{path} is missing; {remedy}") from None
    # its header is a Python literal
    except (ValueError, EOFError, SyntaxError, tokenize.TokenError, UserWarning) as error:
        raise UserError(f"{path} is damaged ({error}); {remedy}") from None
    return found if mapped else np.asarray(found)
