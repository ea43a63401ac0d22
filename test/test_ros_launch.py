"""Launch files, parameter files, RViz and Foxglove: each name in them exists in the node."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import launch_rig
import pytest
import yaml

from crkd_core.frame import CAMERAS, RADARS
from crkd_ros import parameters
from crkd_ros.latency import PARTS
from crkd_ros.node_config import NodeConfig

ROOT = Path(__file__).resolve().parent.parent
#: What the files may name besides the detector's topics: topics of bags of crkd-bag.
OF_BAGS = {"/markers/annotations", "/lidar_top"}
without_launch = pytest.mark.skipif(launch_rig.REAL, reason="launch is installed")


def inputs() -> dict[str, str]:
    """Topic -> what it is, of every input under the default parameters."""
    topics = NodeConfig().topics
    found = {f"/{topics.odometry}": "odometry"}
    for camera in CAMERAS:
        for pattern in (topics.image_compressed, topics.image_raw, topics.camera_info):
            found["/" + pattern.format(sensor=camera.lower())] = camera
    for radar in RADARS:
        found["/" + topics.radar.format(sensor=radar.lower())] = radar
    return found


def outputs() -> set[str]:
    names = {"markers", "boxes", "detections", "objects", *(f"latency/{part}" for part in PARTS)}
    return {f"/detector_node/{name}" for name in names} | {"/diagnostics"}


def flat(tree, prefix=""):
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


# -- launch files ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["detect.launch.py", "replay.launch.py"])
def test_arguments_are_documented_and_used(name, monkeypatch):
    module = launch_rig.load(name, monkeypatch)
    source = (launch_rig.LAUNCH / name).read_text()
    names = [argument[0] for argument in module.ARGUMENTS]
    assert len(set(names)) == len(names) > 10
    # Those that are read by name, not in a loop over a table.
    tables = {entry[0] for entry in getattr(module, "PARAMETERS", ())}
    tables |= set(getattr(module, "OUTPUTS", ()))
    for argument, _, text in module.ARGUMENTS:
        assert len(text) > 15
        assert argument in tables or source.count(f'"{argument}"') >= 2, argument


def test_arguments_that_are_parameters_exist(monkeypatch):
    module = launch_rig.load("detect.launch.py", monkeypatch)
    known = {p.name: p for p in parameters.parameters(NodeConfig)}
    for name, kind, _ in module.PARAMETERS:
        full = {"tracking": "tracking.enabled"}.get(name, name)
        assert full == "use_sim_time" or known[full].kind is kind
    # What is not given must stay as the parameter file has it.
    assert all(default == "" for name, default, _ in module.ARGUMENTS[: len(module.PARAMETERS)])


def detect(monkeypatch, **given):
    """The actions of detect.launch.py for these arguments."""
    module = launch_rig.load("detect.launch.py", monkeypatch)
    values = {name: default for name, default, _ in module.ARGUMENTS}
    values["config"] = "node.yaml"
    return module.nodes(launch_rig.Context({**values, **given}))


@without_launch
def test_without_arguments_the_parameter_file_rules(monkeypatch):
    (node,) = detect(monkeypatch)
    assert node.kind == "Node"
    assert node.kwargs["executable"] == "detector_node"
    assert node.kwargs["parameters"] == ["node.yaml"]
    assert node.kwargs["remappings"] == [] and node.kwargs["namespace"] == ""


@without_launch
def test_arguments_stand_above_the_parameter_file(monkeypatch):
    (node,) = detect(
        monkeypatch,
        weights="0123",
        use_sim_time="True",
        tracking="false",
        namespace="car",
        boxes="/perception/boxes",
        log_level="debug",
    )
    file, chosen = node.kwargs["parameters"]
    assert file == "node.yaml"
    assert chosen["use_sim_time"] is True and chosen["tracking.enabled"] is False
    assert (chosen["weights"].args, chosen["weights"].kwargs) == (("0123",), {"value_type": str})
    assert set(chosen) == {"weights", "use_sim_time", "tracking.enabled"}
    assert node.kwargs["remappings"] == [("~/boxes", "/perception/boxes")]
    assert node.kwargs["namespace"] == "car"
    assert node.kwargs["arguments"] == ["--ros-args", "--log-level", "debug"]


@without_launch
def test_a_lifecycle_node_is_configured_then_activated(monkeypatch):
    from types import SimpleNamespace as Namespace

    activate, configure, node = detect(monkeypatch, lifecycle="true")
    assert node.kind == "LifecycleNode"
    assert node.kwargs["executable"] == "lifecycle_detector_node"

    def transition(emit):
        return emit.kwargs["event"].kwargs["transition_id"]

    on_start = configure.args[0]
    assert on_start.kind == "OnProcessStart" and on_start.kwargs["target_action"] is node
    assert [transition(e) for e in on_start.kwargs["on_start"]] == [1]
    on_state = Namespace(**activate.args[0].kwargs)
    assert on_state.target_lifecycle_node is node
    assert (on_state.start_state, on_state.goal_state) == ("configuring", "inactive")
    assert [transition(e) for e in on_state.entities] == [3]
    (alone,) = detect(monkeypatch, lifecycle="true", autostart="false")
    assert alone.kind == "LifecycleNode"


@without_launch
def test_viewers_are_opened_when_asked_for(monkeypatch):
    _, rviz, bridge = detect(monkeypatch, rviz="true", foxglove="1", use_sim_time="true")
    assert rviz.kwargs["package"] == "rviz2"
    assert bridge.kwargs["executable"] == "foxglove_bridge"
    assert rviz.kwargs["parameters"] == bridge.kwargs["parameters"] == [{"use_sim_time": True}]


def test_switches_are_true_or_false(monkeypatch):
    with pytest.raises(RuntimeError, match="argument rviz: expected true or false, got 'maybe'"):
        detect(monkeypatch, rviz="maybe")


def replayed(monkeypatch, **given):
    module = launch_rig.load("replay.launch.py", monkeypatch)
    values = {name: default or "" for name, default, _ in module.ARGUMENTS}
    return module, launch_rig.Context({**values, "bag": "a/bag", **given})


@without_launch
def test_the_bag_is_played_with_clock(monkeypatch):
    module, context = replayed(monkeypatch, rate="0.5")
    end, player = module.play(context)
    command = player.kwargs["cmd"]
    assert command[:4] == ["ros2", "bag", "play", "a/bag"]
    assert command[command.index("--rate") + 1] == "0.5"
    assert float(command[command.index("--clock") + 1]) >= 100
    assert "--loop" not in command and "--start-offset" not in command
    # Without an evaluator the end of the bag is the end.
    assert end.args[0].kwargs["target_action"] is player
    module, context = replayed(monkeypatch, loop="true", start_offset="3.5", keep_open="true")
    (player,) = module.play(context)
    command = player.kwargs["cmd"]
    assert "--loop" in command and command[command.index("--start-offset") + 1] == "3.5"


@without_launch
def test_the_evaluator_is_started_where_there_is_a_data_set(monkeypatch):
    module, context = replayed(monkeypatch)
    assert module.evaluate(context) == []
    module, context = replayed(monkeypatch, data="worlds/val", split="world_all")
    end, evaluator = module.evaluate(context)
    assert end.args[0].kwargs["target_action"] is evaluator
    (chosen,) = evaluator.kwargs["parameters"]
    from crkd_ros.live.evaluator import EvaluatorConfig

    assert set(chosen) <= {p.name for p in parameters.parameters(EvaluatorConfig)}
    assert chosen["split"].args == ("world_all",)
    (player,) = module.play(context)
    assert player.kind == "ExecuteProcess"


@without_launch
def test_playing_starts_once_when_the_detector_says_ready(monkeypatch):
    module, _ = replayed(monkeypatch)
    made = module.generate_launch_description().args[0]
    handler = next(m for m in made if m.kind == "RegisterEventHandler").args[0]
    tell = handler.kwargs["on_stderr"]
    assert tell(SimpleNamespace(text=b"[INFO] loading")) is None
    (action,) = tell(SimpleNamespace(text=b"[INFO] [1.2] [detector_node]: ready: x.safetensors"))
    assert action.kwargs["function"] is module.play
    assert tell(SimpleNamespace(text=b"ready: again")) is None
    # The word is the node's own.
    sources = [path.read_text() for path in (ROOT / "crkd_ros").glob("*.py")]
    assert sum(f'f"{module.READY.decode()}' in source for source in sources) == 1


@pytest.mark.parametrize("name", ["detect.launch.py", "replay.launch.py"])
def test_launch_takes_the_description(name, monkeypatch):
    pytest.importorskip("launch_ros")
    module = launch_rig.load(name, monkeypatch)
    description = module.generate_launch_description()
    own = {a.name for a in description.entities if hasattr(a, "default_value")}
    assert own == {argument[0] for argument in module.ARGUMENTS}


@pytest.mark.parametrize("given", [{}, {"lifecycle": "true", "rviz": "true", "boxes": "/b"}])
def test_launch_takes_the_nodes(given, monkeypatch):
    pytest.importorskip("launch_ros")
    from launch_ros.actions import Node

    module = launch_rig.load("detect.launch.py", monkeypatch)
    from launch import LaunchContext

    context = LaunchContext()
    values = {name: default for name, default, _ in module.ARGUMENTS}
    context.launch_configurations.update({**values, "config": "node.yaml", **given})
    actions = module.nodes(context)
    detector = next(a for a in actions if isinstance(a, Node))
    assert detector.node_package == "crkd_ros"
    assert len(actions) == (4 if given else 1)


# -- files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["replay.yaml", "vehicle.yaml"])
def test_parameter_files_hold_known_parameters(name):
    tree = yaml.safe_load((ROOT / "config" / name).read_text())
    assert list(tree) == ["/**"] and list(tree["/**"]) == ["ros__parameters"]
    values = tree["/**"]["ros__parameters"]
    overrides = values.pop("qos_overrides", {})
    values.pop("use_sim_time", None)
    parameters.build(NodeConfig, dict(flat(values)))
    raw = {f"/{NodeConfig().topics.image_raw.format(sensor=name.lower())}" for name in CAMERAS}
    assert not overrides or set(overrides) == set(inputs()) - raw


def test_the_overrides_of_replay_reach_subscriptions_and_private_names_can_be_remapped():
    rclpy = pytest.importorskip("rclpy")
    from rclpy.qos import QoSReliabilityPolicy, qos_profile_sensor_data
    from rclpy.qos_overriding_options import QoSOverridingOptions
    from sensor_msgs.msg import CameraInfo

    context = rclpy.Context()
    arguments = ["--params-file", str(ROOT / "config" / "replay.yaml")]
    rclpy.init(args=["--ros-args", *arguments, "-r", "~/boxes:=/car/boxes"], context=context)
    node = rclpy.create_node("detector_node", context=context)
    try:
        node.create_subscription(
            CameraInfo,
            "cam_back/camera_info",
            lambda message: None,
            qos_profile_sensor_data,
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )
        (found,) = node.get_subscriptions_info_by_topic("/cam_back/camera_info")
        assert found.qos_profile.reliability == QoSReliabilityPolicy.RELIABLE
        assert node.get_parameter("use_sim_time").value is True
        assert node.resolve_topic_name("~/boxes") == "/car/boxes"
    finally:
        node.destroy_node()
        rclpy.shutdown(context=context)


def test_foxglove_shows_topics_that_exist_in_panels_that_exist():
    layout = json.loads((ROOT / "foxglove" / "detector.json").read_text())
    panels = layout["configById"]
    known = set(inputs()) | outputs() | OF_BAGS

    def shown(place):
        if isinstance(place, str):
            return [place]
        return shown(place["first"]) + shown(place["second"])

    assert sorted(shown(layout["layout"])) == sorted(panels)
    used = set()
    for name, panel in panels.items():
        used |= set(panel.get("topics", {}))
        if name.startswith("Image!"):
            used |= {panel["imageMode"]["imageTopic"], panel["imageMode"]["calibrationTopic"]}
        if name.startswith("Plot!"):
            used |= {path["value"].removesuffix(".data") for path in panel["paths"]}
        if name.startswith("Diagnostic"):
            used.add(panel["topicToRender"])
    assert used <= known, used - known
    assert sum(name.startswith("Image!") for name in panels) == len(CAMERAS)
    latencies = {topic for topic in outputs() if "/latency/" in topic}
    assert latencies | {"/detector_node/markers", "/diagnostics"} <= used


def test_rviz_shows_topics_that_exist():
    tree = yaml.safe_load((ROOT / "rviz" / "detector.rviz").read_text())

    def topics(displays):
        for display in displays:
            yield from topics(display.get("Displays", ()))
            if "Topic" in display:
                yield display["Topic"]["Value"], display

    shown = dict(topics(tree["Visualization Manager"]["Displays"]))
    known = set(inputs()) | outputs() | OF_BAGS
    assert set(shown) <= known
    wanted = {topic for topic, sensor in inputs().items() if sensor in RADARS}
    wanted |= {t for t in inputs() if t.endswith("/image_rect")} | OF_BAGS
    assert wanted | {"/detector_node/markers"} == set(shown)
    from crkd_ros.markers import NAMESPACES

    assert set(shown["/detector_node/markers"]["Namespaces"]) == set(NAMESPACES)
