"""Parameters generated from dataclasses: one default each, the shipped file, errors."""

from __future__ import annotations

import dataclasses
import xml.etree.ElementTree

import pytest
import yaml
from flat import flat
from model_tiny import with_branches

from crkd_core.config import RadarConfig
from crkd_core.data.nuscenes.classes import NUSCENES_CLASSES
from crkd_core.infer.engines.files import write_export
from crkd_core.infer.engines.fixed import FixedNetwork
from crkd_core.infer.engines.inputs import Capacity
from crkd_core.infer.errors import EngineError
from crkd_core.model.build import build_detector
from crkd_core.presets import preset
from crkd_core.sensors import CAMERAS, RADARS
from crkd_ros.commands.options import for_weights
from crkd_ros.convert.camera_model import CamerasConfig
from crkd_ros.parameters import configuration, knobs
from crkd_ros.parameters.declaration import declare, declare_classes
from crkd_ros.parameters.framing import MotionConfig, SyncConfig
from crkd_ros.parameters.knobs import ParameterError
from crkd_ros.parameters.node import NodeConfig
from crkd_ros.parameters.outputs import GateConfig, RemapConfig, ThresholdsConfig
from crkd_ros.parameters.parameter_file import as_yaml


def test_every_parameter_has_a_description_and_a_name_of_the_ros_form():
    every = list(knobs.parameters(NodeConfig, classes=("car", "traffic_cone")))
    names = [parameter.name for parameter in every]
    assert len(set(names)) == len(names) > 20
    for parameter in every:
        assert parameter.name == parameter.name.lower()
        assert len(parameter.description) > 10
        numeric = parameter.kind in (int, float)
        assert numeric == (parameter.low is not None) == (parameter.high is not None)


def test_the_shipped_file_is_the_dataclass(request):
    path = request.config.rootpath / "config" / "detector.yaml"
    text = path.read_text()
    comments = [line for line in text.splitlines() if line.startswith("#")]
    body = "\n".join(text.splitlines()[len(comments) :])
    assert body.strip() == as_yaml(NodeConfig).strip(), (
        "config/detector.yaml is not what crkd_ros/parameters/node.py says; make it again with "
        "the command in its head"
    )
    values = dict(flat(yaml.safe_load(text)["/**"]["ros__parameters"]))
    assert configuration.build(NodeConfig, values) == NodeConfig()


def test_values_reach_the_field_of_their_name():
    config = configuration.build(
        NodeConfig,
        {"sync.wait": 0.2, "motion.source": "none", "sensors": ["CAM_FRONT"], "device": "cuda"},
    )
    assert config.sync == dataclasses.replace(SyncConfig(), wait=0.2)
    assert config.motion == MotionConfig(source="none")
    assert config.sensors == ("CAM_FRONT",)
    assert config.device == "cuda"
    assert configuration.build(NodeConfig, {}) == NodeConfig()
    assert NodeConfig().sensors == CAMERAS + RADARS


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"scor_threshold": 0.3}, "unknown parameter 'scor_threshold'; did you mean 'score_thr"),
        ({"score_threshold": 1.5}, r"score_threshold: expected 0\.0 to 0\.999, got 1\.5"),
        ({"score_threshold": float("nan")}, "score_threshold: .* got nan"),
        ({"decode_threads": -1}, "decode_threads: expected 0 to 64, got -1"),
        ({"motion.source": "gps"}, r"motion\.source: expected one of odom, tf, none, got 'gps'"),
        ({"sync.jump": -1.0}, r"sync\.jump: expected"),
        ({"sensors": ["CAM_TOP"]}, "sensors: expected some of CAM_FRONT, .*got CAM_TOP"),
        ({"sensors": []}, "sensors: .* got none"),
        ({"base_frame": "/"}, "base_frame: expected the name of the vehicle's frame, got '/'"),
        ({"topics.radar": "/radar"}, r"topics\.radar: expected a topic with <sensor>, which"),
        ({"topics.image_raw": "{camera}/image"}, r"topics\.image_raw: .*got '\{camera\}/image'"),
        ({"topics.camera_info": "{sensor}/info"}, r"a topic with <sensor> \(braces are a mapping"),
        ({"output_frame": "n"}, "output_frame: 'n' is a boolean for YAML"),
        ({"radar_fields.position": "x"}, "radar_fields.position: expected two or three"),
        ({"cameras.CAM_FRONT.bits": 17}, r"cameras\.CAM_FRONT\.bits: expected 0 to 16, got 17"),
        ({"cameras.CAM_FRONT.rectified": "y"}, r"CAM_FRONT\.rectified: expected one of auto, al"),
        ({"radar_fields.RADAR_TOP.rcs": "r"}, r"'radar_fields\.RADAR_TOP\.rcs'; did you mean"),
        ({"radar_fields.RADAR_FRONT.rc": "r"}, r"'radar_fields\.RADAR_FRONT\.rc'; did you mean"),
        ({"radar_fields.RADAR_FRONT.rcs": "no"}, r"RADAR_FRONT\.rcs: 'no' is a boolean for YAML"),
        ({"radar_fields.RADAR_FRONT.default_rcs": 99.0}, r"NT\.default_rcs: expected -50 to 50"),
        ({"radar_fields.RADAR_FRONT.vx": ""}, "given for RADAR_FRONT: .*vx and vy must both name"),
        ({"thresholds.tram": (1.5,)}, r"thresholds\.tram: expected one score"),
        ({"tracking.gate.tram": 99.0}, r"tracking\.gate\.tram: expected 0\.1 to 20\.0, got 99"),
        ({"tracking.tram": 1.0}, "unknown parameter 'tracking.tram'"),
    ],
)
def test_wrong_values_are_refused_by_name(values, text):
    with pytest.raises(ParameterError, match=text):
        configuration.build(NodeConfig, values)


def test_one_sensor_may_differ_from_the_others():
    given = {
        "radar_fields.rcs": "RCS",
        "radar_fields.RADAR_FRONT.doppler": "v_r",
        "radar_fields.RADAR_FRONT.degrees": True,
    }
    config = configuration.build(NodeConfig, given)
    front, back = (config.radar_fields.of(name) for name in ("RADAR_FRONT", "RADAR_BACK_LEFT"))
    assert (front.rcs, front.doppler, front.degrees) == ("RCS", "v_r", True)
    assert (back.rcs, back.doppler, back.degrees) == ("RCS", "", False)
    assert front.relative and not back.relative
    cameras = knobs.values(CamerasConfig(of_cameras={"CAM_BACK.rectified": "never"}), "cameras.")
    of_camera = configuration.build(NodeConfig, cameras).cameras.of
    assert (of_camera("CAM_BACK").rectified, of_camera("CAM_FRONT").rectified) == ("never", "auto")
    # As ros2 param dump and load have it.
    assert given.items() <= knobs.values(config).items()
    assert configuration.build(NodeConfig, knobs.values(config)) == config
    every = {one.name: one for one in knobs.parameters(NodeConfig, given=given)}
    told = every["radar_fields.RADAR_FRONT.doppler"]
    assert told.kind is str and told.description.startswith("Of RADAR_FRONT alone: Field of")
    other = {"radar_fields.RADAR_FRONT.doppler": "speed"}
    with pytest.raises(ParameterError, match=r"RADAR_FRONT\.doppler may change only while"):
        configuration.changed(config, other, only_dynamic=True)
    changed = configuration.changed(config, other, only_dynamic=False)
    assert changed.radar_fields.of("RADAR_FRONT").doppler == "speed"
    assert configuration.changed(
        config, {"markers.alpha": 0.5}, only_dynamic=True
    ).radar_fields == (config.radar_fields)


def test_the_number_of_sweeps_belongs_to_the_weights():
    assert "sync.sweeps" not in [p.name for p in knobs.parameters(NodeConfig)]
    student = preset("demo_student").detector
    three = dataclasses.replace(student, radar=RadarConfig(sweeps=3))
    assert NodeConfig().for_detector(three).sync.sweeps == 3


def test_only_sensors_that_the_weights_read_are_subscribed_to():
    config = NodeConfig(sensors=("CAM_BACK", "RADAR_FRONT"))
    seen = {
        name: config.for_detector(preset(name).detector).sensors
        for name in ("demo_student", "demo_camera", "demo_radar")
    }
    assert seen == {
        "demo_student": ("CAM_BACK", "RADAR_FRONT"),
        "demo_camera": ("CAM_BACK",),
        "demo_radar": ("RADAR_FRONT",),
    }
    with pytest.raises(ParameterError, match="demo_camera has branches for camera and reads none"):
        NodeConfig(sensors=("RADAR_FRONT",)).for_detector(preset("demo_camera").detector)


@pytest.mark.parametrize("name", ["demo_teacher", "demo_lidar"])
def test_weights_that_read_lidar_are_refused(name):
    with pytest.raises(ParameterError, match=f"weights: {name} reads LiDAR"):
        NodeConfig().for_detector(preset(name).detector)


def test_ros_shows_descriptions_ranges_and_what_may_change():
    rclpy = pytest.importorskip("rclpy")
    context = rclpy.Context()
    rclpy.init(args=[], context=context)
    node = rclpy.create_node("parameters", context=context)
    try:
        assert declare(node, NodeConfig) == NodeConfig()
        for parameter in knobs.parameters(NodeConfig):
            shown = node.describe_parameter(parameter.name)
            assert shown.description == parameter.description
            assert not shown.read_only
            assert ("unconfigured" in shown.additional_constraints) == (not parameter.dynamic)
            ranges = [*shown.floating_point_range, *shown.integer_range]
            limits = [(r.from_value, r.to_value) for r in ranges]
            assert limits == ([] if parameter.low is None else [(parameter.low, parameter.high)])
    finally:
        node.destroy_node()
        rclpy.shutdown(context=context)


CLASSES = ("tram", "cyclist")


@pytest.fixture
def node(request):
    """A node with the overrides of a test, as a launch file would give them."""
    rclpy = pytest.importorskip("rclpy")
    context = rclpy.Context()
    rclpy.init(args=[], context=context)
    overrides = [
        rclpy.parameter.Parameter(name, value=value)
        for name, value in getattr(request, "param", {}).items()
    ]
    node = rclpy.create_node("classes", context=context, parameter_overrides=overrides)
    yield node
    node.destroy_node()
    rclpy.shutdown(context=context)


def declared(node) -> set[str]:
    groups = ("thresholds.", "remap.", "tracking.gate.")
    return {name for name in node._parameters if name.startswith(groups)} - {"thresholds.ranges"}


def names(classes) -> set[str]:
    groups = ("thresholds.", "remap.", "tracking.gate.")
    return {group + name for group in groups for name in classes}


def test_every_class_of_the_weights_gets_its_parameters(node):
    config = declare(node, NodeConfig)
    assert declared(node) == set()
    config = declare_classes(node, config, CLASSES)
    assert declared(node) == names(CLASSES)
    assert config.classes == CLASSES
    assert node.get_parameter("remap.tram").value == "tram" == config.remap.published("tram")
    assert node.describe_parameter("thresholds.tram").description.startswith("Least score of a tr")
    shown = node.describe_parameter("tracking.gate.cyclist").floating_point_range[0]
    assert (shown.from_value, shown.to_value) == (0.1, 20.0)
    changed = configuration.changed(config, {"remap.tram": "cyclist"}, only_dynamic=True)
    assert changed.remap.published("tram") == "cyclist" and changed.classes == CLASSES
    with pytest.raises(ParameterError, match=r"remap\.tram: expected one of tram, cyclist or ''"):
        configuration.changed(config, {"remap.tram": "car"}, only_dynamic=True)


def test_other_weights_bring_other_parameters(node):
    config = declare_classes(node, declare(node, NodeConfig), NUSCENES_CLASSES)
    assert declared(node) == names(NUSCENES_CLASSES)
    config = declare_classes(node, config, ("car", *CLASSES))
    assert declared(node) == names(("car", *CLASSES))
    assert declare_classes(node, config, ("car", *CLASSES)) == config


@pytest.mark.parametrize(
    "node",
    [{"thresholds.tram": [0.4], "remap.car": "car", "remap.tram": "cyclist"}],
    indirect=True,
)
def test_what_was_given_at_the_start_holds_when_the_weights_are_known(node):
    config = declare(node, NodeConfig)
    assert declared(node) == {"thresholds.tram", "remap.car", "remap.tram"}
    # A default for a class that there is not says nothing: files with all defaults are fine.
    config = declare_classes(node, config, CLASSES)
    assert declared(node) == names(CLASSES)
    assert config.thresholds.least("tram") == (0.4,)
    assert config.remap.published("tram") == "cyclist"


@pytest.mark.parametrize("node", [{"tracking.gate.tram": 9.0}], indirect=True)
def test_what_was_taken_back_does_not_return_with_the_weights(node):
    config = declare_classes(node, declare(node, NodeConfig), CLASSES)
    default = config.tracking.gate.metres("car")
    config = configuration.changed(config, {"tracking.gate.tram": default}, only_dynamic=True)
    for classes in (NUSCENES_CLASSES, CLASSES):
        config = declare_classes(node, config, classes)
    shown = node.get_parameter("tracking.gate.tram").value
    assert shown == config.tracking.gate.metres("tram") == default


@pytest.mark.parametrize(
    ("node", "text"),
    [
        ({"thresholds.car": [0.4]}, r"thresholds\.car is set to .*no class 'car'.*tram, cyclist"),
        ({"thresholds.rangse": [0.4]}, "the weights have no class 'rangse'"),
        ({"remap.tram": "car"}, r"remap\.tram: expected one of tram, cyclist or '' .*got 'car'"),
        ({"tracking.gate.car": 3.5}, r"tracking\.gate\.car is set to 3\.5"),
    ],
    indirect=["node"],
)
def test_settings_for_classes_that_the_weights_lack_are_refused(node, text):
    config = declare(node, NodeConfig)
    before = declared(node)
    with pytest.raises(ParameterError, match=text):
        declare_classes(node, config, CLASSES)
    assert declared(node) == before


@pytest.mark.parametrize("node", [{"thresholds.tram": 0.4}, {"remap.tram": 3}], indirect=True)
def test_a_setting_of_another_type_is_refused_at_the_start(node):
    with pytest.raises(ParameterError, match=r"parameter (thresholds|remap)\.tram \("):
        declare(node, NodeConfig)


@pytest.mark.parametrize(
    ("node", "text"),
    [
        ({"sensors": None}, r"sensors: expected some of .* got none"),
        ({"thresholds.ranges": None}, r"thresholds\.ranges: expected metres .* got \[\]"),
        ({"thresholds.tram": None}, r"thresholds\.tram: expected one score"),
        ({"sync.wait": None}, r"sync\.wait: expected one value, got an empty list"),
        (
            {"qos_overrides./a.subscription.depth": None},
            r"depth: expected one value, got an empty",
        ),
        ({"use_sim_tme": True}, "unknown parameter 'use_sim_tme'; did you mean 'use_sim_time'"),
        ({"use_sim_time2": True}, "unknown parameter 'use_sim_time2'; did you mean 'use_sim_t"),
    ],
    indirect=["node"],
)
def test_empty_lists_and_misspelt_names_of_rclpy_are_refused_at_the_start(node, text):
    """Of an empty list, rcl makes None."""
    with pytest.raises(ParameterError, match=text):
        declare(node, NodeConfig)


def test_a_class_cannot_be_called_like_a_parameter(node):
    with pytest.raises(ParameterError, match=r"thresholds\.ranges is a parameter already"):
        declare_classes(node, declare(node, NodeConfig), ("ranges",))


def test_the_defaults_of_a_class():
    assert ThresholdsConfig().least("tram") == (0.0,)
    assert RemapConfig().published("tram") == "tram"
    gates = {name: GateConfig().metres(name) for name in ("Car", "truck", "traffic_cone", "tram")}
    assert gates == {"Car": 2.0, "truck": 3.0, "traffic_cone": 1.2, "tram": 2.0}


def test_a_change_is_checked_as_a_whole_and_leaves_the_parameters_of_others_alone():
    config = NodeConfig()
    changes = {"sync.wait": 0.2, "sensors": ["CAM_FRONT"], "use_sim_time": True}
    after = configuration.changed(config, changes, only_dynamic=False)
    assert after == configuration.build(NodeConfig, {"sync.wait": 0.2, "sensors": ["CAM_FRONT"]})
    with pytest.raises(ParameterError, match=r"sync\.wait: expected .* got 6\.0"):
        configuration.changed(config, {"sync.wait": 6.0, "device": "cuda"}, only_dynamic=False)


def test_while_configured_only_dynamic_parameters_change():
    config = NodeConfig()
    for name, value in (("device", "cuda"), ("sync.wait", 0.2), ("sensors", ["CAM_FRONT"])):
        with pytest.raises(ParameterError, match=f"{name} may change only .* unconfigured"):
            configuration.changed(config, {name: value}, only_dynamic=True)
    same = {"device": "cpu", "sensors": list(config.sensors), "score_threshold": 0.4}
    after = configuration.changed(config, same, only_dynamic=True)
    assert after == dataclasses.replace(config, score_threshold=0.4)


def test_shipped_files_can_be_read(request):
    root = request.config.rootpath
    xml.etree.ElementTree.parse(root / "config" / "fastdds.xml")
    displays = yaml.safe_load((root / "rviz" / "detector.rviz").read_text())
    shown = str(displays["Visualization Manager"]["Displays"])
    for name in ("/detector_node/markers", *(radar.lower() for radar in RADARS)):
        assert name in shown


def test_a_command_knows_the_sensors_of_an_exported_network(tmp_path):
    """Else it would wait for a node to subscribe to radars that its network does not read."""
    network = FixedNetwork(build_detector(with_branches("camera")).eval(), Capacity())
    write_export(network, tmp_path / "cameras.pt2")
    assert for_weights(NodeConfig(), tmp_path / "cameras.pt2").sensors == CAMERAS
    with pytest.raises(ParameterError, match="reads none of RADAR_FRONT"):
        for_weights(NodeConfig(sensors=("RADAR_FRONT",)), tmp_path / "cameras.pt2")
    (tmp_path / "cut.pt2").write_bytes((tmp_path / "cameras.pt2").read_bytes()[:1000])
    with pytest.raises(EngineError, match="cut off"):
        for_weights(NodeConfig(), tmp_path / "cut.pt2")
