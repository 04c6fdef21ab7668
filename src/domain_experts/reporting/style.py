"""How figures look and how they are saved."""

from pathlib import Path

import matplotlib as mpl
import seaborn as sns
from matplotlib.figure import Figure

from domain_experts.files import replacing

WIDTH = 3.4
"""One column, inches."""
HEIGHT = 8.5
"""A page less its caption, inches."""

PALETTE = [mpl.colors.to_hex(color) for color in sns.color_palette("colorblind")]
MARKERS = "os^Dv<>p*X"

_COLORS = {
    "mlora": PALETTE[0],
    "moe_mlora": PALETTE[1],
    "moe_mlora_sequence": PALETTE[1],
    "moe_mlora_released": PALETTE[2],
    "experts": PALETTE[9],
    "oracle_experts": PALETTE[4],
    "oracle_mlora": PALETTE[5],
    "new_domain_adapter": PALETTE[0],
    "new_domain_finetune": PALETTE[3],
}

RC = {
    "font.size": 7,
    "axes.titlesize": 7,
    "axes.labelsize": 7,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "figure.titlesize": 7,
    "figure.labelsize": 7,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.2,
    "lines.markersize": 3,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.linewidth": 0.4,
    "grid.color": "0.88",
    "axes.axisbelow": True,
    "pdf.fonttype": 42,
    "savefig.dpi": 300,
}


def arm_color(arm: str) -> str:
    """The colour of an arm, one in all figures; grey where none is set apart."""
    return _COLORS.get(arm, PALETTE[7])


def save(figure: Figure, folder: Path, name: str) -> None:
    """Write `<name>.pdf` and `<name>.png` without dates or versions: equal figures, equal bytes."""
    metadata = {
        "pdf": {"CreationDate": None, "Producer": None, "Creator": None},
        "png": {"Software": None},
    }
    # one solution of the layout serves both files
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for kind, entries in metadata.items():
        with replacing(folder / f"{name}.{kind}") as temporary:
            figure.savefig(temporary, format=kind, metadata=entries)
