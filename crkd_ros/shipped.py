"""Where the files are that come with the package: weights, parameter files, the DDS profile."""

from __future__ import annotations

from pathlib import Path


def shipped(name: str) -> Path:
    """A file of the source tree, or of ``share/crkd_ros`` where pip or colcon put it.

    Args:
        name: like "config/fastdds.xml".

    Returns:
        Its path; where there is none, the name itself, relative to the working directory.
    """
    here = Path(__file__).resolve()
    folders = (here.parents[1], *(parent / "share" / "crkd_ros" for parent in here.parents))
    return next((path for folder in folders if (path := folder / name).is_file()), Path(name))
