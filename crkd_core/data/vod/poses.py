"""Pose files: where the camera was, three lines of JSON, of which some or all may be missing.

Their keys read "frame to camera"; the matrices take points of the CAMERA to that frame, as their
last column, the camera's place, shows.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crkd_core.calibration import RIGID, is_rigid
from crkd_core.data.vod.errors import VodError
from crkd_core.files import read_file

#: Key in the file: local odometry, the map, and UTM.
ODOMETRY, MAP, UTM = "odomToCamera", "mapToCamera", "UTMToCamera"


def read_pose(path: Path, key: str = MAP) -> NDArray[np.float64] | None:
    """[4, 4] camera to the frame that ``key`` names, metres; None where the file has no such line.

    That is where the recording did not know its place, as at the start of some clips
    (tudelft-iv/view-of-delft-dataset#4).

    Raises:
        VodError: missing, no JSON, or numbers that are no pose; names the file.
    """
    try:
        lines = read_file(path).splitlines()
        found = {k: v for line in lines if line.strip() for k, v in json.loads(line).items()}
        if key not in found:
            return None
        pose = np.array(found[key], np.float64).reshape(4, 4)
    except OSError as error:
        raise VodError(f"{path}: cannot read the pose: {error.strerror}") from error
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise VodError(
            f"{path}: expected lines of JSON, that of {key!r} with 16 numbers ({error!r})"
        ) from error
    if not is_rigid(pose):
        raise VodError(f"{path}: {key}: expected {RIGID}, got {pose.tolist()}")
    return pose


def encode_pose(poses: dict[str, NDArray[np.float64]]) -> str:
    """The text of a file; a reader gets equal numbers back."""
    return "\n".join(json.dumps({key: pose.ravel().tolist()}) for key, pose in poses.items())
