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

COLUMN, PAGE = 3.3, 7.0
"""Widths of figures, inches: a column and a page of a two-column paper. They are printed as is."""
HEIGHT = 9.0
"""The tallest figure, inches: a page less its caption."""
DPI = 200
COLOURS = 256
"""Of a PNG."""
FONT, SMALL = 8, 6
"""Points: of titles and axes, and of rows where there are very many."""
PLACES = 5
"""Decimals of the places of panels, in widths and heights of the figure."""

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
"""Told apart by the colour-blind; the first are those of the palette `colorblind` of seaborn."""
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
    "axes.titlepad": 4,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "lines.linewidth": 1.1,
    "lines.markersize": 4,
    "axes.grid": True,
    "grid.linewidth": 0.4,
    "grid.color": "0.9",
    "axes.axisbelow": True,
    # a name may hold dollar signs
    "text.parse_math": False,
    # TrueType, which publishers ask for
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
    if (layout := figure.get_layout_engine()) is not None:
        layout.execute(figure)
    figure.set_layout_engine("none")
    # the solver sums in the order of addresses in memory: its last digits differ from run to run
    for ax in figure.axes:
        ax.set_position(np.round(ax.get_position(original=True).bounds, PLACES).tolist())
    # Any: matplotlib gives the methods of its canvases no types
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    # few colours are drawn: a palette makes the file, and the report, a third as large
    pixels = np.asarray(canvas.buffer_rgba())
    most = Image.Quantize.MAXCOVERAGE  # keeps the colours of small markers
    picture = Image.fromarray(pixels).convert("RGB").quantize(COLOURS, most)
    with replacing(folder / f"{name}.png") as temporary:
        picture.save(temporary, "PNG", optimize=True, dpi=(DPI, DPI))
    with replacing(folder / f"{name}.pdf") as temporary:
        nothing = dict.fromkeys(("CreationDate", "Producer", "Creator"))
        pages: Any = FigureCanvasPdf(figure)
        pages.print_pdf(temporary, metadata=nothing)
