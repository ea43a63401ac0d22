"""The publishers over DDS, and the settings that change while the node runs."""

from __future__ import annotations

import dataclasses
import time

import numpy as np
import pytest
import ros_rig

rclpy = pytest.importorskip("rclpy")

from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.lifecycle import LifecycleNode, LifecycleState  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from rclpy.qos import DurabilityPolicy, QoSProfile  # noqa: E402

from crkd_core import geometry  # noqa: E402
from crkd_core.boxes import Detections  # noqa: E402
from crkd_core.config import GridConfig  # noqa: E402
from crkd_core.data.nuscenes.classes import NUSCENES_CLASSES  # noqa: E402
from crkd_core.segments import Segments  # noqa: E402
from crkd_ros.convert import arrays, box_messages, ros_packages  # noqa: E402
from crkd_ros.convert.markers import MarkersConfig  # noqa: E402
from crkd_ros.motion.poses import MotionError, NoMotion  # noqa: E402
from crkd_ros.node.detector_node import DetectorNode  # noqa: E402
from crkd_ros.node.outputs import Outputs  # noqa: E402
from crkd_ros.node.transforms import Transforms  # noqa: E402
from crkd_ros.parameters.framing import MotionConfig  # noqa: E402
from crkd_ros.parameters.node import NodeConfig  # noqa: E402
from crkd_ros.parameters.outputs import RemapConfig, TrackingConfig  # noqa: E402
from crkd_ros.reporter import Reporter  # noqa: E402

START = 1_700_000_000_000_000_000
STEP = 83_333_333
PATIENCE = 120.0

GRID = "nav_msgs/msg/OccupancyGrid"
CLOUD, MARKERS = "sensor_msgs/msg/PointCloud2", "visualization_msgs/msg/MarkerArray"


def detections() -> Detections:
    return Detections(
        center=np.array([[10.0, 2, 0.5], [-30, 5, 1]]),
        size=np.ones((2, 3)),
        yaw=np.array([0.0, 1.0]),
        velocity=np.array([[3.0, 0], [0, -2]]),
        label=np.array([NUSCENES_CLASSES.index("car"), NUSCENES_CLASSES.index("trailer")]),
        score=np.array([0.9, 0.5]),
        classes=NUSCENES_CLASSES,
    )


@pytest.fixture
def ros():
    rclpy.init(args=[])
    yield
    rclpy.try_shutdown()


class Bench:
    """A lifecycle node with the outputs of a configuration, and somebody who listens."""

    def __init__(self, config: NodeConfig, *, place=None, drivable=False) -> None:
        self.reporter = Reporter()
        self.node = LifecycleNode("detector_node")
        self.outputs = Outputs(
            self.node,
            config=dataclasses.replace(config, classes=NUSCENES_CLASSES),
            motion=NoMotion(),
            place=place,
            drivable=drivable,
            reporter=self.reporter,
        )
        self.peer = rclpy.create_node("peer")
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.peer)

    def listen(self, kind: str, topic: str, profile=None) -> list:
        heard: list = []
        self.peer.create_subscription(
            ros_packages.message_class(kind), topic, heard.append, profile or QoSProfile(depth=10)
        )
        return heard

    def activate(self) -> None:
        state = LifecycleState(label="inactive", state_id=2)
        assert LifecycleNode.on_activate(self.node, state).name == "SUCCESS"
        self.outputs.announce()

    def wait(self, condition) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, "nothing came in time"
            self._executor.spin_once(timeout_sec=0.02)

    def send(self, heard: list, stamp_ns: int):
        """Publish, and the message that came of it."""
        before = len(heard)
        self.wait(self.outputs.wanted)
        self.outputs.publish(detections(), stamp_ns)
        self.wait(lambda: len(heard) > before)
        return heard[-1]

    def close(self) -> None:
        self.outputs.close()
        self._executor.shutdown()
        self.peer.destroy_node()
        self.node.destroy_node()
        self.node._state_machine = None  # See DetectorNode.destroy_node.


@pytest.fixture
def bench(ros):
    benches: list[Bench] = []

    def make(config: NodeConfig, **options) -> Bench:
        benches.append(Bench(config, **options))
        return benches[-1]

    yield make
    for one in benches:
        one.close()


def test_boxes_go_out_numbered_and_in_the_frame_that_was_asked_for(bench):
    odom_T_base = geometry.pose([100, 50, 0], geometry.yaw_to_quat_wxyz(0.5))
    config = NodeConfig(output_frame="odom", tracking=TrackingConfig(enabled=True))
    rig = bench(config, place=lambda stamp_ns: odom_T_base)
    boxes = rig.listen(CLOUD, "/detector_node/boxes")
    # Nothing leaves an inactive node.
    rig.wait(rig.outputs.wanted)
    rig.outputs.publish(detections(), START)
    rig.activate()
    for index in (1, 2, 3):
        cloud = rig.send(boxes, START + index * STEP)
        assert arrays.stamp_ns(cloud.header.stamp) == START + index * STEP
        assert cloud.header.frame_id == "odom"
        found = arrays.boxes_from_cloud(cloud, NUSCENES_CLASSES)
        expected = detections().transformed(odom_T_base)
        for field in ("center", "yaw", "velocity"):
            np.testing.assert_allclose(
                getattr(found, field), getattr(expected, field), rtol=1e-5, atol=1e-4
            )
        # Detections seen before the node was active count for the ids.
        assert ros_packages.read_points(cloud)["id"].tolist() == [1, 2]
    assert [arrays.stamp_ns(c.header.stamp) for c in boxes] == [
        START + i * STEP for i in (1, 2, 3)
    ]
    assert rig.reporter.take().problems == {}


@pytest.mark.parametrize(
    ("config", "frame"),
    [
        (NodeConfig(base_frame="/base_link"), "base_link"),
        (NodeConfig(base_frame="base_link", output_frame="/odom"), "odom"),
        (NodeConfig(base_frame="/car", output_frame="/"), "car"),
    ],
)
def test_frames_go_out_without_the_slash_that_tf2_refuses(bench, config, frame):
    rig = bench(config)
    boxes = rig.listen(CLOUD, "/detector_node/boxes")
    markers = rig.listen(MARKERS, "/detector_node/markers")
    rig.activate()
    assert rig.send(boxes, START).header.frame_id == frame
    rig.wait(lambda: markers)
    assert {one.header.frame_id for one in markers[0].markers} == {frame}


@pytest.mark.parametrize(("north", "told"), [(50_000.0, False), (5_412_345.0, True)])
def test_boxes_that_float32_cannot_place_are_told(bench, north, told):
    map_T_base = geometry.pose([500_123.0 if told else 0.0, north, 0], [1.0, 0, 0, 0])
    made = bench(NodeConfig(output_frame="utm"), place=lambda stamp_ns: map_T_base)
    heard = made.listen(CLOUD, "/detector_node/boxes")
    made.activate()
    for index in range(2):
        made.send(heard, START + index * STEP)
    problems = made.reporter.take().problems
    assert ("output_frame" in problems) is told
    if told:
        count, text = problems["output_frame"]
        assert count == 1
        assert "'utm' float32 goes in steps of 0.500 m: take ~/detections or ~/markers" in text


def test_settings_change_from_one_frame_to_the_next(bench):
    config = NodeConfig()
    rig = bench(config)
    markers = rig.listen(MARKERS, "/detector_node/markers")
    rig.activate()

    def texts(array):
        return [m.text for m in array.markers if m.action == 0 and m.ns == "labels"]

    assert texts(rig.send(markers, START)) == ["car 0.90", "trailer 0.50"]
    config = dataclasses.replace(
        config, remap=RemapConfig(classes={"trailer": "truck", "car": ""})
    )
    rig.outputs.configure(config)
    assert texts(rig.send(markers, START + STEP)) == ["truck 0.50"]
    config = dataclasses.replace(config, markers=MarkersConfig(labels=False))
    rig.outputs.configure(config)
    array = rig.send(markers, START + 2 * STEP)
    assert {m.ns for m in array.markers if m.action == 0} == {"boxes", "velocity"}


def test_markers_come_at_the_rate_that_was_asked_for(bench):
    rig = bench(NodeConfig(markers=MarkersConfig(rate=4.0)))
    boxes = rig.listen(CLOUD, "/detector_node/boxes")
    markers = rig.listen(MARKERS, "/detector_node/markers")
    rig.activate()
    rig.wait(lambda: all(p.get_subscription_count() for p, _ in rig.outputs._outputs[:2]))
    for index in range(10):
        rig.send(boxes, START + index * STEP)
    rig.send(boxes, START - 2 * STEP)  # A bag begins again.
    rig.wait(lambda: len(markers) >= 5)
    stamps = [round((arrays.stamp_ns(a.markers[0].header.stamp) - START) / STEP) for a in markers]
    assert stamps == [0, 3, 6, 9, -2]


def test_label_info_is_latched_and_follows_the_threshold(bench):
    pytest.importorskip("vision_msgs")
    rig = bench(NodeConfig(score_threshold=0.25))
    rig.activate()
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    # Subscribed after it was sent.
    heard = rig.listen("vision_msgs/msg/LabelInfo", "/detector_node/label_info", latched)
    rig.wait(lambda: len(heard) == 1)
    assert heard[0].threshold == pytest.approx(0.25)
    assert [c.class_name for c in heard[0].class_map] == list(NUSCENES_CLASSES)
    rig.outputs.configure(NodeConfig(score_threshold=0.5))
    rig.wait(lambda: len(heard) == 2)
    assert heard[1].threshold == 0.5


def test_detection_arrays_carry_ids_where_vision_msgs_is_installed(bench):
    pytest.importorskip("vision_msgs")
    rig = bench(NodeConfig(tracking=TrackingConfig(enabled=True, birth=1)))
    heard = rig.listen("vision_msgs/msg/Detection3DArray", "/detector_node/detections")
    rig.activate()
    array = rig.send(heard, START)
    assert [d.id for d in array.detections] == ["1", "2"]
    assert [d.results[0].hypothesis.class_id for d in array.detections] == ["car", "trailer"]


def test_objects_need_autowares_messages(bench):
    if ros_packages.installed("autoware_perception_msgs"):
        rig = bench(NodeConfig(objects=True))
        kind = "autoware_perception_msgs/msg/DetectedObjects"
        heard = rig.listen(kind, "/detector_node/objects")
        rig.activate()
        assert len(rig.send(heard, START).objects) == 2
    else:
        with pytest.raises(ros_packages.MessageError, match="autoware_perception_msgs"):
            bench(NodeConfig(objects=True))


def test_wrong_settings_are_refused_as_a_whole_with_the_reason(ros):
    node = DetectorNode()
    try:
        node.with_classes(NUSCENES_CLASSES)

        def change(**values) -> str:
            """The reason of the refusal, or nothing."""
            wanted = [Parameter(n.replace("__", "."), value=v) for n, v in values.items()]
            result = node.set_parameters_atomically(wanted)
            assert result.successful == (not result.reason)
            return result.reason

        assert not change(thresholds__ranges=[0.0, 30.0], thresholds__car=[0.2, 0.4])
        assert node.config.thresholds.least("car") == (0.2, 0.4)
        reason = change(thresholds__car=[0.1, 0.2, 0.3])
        assert "thresholds.car: expected one score, or one for each of the 2" in reason
        # Neither of two is taken where one is wrong.
        assert "remap.car" in change(remap__bus="truck", remap__car="van")
        assert node.get_parameter("remap.bus").value == "bus"
        assert node.config.remap.published("bus") == "bus"
        assert "rise from 0.0" in change(thresholds__ranges=[10.0, 5.0])
        assert not change(remap__bus="", markers__labels=False, tracking__enabled=True)
        assert node.config.remap.published("bus") == ""
        assert node.config.tracking.enabled
        assert not node.config.markers.labels
        # A type that the parameter does not have.
        assert change(thresholds__car=[1, 2])
        assert node.config.thresholds.least("car") == (0.2, 0.4)
    finally:
        node.destroy_node()


def odometry_of(transforms: Transforms) -> None:
    for index in range(3):
        pose = geometry.pose([index, 0, 0], geometry.yaw_to_quat_wxyz(0.1))
        transforms.motion.add(START + index * STEP, pose, parent="odom", child="base_link")


def test_the_place_in_the_output_frame_comes_from_odometry_or_is_refused(ros, tmp_path):
    ros_rig.calibration().save(tmp_path / "calibration.yaml")
    node = rclpy.create_node("transforms")
    config = NodeConfig(calibration_file=str(tmp_path / "calibration.yaml"))
    transforms = Transforms(node, config=config, reporter=Reporter())
    standing = dataclasses.replace(config, motion=MotionConfig(source="none"))
    still = Transforms(node, config=standing, reporter=Reporter())
    try:
        for name in ("", "base_link", "/base_link"):
            assert transforms.place(name) is None
            assert still.place(name) is None
        odometry_of(transforms)
        place = transforms.place("odom")
        assert place is not None
        np.testing.assert_allclose(place(START + STEP)[:3, 3], [1, 0, 0])
        with pytest.raises(MotionError, match="odometry is in 'odom'"):
            transforms.place("map")(START)
        with pytest.raises(MotionError, match="'map' needs to know how the vehicle moves"):
            still.place("map")
    finally:
        for one in (transforms, still):
            one.close()
        node.destroy_node()


def test_with_tf_any_upright_frame_will_do(ros, tmp_path):
    tf2_ros = pytest.importorskip("tf2_ros")
    node, peer = rclpy.create_node("transforms"), rclpy.create_node("peer")
    config = NodeConfig(motion=MotionConfig(source="tf"))
    transforms = Transforms(node, config=config, reporter=Reporter())
    executor = SingleThreadedExecutor()
    for one in (node, peer):
        executor.add_node(one)
    broadcaster = tf2_ros.StaticTransformBroadcaster(peer)
    try:
        messages = []
        for child, pose in {
            "base_link": geometry.pose([5, 6, 0], geometry.yaw_to_quat_wxyz(0.3)),
            "lying": geometry.pose([0, 0, 0], [0.5, -0.5, 0.5, -0.5]),
        }.items():
            message = ros_packages.make("geometry_msgs/msg/TransformStamped", child_frame_id=child)
            message.header.frame_id = "parking_lot"
            message.transform.translation = box_messages.vector(pose[:3, 3], ros_packages.make)
            turn = geometry.matrix_to_quat_wxyz(pose[:3, :3])
            rotation = message.transform.rotation
            rotation.w, rotation.x, rotation.y, rotation.z = (float(value) for value in turn)
            messages.append(message)
        broadcaster.sendTransform(messages)

        place, deadline = transforms.place("parking_lot"), time.monotonic() + PATIENCE
        while True:
            executor.spin_once(timeout_sec=0.02)
            try:
                np.testing.assert_allclose(place(START)[:2, 3], [5, 6])
                break
            except MotionError:
                assert time.monotonic() < deadline, "no transform came in time"
        with pytest.raises(MotionError, match="'lying' is tilted by 90 degrees"):
            transforms.place("lying")(START)
        with pytest.raises(MotionError, match="nowhere"):
            transforms.place("nowhere")(START)
    finally:
        transforms.close()
        executor.shutdown()
        node.destroy_node()
        peer.destroy_node()


def test_the_drivable_area_goes_out_to_whoever_listens_and_costs_nobody_else(bench):
    """It alone keeps the node busy, and is asked for only where somebody subscribes."""
    grid = GridConfig(low=(-4.0, -2.0, -5.0), high=(4.0, 2.0, 3.0), cell=1.0)
    said = Segments(
        classes=("drivable_area",),
        probability=np.linspace(0, 1, 32, dtype=np.float32).reshape(1, 8, 4),
        grid=grid,
        ego_T_grid=np.eye(4),
    )
    asked = []

    def segments():
        asked.append(1)
        return said

    rig = bench(
        NodeConfig(output_frame="odom"),
        place=lambda stamp_ns: geometry.pose([100, 50, 0], np.array([1.0, 0, 0, 0])),
        drivable=True,
    )
    rig.activate()
    assert not rig.outputs.wanted()
    rig.outputs.publish(detections(), START, segments)
    assert asked == []
    heard = rig.listen(GRID, "/detector_node/drivable_area")
    rig.wait(rig.outputs.wanted)
    rig.outputs.publish(detections(), START + STEP, segments)
    rig.wait(lambda: heard)
    assert asked == [1]
    (message,) = heard
    assert arrays.stamp_ns(message.header.stamp) == START + STEP
    assert message.header.frame_id == "odom"
    origin = message.info.origin.position
    assert (origin.x, origin.y, message.info.resolution) == (96.0, 48.0, 1.0)
    expected = np.rint(100 * (1 - said.probability[0].T)).ravel()
    np.testing.assert_array_equal(np.array(message.data), expected)


@pytest.mark.parametrize(
    ("config", "drivable"), [(NodeConfig(), False), (NodeConfig(drivable_area=False), True)]
)
def test_without_a_head_or_a_wish_nothing_is_advertised(bench, config, drivable):
    rig = bench(config, drivable=drivable)
    names = {name for name, _ in rig.node.get_topic_names_and_types()}
    assert "/detector_node/boxes" in names and "/detector_node/drivable_area" not in names
