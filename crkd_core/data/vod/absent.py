"""Files of frames that are not on disk, as where an archive was unpacked in part."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from crkd_core.data.vod.errors import VodError
from crkd_core.data.vod.layout import Vod, scans_held


def check_files(
    tables: Vod, names: Sequence[str], *, image: bool, scans: int, lidar: bool
) -> None:
    """Refuse frames of which a file that is read is not there.

    Args:
        tables: the data set.
        names: of the frames; ``Vod.check_known`` has found the calibration of their LiDAR.
        image: whether images are read.
        scans: of the radar clouds that are read; 0 = none are.
        lidar: whether LiDAR clouds are read.

    Raises:
        VodError: counts the files by folder and names one; or there is no folder of radar clouds.
    """

    def files(name: str) -> Iterator[Path]:
        yield tables.pose(name)
        if (labels := tables.labels(name)) is not None:
            yield labels
        if image:
            yield tables.image(name)
        if scans:
            held = scans_held(scans)
            yield tables.radar(name, held)
            yield tables.radar_calibration(name, held)
        if lidar:
            yield tables.lidar(name)

    read = [path for name in names for path in files(name)]
    gone = [path for path in read if not path.exists()]
    if not gone:
        return
    of, lacking = (Counter(path.parent for path in paths) for paths in (read, gone))
    counts = ", ".join(
        f"{folder.relative_to(tables.root)} {count} of {of[folder]}"
        for folder, count in lacking.items()
    )
    raise VodError(
        f"{tables.root}: files of frames are not there: {counts}, first {gone[0].name}; unpack "
        "the archive again, or choose frames that are whole"
    )
