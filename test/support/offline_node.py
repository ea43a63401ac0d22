"""What the node does with messages, without a node: each in its order, nothing late or lost."""

from __future__ import annotations

from pathlib import Path

import ros_rig
from node_rig import stamp_of

from crkd_core.boxes import Detections
from crkd_core.infer.detector import Detector
from crkd_core.infer.memory import Memory
from crkd_core.sensors import CAMERAS, RADARS
from crkd_ros import frames
from crkd_ros.convert import arrays, radar_clouds
from crkd_ros.convert.camera_model import CameraModel, prepared_image
from crkd_ros.motion.pose_buffer import PoseBuffer
from crkd_ros.sync.history import Arrival
from crkd_ros.sync.synchroniser import Synchronizer


def offline(events, weights: Path) -> dict[int, Detections]:
    """Reference stamp -> detections of (topic, message) in time order, from score 0.05 on."""
    detector = Detector.load(weights, score_threshold=0.05)
    sync, motion, found = Synchronizer(), PoseBuffer(), {}
    sensors = {name.lower(): name for name in CAMERAS + RADARS}
    calibration, models = ros_rig.calibration(), {}
    memory: Memory | None = None

    def detect(sets):
        nonlocal memory
        for frame_set in sets:
            frame = frames.frame_from_set(
                frame_set, extrinsics=calibration, motion=motion, image=detector.config.image
            )
            found[frame.stamp_ns], memory = detector.step(frame, memory)

    for topic, message in events:
        stamp, name = stamp_of(message), topic.split("/")[1]
        if topic == "/odom":
            motion.add(stamp, arrays.odometry_pose(message))
        elif "info" in topic:
            models[name] = CameraModel.of_info(message, rectified=True)
        elif "image" in topic:
            detect(sync.flush(before_ns=stamp))
            image = prepared_image(message, models[name], detector.config.image, camera=name)
            sync.add(sensors[name], Arrival(stamp, 0.0), image)
        elif "radar" in topic:
            detect(sync.flush(before_ns=stamp))
            sweep = radar_clouds.sweep(message, radar=name)
            sync.add(sensors[name], Arrival(stamp, 0.0), sweep)
    detect(sync.flush())
    return found
