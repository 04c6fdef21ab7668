"""Writers of small random raw files, each in the exact layout of its source."""

import numpy as np
import scipy.io


def write_epinions(folder, users=60, items=40, rows=1500, categories=4, seed=0):
    """A few exact duplicates, pairs rated more than once, items seen under two categories."""
    rng = np.random.default_rng(seed)
    user, item = rng.integers(1, users + 1, rows), rng.integers(1, items + 1, rows)
    stray = rng.random(rows) < 0.1
    category = np.where(stray, rng.integers(1, categories + 1, rows), item % categories + 1)
    columns = [user, item, category, *rng.integers(1, 6, (2, rows)), rng.integers(1, 12, rows)]
    rating = np.stack(columns, axis=1).astype(np.int32)
    rating = np.concatenate([rating, rating[rng.integers(0, rows, 20)]])
    folder.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(folder / "epinions_rating_with_timestamp.mat", {"rating": rating})
    return rating
