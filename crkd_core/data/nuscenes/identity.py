"""What a set of samples consists of, as a digest: has a data set changed since yesterday?"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from crkd_core.data.nuscenes.index import Index
from crkd_core.sensors import CHANNELS

# To be raised when the digest of an unchanged data set changes.
_FORMAT = b"1"


def digest(index: Index, samples: NDArray[np.int64], absent: NDArray[np.int64]) -> str:
    """Sixteen hexadecimal digits of what the tables say of some samples and of their scenes.

    Neither the place of the data set on disk nor its other scenes matter. Of the sensors' files
    names count, and which sweeps are not there; they are not read.

    Args:
        index: of a version.
        samples: their rows, in the order in which they are used.
        absent: rows of records whose files are not there, ascending, see absent.py.
    """
    sha = hashlib.sha256(_FORMAT)
    _add_texts(sha, index.sample_token[samples])
    for scene in dict.fromkeys(index.sample_scene[samples].tolist()):
        first, last = np.searchsorted(index.sample_scene, [scene, scene + 1])
        low, high = index.scene_records[[scene * len(CHANNELS), (scene + 1) * len(CHANNELS)]]
        calibrations, place = np.unique(index.record_calib[low:high], return_inverse=True)
        links = index.record_previous[low:high]
        keys = index.sample_key[first:last]
        boxes = slice(*index.sample_boxes[[first, last]])
        _add_texts(sha, index.record_file[low:high])
        # Clouds hold other sweeps, so caches of what was made of them must not be found.
        sha.update((absent[slice(*np.searchsorted(absent, [low, high]))] - low).tobytes())
        for array in (
            index.sample_stamp[first:last],
            np.where(keys < 0, keys, keys - low),
            index.sample_boxes[first : last + 1] - boxes.start,
            index.calib_channel[calibrations],
            index.calib_pose[calibrations],
            index.calib_intrinsics[calibrations],
            place,
            index.record_stamp[low:high],
            index.record_is_key[low:high],
            index.record_pose[low:high],
            index.record_size[low:high],
            np.where(links < 0, links, links - low),
            index.box_center[boxes],
            index.box_size[boxes],
            index.box_yaw[boxes],
            index.box_velocity[boxes],
            index.box_label[boxes],
            index.box_attribute[boxes],
            index.box_lidar[boxes],
            index.box_radar[boxes],
        ):
            sha.update(np.ascontiguousarray(array).tobytes())
    return sha.hexdigest()[:16]


def _add_texts(sha: hashlib._Hash, texts: Iterable[bytes]) -> None:
    # Not the array's own bytes: its width is that of the longest text of the whole data set.
    sha.update(b"\n".join(np.asarray(texts).tolist()))
