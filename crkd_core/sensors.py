"""Names of the sensors, and of the columns of a radar point. Below everything else."""

from __future__ import annotations

#: Camera order of every per-camera array (the order of the released CRKD models).
CAMERAS = (
    "CAM_FRONT",
    "CAM_FRONT_RIGHT",
    "CAM_FRONT_LEFT",
    "CAM_BACK",
    "CAM_BACK_LEFT",
    "CAM_BACK_RIGHT",
)

#: Radar order of every per-radar array.
RADARS = (
    "RADAR_FRONT",
    "RADAR_FRONT_LEFT",
    "RADAR_FRONT_RIGHT",
    "RADAR_BACK_LEFT",
    "RADAR_BACK_RIGHT",
)

#: No camera has more pixels (8192 x 4096); a header that asks for more is damaged, and is refused
#: before the memory for it is.
MAX_PIXELS = 1 << 25

#: The LiDAR. It is never masked: a Frame holds its points or it does not.
LIDAR = "LIDAR_TOP"

#: All of them.
CHANNELS = (*CAMERAS, *RADARS, LIDAR)

#: The camera that fires last in a nuScenes rig. Its stamp is the reference time of a Frame in the
#: reader, in replay and in the node, so that all three form the same Frames (docs/decisions).
ANCHOR_CAMERA = "CAM_BACK_LEFT"

#: Who sets the time of a Frame: the first of these that is there. The cameras are in the reverse
#: of a nuScenes rig's firing order, so that a stand-in for the anchor still sees most of the
#: others' images of its turn. Radars come last: without any camera, Frames are at their times.
REFERENCES = (
    ANCHOR_CAMERA,
    *("CAM_BACK", "CAM_BACK_RIGHT", "CAM_FRONT_RIGHT", "CAM_FRONT", "CAM_FRONT_LEFT"),
    *RADARS,
)

#: Columns of one radar sweep, [N, 18]: what a nuScenes radar file holds, in its order.
RADAR_FIELDS = (
    *("x", "y", "z", "dyn_prop", "id", "rcs", "vx", "vy", "vx_comp", "vy_comp"),
    *("is_quality_valid", "ambig_state", "x_rms", "y_rms", "invalid_state", "pdh0"),
    *("vx_rms", "vy_rms"),
)

#: What the coded columns of a sweep are where nobody says them: a valid, unambiguous return whose
#: motion state is unknown, with the lowest false-alarm class. The network does not read the id and
#: the rms codes.
RADAR_DEFAULTS = {
    "dyn_prop": 4,
    "id": 0,
    "is_quality_valid": 1,
    "ambig_state": 3,
    "x_rms": 0,
    "y_rms": 0,
    "invalid_state": 0,
    "pdh0": 1,
    "vx_rms": 0,
    "vy_rms": 0,
}

#: Columns of Frame.radar, [N, 20]: a sweep's, then age and radar index.
RADAR_COLUMNS = (*RADAR_FIELDS, "age", "sensor")

#: Columns of Frame.lidar, [M, 5].
LIDAR_COLUMNS = ("x", "y", "z", "intensity", "age")

#: Intensity of the brightest LiDAR return.
FULL_INTENSITY = 255.0

#: Column of each name, in a sweep and in Frame.radar alike.
RADAR_COLUMN = {name: index for index, name in enumerate(RADAR_COLUMNS)}


def _columns(first: str, last: str) -> slice:
    return slice(RADAR_COLUMN[first], RADAR_COLUMN[last] + 1)


#: Neighbouring columns that are used together: position (m); velocity as measured against the
#: sensor, and with the vehicle's own motion taken out (m/s).
RADAR_XYZ = _columns("x", "z")
RADAR_VELOCITY = _columns("vx", "vy")
RADAR_COMPENSATED = _columns("vx_comp", "vy_comp")
RADAR_AGE, RADAR_SENSOR = RADAR_COLUMN["age"], RADAR_COLUMN["sensor"]
