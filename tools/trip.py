"""The files that one sample passes: ``python tools/trip.py --start FUNCTION -- MODULE [ARGS...]``.

Runs a module's ``main`` in this process and lists every file of the two packages of which a
function runs from the first call of FUNCTION on (``NuScenesFrames.__getitem__``, say), in the
order of their first turn, in all threads.
"""

from __future__ import annotations

import importlib
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer

ROOT = Path(__file__).resolve().parent.parent


class Trip:
    """Watches calls; knows files by the order of their first turn."""

    def __init__(self, start: str, root: Path) -> None:
        self.start, self.root = start, root
        self.files: dict[str, None] = {}
        self.begun = False

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        """What sys.setprofile calls."""
        if event != "call":
            return
        code = frame.f_code
        # Python 3.10 knows only the plain name.
        name = getattr(code, "co_qualname", code.co_name)
        self.begun = self.begun or name == self.start
        # Bodies of modules and classes run when something is imported, not for a sample.
        if self.begun and code.co_flags & 0x02 and code.co_filename.startswith(str(self.root)):
            file = Path(code.co_filename).relative_to(self.root)
            if file.parts[0] in ("crkd_core", "crkd_ros"):
                self.files[str(file)] = None


def show(
    arguments: Annotated[list[str], typer.Argument(help="MODULE [ARGS...], its main is run.")],
    start: Annotated[str, typer.Option(help="Qualified name of the function that begins it.")],
    root: Annotated[Path, typer.Option(help="Checkout whose files count.")] = ROOT,
) -> None:
    """List the files that a sample passes."""
    trip = Trip(start, root.resolve())
    sys.argv = [arguments[0], *arguments[1:]]
    main = importlib.import_module(arguments[0]).main
    threading.setprofile(trip)
    sys.setprofile(trip)
    try:
        main()
    except SystemExit:
        pass
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]
    if not trip.begun:
        raise SystemExit(f"{start} was never called; expected a qualified name such as Class.name")
    print(*trip.files, f"{len(trip.files)} files", sep="\n")


if __name__ == "__main__":
    typer.run(show)
