"""What the real node publishes, over DDS: in a chosen frame, with ids, classes and thresholds."""

from __future__ import annotations

import numpy as np
import pytest
import ros_rig
from model_tiny import saved
from other_classes import TOY

pytest.importorskip("rclpy")

import node_rig
from node_rig import NAME, START, stamp_of

from crkd_core.data.nuscenes.classes import NUSCENES_CLASSES
from crkd_core.model.build import build_detector
from crkd_core.model.checkpoint import save_weights
from crkd_ros.convert import arrays, ros_packages

OFF = [1.0]


def drive(seconds: float):
    return ros_rig.drive(ros_packages.make, START, seconds)


@pytest.fixture(scope="module")
def process(tmp_path_factory):
    folder = tmp_path_factory.mktemp("node")
    # No frame is dropped because its odometry is still under way on a busy machine.
    bench = node_rig.Bench(
        folder,
        weights=str(saved(folder)),
        score_threshold=0.0,
        health={"period": 0.2},
        sync={"wait": 1.0},
    )
    bench.peer.advertise(drive(0.1))
    yield bench
    bench.close()


@pytest.fixture
def bench(process):
    yield process
    process.back()


def start(bench, **parameters) -> None:
    bench.fresh(**parameters)
    bench.wait(bench.peer.matched)
    bench.hear()


def test_the_same_boxes_in_axes_of_the_vehicle_and_of_the_map_with_ids(bench):
    events = drive(0.3)
    start(bench, output_frame="", tracking__enabled=False)
    references = bench.play(events)
    near = bench.boxes[:]
    bench.back()
    start(bench, output_frame="map", tracking__enabled=True, tracking__birth=1)
    assert bench.play(events) == references
    far = bench.boxes[:]
    assert [stamp_of(cloud) for cloud in far] == [stamp_of(cloud) for cloud in near] == references
    assert len(references) > 1
    owners: dict[int, int] = {}
    for here, there in zip(near, far, strict=True):
        assert (here.header.frame_id, there.header.frame_id) == ("base_link", "map")
        map_T_base = ros_rig.map_T_base(stamp_of(here))
        expected = arrays.boxes_from_cloud(here, NUSCENES_CLASSES).transformed(map_T_base)
        found = arrays.boxes_from_cloud(there, NUSCENES_CLASSES)
        assert len(found) == len(expected) > 0
        # float32 a kilometre from the origin of the map.
        np.testing.assert_allclose(found.center, expected.center, atol=2e-3)
        np.testing.assert_allclose(np.cos(found.yaw - expected.yaw), 1, atol=1e-6)
        np.testing.assert_allclose(found.velocity, expected.velocity, atol=1e-3)
        assert [field.name for field in here.fields] == list(arrays.BOX_FIELDS)
        ids = ros_packages.read_points(there)["id"]
        named = ids[ids > 0]
        assert len(named) == len(set(named.tolist())) > 0
        for number, label in zip(ids.tolist(), found.label.tolist(), strict=True):
            assert number == 0 or owners.setdefault(number, label) == label


def test_a_frame_that_odometry_does_not_know_is_refused_and_said(bench):
    start(bench, output_frame="odom", tracking__enabled=False)
    for topic, message in drive(0.2):
        bench.peer.publish(topic, message)
    said = "output_frame is 'odom' but odometry is in 'map'"
    bench.wait(lambda: said in str(bench.peer.status("problems")[1]))
    assert bench.boxes == []


def test_classes_and_thresholds_change_while_it_runs(bench):
    start(bench, output_frame="", tracking__enabled=False)
    assert "thresholds.car: expected one score" in bench.peer.set(thresholds__car=[0.1, 0.2])
    assert "remap.car: expected one of" in bench.peer.set(remap__car="van")
    bench.play(drive(0.2))
    seen = {
        NUSCENES_CLASSES[label]
        for label in arrays.boxes_from_cloud(bench.boxes[-1], NUSCENES_CLASSES).label
    }
    assert len(seen) > 1
    kept = sorted(seen)[0]
    others = sorted({*NUSCENES_CLASSES} - {kept})
    try:
        assert bench.peer.set(**{f"thresholds__{name}": OFF for name in others}) == ""
        renamed = "bus" if kept != "bus" else "car"
        assert bench.peer.set(**{f"remap__{kept}": renamed}) == ""
        count = len(bench.boxes)
        later = [event for event in drive(0.4) if stamp_of(event[1]) >= START + 200_000_000]
        bench.play(later)
        assert len(bench.boxes) > count
        published = arrays.boxes_from_cloud(bench.boxes[-1], NUSCENES_CLASSES)
        assert {NUSCENES_CLASSES[label] for label in published.label} == {renamed}
    finally:
        bench.peer.set(**{f"thresholds__{name}": [0.0] for name in others})
        bench.peer.set(**{f"remap__{kept}": kept})


def test_other_weights_bring_other_classes(bench, tmp_path):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    given = str(tmp_path / "toy.safetensors")
    save_weights(build_detector(TOY), given)
    before = bench.weights
    rider, van, walker = TOY.classes
    try:
        start(bench, output_frame="", tracking__enabled=True, weights=given)
        told = {str(label): name for label, name in enumerate(TOY.classes)}
        bench.wait(lambda: bench.peer.status("classes") == ("3 classes", told))
        assert bench.peer.set(thresholds__car=[0.1]) != ""
        assert f"remap.{van}: expected one of {rider}, {van}" in bench.peer.set(
            **{f"remap__{van}": "car"}
        )
        off = {f"thresholds__{name}": OFF for name in (rider, walker)}
        assert bench.peer.set(**off, **{f"remap__{van}": rider}) == ""
        bench.play(drive(0.2))
        published = arrays.boxes_from_cloud(bench.boxes[-1], TOY.classes)
        assert {TOY.classes[label] for label in published.label} == {rider}
        bench.back()
        # What was set for classes that are gone must not get lost unsaid.
        assert bench.peer.set(weights=before) == ""
        assert not bench.peer.change("configure")
        assert "but the weights have no class" in bench.process.output()
    finally:
        bench.back()
        plain = {f"thresholds__{name}": [0.0] for name in TOY.classes}
        bench.peer.set(weights=before, **plain, **{f"remap__{van}": van})


def test_objects_without_autowares_messages_are_refused_at_the_start(bench):
    if ros_packages.installed("autoware_perception_msgs"):
        start(bench, objects=True)
        kind = "autoware_perception_msgs/msg/DetectedObjects"
        heard = bench.peer.listen(kind, f"{NAME}/objects")
        bench.play(drive(0.2))
        bench.wait(lambda: heard)
        bench.back()
    else:
        assert bench.peer.set(objects=True) == ""
        assert not bench.peer.change("configure")
        assert "autoware_perception_msgs" in bench.process.output()
    assert bench.peer.set(objects=False) == ""
