"""Parameters of the input topics. Launch files read them, in a Python that may lack torch."""

from __future__ import annotations

from dataclasses import dataclass

from crkd_ros.parameters.knobs import ParameterError, knob

#: Stands for the name of a sensor in topics. Braces would be a mapping for YAML, and so for
#: ``ros2 param set`` and for a file of ``ros2 param dump``.
SENSOR = "<sensor>"


@dataclass(frozen=True, kw_only=True)
class TopicsConfig:
    """Input topics; <sensor> becomes cam_front, radar_front and so on. Single ones: remap."""

    image_compressed: str = knob(
        "<sensor>/image_rect_compressed", "Topic of each camera with image_transport compressed"
    )
    image_raw: str = knob("<sensor>/image_rect", "Topic of each camera with image_transport raw")
    camera_info: str = knob("<sensor>/camera_info", "CameraInfo topic of each camera")
    radar: str = knob("<sensor>", "PointCloud2 topic of each radar")
    odometry: str = knob("odom", "Topic of nav_msgs/Odometry, for motion.source odom")

    def __post_init__(self) -> None:
        for name in ("image_compressed", "image_raw", "camera_info", "radar"):
            topic = getattr(self, name)
            if SENSOR not in topic:
                braces = " (braces are a mapping for YAML)" if "{sensor}" in topic else ""
                raise ParameterError(
                    f"topics.{name}: expected a topic with {SENSOR}{braces}, which becomes the "
                    f"name of each sensor, got {topic!r}; topics of other names: remap each one"
                )
