"""Pictures as PNG files, which appear when they are whole."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from crkd_core.files import write_bytes

if TYPE_CHECKING:  # starting it takes a second
    from matplotlib.figure import Figure


def write_png(pixels: NDArray[np.uint8], path: Path) -> None:
    """Write uint8 [H, W, 3] RGB.

    Raises:
        OSError: it cannot be encoded, or not be written there.
    """
    done, data = cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
    if not done:
        raise OSError(f"{path}: the picture could not be encoded as PNG")
    write_bytes(data.tobytes(), path)


def plain(text: str) -> str:
    """A name as matplotlib shows it, whatever is in it.

    Between two dollar signs it would read a formula, which may be none; and a legend leaves out
    what begins with an underscore.
    """
    return ("\u200b" if text.startswith("_") else "") + text.replace("$", "\\$")


def write_figure(figure: Figure, path: Path) -> None:
    """Write a matplotlib figure at its own size and dpi.

    Raises:
        OSError: as ``write_png``.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    # The canvas is made here, without pyplot: no global state, no display, safe in threads.
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    write_png(np.asarray(canvas.buffer_rgba())[..., :3], path)
