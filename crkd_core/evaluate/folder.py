"""What an evaluation leaves in its folder, so that all that lies there is of one evaluation."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

#: By which a folder is known to hold an evaluation, of nuScenes or View-of-Delft.
RESULTS = ("results.json", "results", "metrics.json", "slices.json", "report.html")

_FILES = ("results.json", "metrics.json", "slices.json", "precision_recall.png", "report.html")
_PICTURE = re.compile(r"(bev|cameras)_\d{5}\.png")
#: In the folder "results", a file a frame.
_FRAME = re.compile(r"\d+\.txt")


def clear(out: Path, *, keep: Path | None = None) -> None:
    """Remove what an earlier evaluation left, when the first file of the next is about to be made.

    What has another name stays, and so does what `crkd evaluate --dropout` wrote: it is complete
    by itself.

    Args:
        out: folder of the evaluation; it need not be there.
        keep: what is being scored, a file or a folder, which may lie there.
    """
    kept = None if keep is None else keep.resolve()
    folder = out / "results"
    found = [out / name for name in _FILES]
    found += [path for path in out.glob("*.png") if _PICTURE.fullmatch(path.name)]
    if folder.resolve() != kept:
        found += [path for path in folder.glob("*.txt") if _FRAME.fullmatch(path.name)]
    for path in found:
        if path.resolve() != kept:
            path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # Not there, or something else lies in it.
        folder.rmdir()
