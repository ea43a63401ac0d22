"""Whether a bag's pictures mean something, by their first messages and CameraInfo. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from crkd_ros.bags.foreign import contents
from crkd_ros.bags.foreign.kinds import Kind
from crkd_ros.bags.layout import Layout
from crkd_ros.bags.survey import Survey
from crkd_ros.convert.arrays import ConvertError
from crkd_ros.convert.camera_model import CameraModel, CamerasConfig
from crkd_ros.convert.images import picture_of


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """The images of a bag, as whoever makes frames of them will take them.

    Attributes:
        kind: who wrote the bag.
        cameras: how images and CameraInfo belong together.
        layout: its topics.
        survey: what they hold.
    """

    kind: Kind
    cameras: CamerasConfig
    layout: Layout
    survey: Survey

    def rectified(self, camera: str) -> bool:
        """Whether the images of a camera are rectified.

        All of nuScenes is rectified, whatever its converters call the topics; what a message says
        itself stands above that.
        """
        info = self.survey.infos.get(camera)
        theirs = self.kind not in (Kind.OURS, Kind.ROS2)
        guess = theirs and info is not None and contents.is_plain(info)
        return guess or self.cameras.of(camera).is_rectified(self.layout.images[camera].name)

    def unseen(self) -> dict[str, str]:
        """Camera -> why its images cannot be read, by the first of them that tells anything."""
        found = {}
        for camera, message in self._heads():
            try:
                picture_of(message)
            except ConvertError as error:
                found[camera] = str(error)
        return found

    def refused(self, others: Collection[str]) -> dict[str, str]:
        """Camera -> why its CameraInfo cannot be used for its images.

        Args:
            others: cameras that do without.
        """
        found, unseen = {}, self.unseen()
        for camera, message in self._heads():
            info = self.survey.infos.get(camera)
            if info is None or camera in others or not contents.is_calibrated(info):
                continue
            info = contents.whole_info(info, stamp=0, channel=camera.lower())
            try:
                model = CameraModel.of_info(info, rectified=self.rectified(camera))
                if camera not in unseen:
                    picture = picture_of(message)
                    model.check_size(picture.width, picture.height)
            except ConvertError as error:
                found[camera] = str(error)
        return found

    def _heads(self) -> list[tuple[str, Any]]:
        heads = self.survey.heads
        return [(camera, heads[camera]) for camera in self.layout.images if camera in heads]
