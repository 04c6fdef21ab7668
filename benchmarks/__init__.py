"""How fast the package is, beside other libraries and the papers' own ways."""

import os

# read by tqdm on import: progress bars of the libraries would be timed too
os.environ["TQDM_DISABLE"] = "1"
