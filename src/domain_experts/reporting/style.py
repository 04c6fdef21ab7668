"""How figures look and how they are saved."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.figure import Figure
from PIL import Image

from domain_experts.files import replacing

HEIGHT = 9.0
"""The tallest figure, inches: a page less its caption."""
DPI = 200
COLOURS = 128
"""Of a PNG."""
FONT = 9
"""Points."""

PALETTE = (
    "#0173b2",
    "#de8f05",
    "#029e73",
    "#d55e00",
    "#cc78bc",
    "#ca9161",
    "#949494",
    "#56b4e9",
    "#333333",
    "#a6a000",
    "#7a3b00",
)
"""The colour-blind palette of seaborn, without its light colours."""
MARKERS = "os^Dv<>p*X"
DASHES = ("-", "--", "-.", (0, (6, 1)))

RC: dict[Any, Any] = {
    "font.size": FONT,
    "axes.titlesize": FONT,
    "axes.labelsize": FONT,
    "xtick.labelsize": FONT - 1,
    "ytick.labelsize": FONT - 1,
    "legend.fontsize": FONT - 1,
    "figure.labelsize": FONT,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.2,
    "lines.markersize": 5,
    "axes.grid": True,
    "grid.linewidth": 0.4,
    "grid.color": "0.88",
    "axes.axisbelow": True,
    "pdf.fonttype": 42,
}


@contextmanager
def styled() -> Iterator[None]:
    """Draw and save within this, so that a user's own matplotlibrc changes nothing."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(RC)
        yield


def save(figure: Figure, folder: Path, name: str) -> None:
    """Write `<name>.pdf` and `<name>.png` without dates or versions: equal figures, equal bytes."""
    # one solution of the layout serves both files, and `savefig` would draw each twice
    figure.set_dpi(DPI)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    # Any: matplotlib gives the methods of its canvases no types
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    # few colours are drawn: a palette makes the file, and the report, a third as large
    pixels = np.asarray(canvas.buffer_rgba())
    picture = Image.fromarray(pixels).convert("RGB").quantize(COLOURS)
    with replacing(folder / f"{name}.png") as temporary:
        picture.save(temporary, "PNG", optimize=True, dpi=(DPI, DPI))
    with replacing(folder / f"{name}.pdf") as temporary:
        nothing = dict.fromkeys(("CreationDate", "Producer", "Creator"))
        pages: Any = FigureCanvasPdf(figure)
        pages.print_pdf(temporary, metadata=nothing)
