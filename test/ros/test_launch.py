"""Launch files, parameter files, RViz and Foxglove: each name in them exists in the node."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import launch_rig
import pytest
import yaml
from flat import flat

from crkd_core.sensors import CAMERAS, RADARS
from crkd_ros.node.latency import PARTS
from crkd_ros.parameters import configuration, knobs
from crkd_ros.parameters.node import NodeConfig
from crkd_ros.parameters.topics import SENSOR
from crkd_ros.streaming_eval import players

ROOT = Path(__file__).resolve().parents[2]
CONFIG = str(ROOT / "config" / "vehicle.yaml")
#: What the files may name besides the detector's topics: topics of bags of crkd bag.
OF_BAGS = {"/markers/annotations", "/lidar_top"}
without_launch = pytest.mark.skipif(launch_rig.REAL, reason="launch is installed")


def inputs() -> dict[str, str]:
    """Topic -> what it is, of every input under the default parameters."""
    topics = NodeConfig().topics
    found = {f"/{topics.odometry}": "odometry"}
    for camera in CAMERAS:
        for pattern in (topics.image_compressed, topics.image_raw, topics.camera_info):
            found["/" + pattern.replace(SENSOR, camera.lower())] = camera
    for radar in RADARS:
        found["/" + topics.radar.replace(SENSOR, radar.lower())] = radar
    return found


def outputs() -> set[str]:
    names = {"markers", "boxes", "detections", "objects", "drivable_area"}
    names |= {f"latency/{part}" for part in PARTS}
    return {f"/detector_node/{name}" for name in names} | {"/diagnostics"}


#: The callbacks of a Recorder.
RECORDS = ("on_clock", "on_odometry", "on_boxes", "on_diagnostics")


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
    known = {p.name: p for p in knobs.parameters(NodeConfig)}
    for name, kind, _ in module.PARAMETERS:
        full = {"tracking": "tracking.enabled"}.get(name, name)
        assert full == "use_sim_time" or known[full].kind is kind
    # What is not given must stay as the parameter file has it.
    assert all(default == "" for name, default, _ in module.ARGUMENTS[: len(module.PARAMETERS)])


def detect(monkeypatch, **given):
    """The actions of detect.launch.py for these arguments."""
    module = launch_rig.load("detect.launch.py", monkeypatch)
    values = {name: default for name, default, _ in module.ARGUMENTS}
    values["config"] = CONFIG
    return module.nodes(launch_rig.Context({**values, **given}))


#: What `ros2 launch` has for certain: its Python is the system's, whichever one is active.
OF_ROS = {"numpy", "PyYAML", "crkd_ros", "crkd-ros"}
LOADED = """
import sys
import types
from importlib.metadata import packages_distributions

import launch_rig

patch = types.SimpleNamespace(setitem=lambda table, key, value: table.update({key: value}))
here = {*sys.modules}
for name in ("detect.launch.py", "replay.launch.py"):
    module = launch_rig.load(name, patch)
    module.generate_launch_description()
    values = {name: default for name, default, _ in module.ARGUMENTS}
    context = launch_rig.Context({**values, "bag": "b", "config": CONFIG, "rviz": "true"})
    getattr(module, "nodes", lambda _: None)(context)
owners = packages_distributions()
for name in sorted({name.partition(".")[0] for name in {*sys.modules} - here}):
    print(*owners.get(name, ()))
"""


@without_launch
def test_launch_files_need_nothing_but_what_comes_with_ros():
    done = subprocess.run(
        [sys.executable, "-c", LOADED.replace("CONFIG", repr(CONFIG))],
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'test' / 'support'}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "PyYAML" in (found := {*done.stdout.split()})
    assert not found - OF_ROS


@without_launch
def test_without_arguments_the_parameter_file_rules(monkeypatch):
    _, node = detect(monkeypatch)
    assert node.kind == "Node"
    assert node.kwargs["executable"] == "detector_node"
    assert node.kwargs["parameters"] == [CONFIG]
    assert node.kwargs["remappings"] == [] and node.kwargs["namespace"] == ""


@without_launch
def test_arguments_stand_above_the_parameter_file(monkeypatch):
    _, node = detect(
        monkeypatch,
        weights="0123",
        use_sim_time="True",
        tracking="false",
        namespace="car",
        boxes="/perception/boxes",
        log_level="debug",
    )
    file, chosen = node.kwargs["parameters"]
    assert file == CONFIG
    assert chosen["use_sim_time"] is True and chosen["tracking.enabled"] is False
    assert (chosen["weights"].args, chosen["weights"].kwargs) == (("0123",), {"value_type": str})
    assert set(chosen) == {"weights", "use_sim_time", "tracking.enabled"}
    assert node.kwargs["remappings"] == [("~/boxes", "/perception/boxes")]
    assert node.kwargs["namespace"] == "car"
    assert node.kwargs["arguments"] == ["--ros-args", "--log-level", "debug"]


@without_launch
def test_rviz_looks_where_the_node_publishes_and_listens(monkeypatch):
    shown = {
        value["Topic"]["Value"] if isinstance(value.get("Topic"), dict) else None
        for value in yaml.safe_load((ROOT / "rviz" / "detector.rviz").read_text())[
            "Visualization Manager"
        ]["Displays"]
    }
    assert "/detector_node/markers" in shown

    def remapped(**given):
        *_, rviz = detect(monkeypatch, rviz="true", **given)
        return dict(rviz.kwargs["remappings"])

    # The vehicle's file has other topics than the defaults, with which the file of RViz was made.
    assert remapped()["/radar_front"] == "/radar_front/points"
    assert "/detector_node/markers" not in remapped()
    car = remapped(namespace="car", boxes="/perception/boxes")
    assert car["/detector_node/markers"] == "/car/detector_node/markers"
    assert car["/detector_node/boxes"] == "/perception/boxes"
    assert car["/cam_back/image_rect"] == "/car/cam_back/image_rect"
    assert car["/radar_front"] == "/car/radar_front/points"
    assert remapped(markers="boxes3d")["/detector_node/markers"] == "/boxes3d"
    default = remapped(config=str(ROOT / "config" / "detector.yaml"))
    assert default == {}


@without_launch
def test_a_parameter_file_that_is_not_there_is_refused(monkeypatch):
    with pytest.raises(RuntimeError, match=r"argument config: there is no file nowhere\.yaml"):
        detect(monkeypatch, config="nowhere.yaml")


@without_launch
def test_the_transitions_can_be_left_to_others(monkeypatch):
    _, node = detect(monkeypatch, autostart="false")
    assert node.kwargs["parameters"][1] == {"autostart": False}


def reason(entities) -> str:
    """Why these shut everything down; launch prints it only when told to."""
    told, stop = entities
    found = stop.kwargs["event"].kwargs["reason"]
    assert stop.kwargs["event"].kind == "Shutdown"
    assert told.kind == "LogInfo" and told.kwargs["msg"] == f"shutting down: {found}"
    return found


def on_exit(registered, process):
    """What happens when this process ends: exit code, whether launch is ending -> entities."""
    handler = registered.args[0]
    assert handler.kind == "OnProcessExit" and handler.kwargs["target_action"] is process

    def end(code, *, ending=False):
        event, context = SimpleNamespace(returncode=code), SimpleNamespace(is_shutdown=ending)
        return handler.kwargs["on_exit"](event, context)

    return end


@without_launch
def test_the_end_of_the_detector_is_the_end_of_all(monkeypatch):
    *_, registered, node = detect(monkeypatch)
    end = on_exit(registered, node)
    assert reason(end(1)) == "the detector ended with exit code 1"
    assert reason(end(0)) == "the detector ended with exit code 0"
    assert end(1, ending=True) is None


@without_launch
def test_viewers_are_opened_when_asked_for(monkeypatch, tmp_path):
    def clocks(text, **given):
        file = tmp_path / "node.yaml"
        file.write_text(text)
        viewers = {"rviz": "true", "foxglove": "1"}
        *_, rviz, bridge = detect(monkeypatch, config=str(file), **viewers, **given)
        assert rviz.kwargs["package"] == "rviz2"
        assert bridge.kwargs["executable"] == "foxglove_bridge"
        assert rviz.kwargs["parameters"] == bridge.kwargs["parameters"]
        (chosen,) = rviz.kwargs["parameters"]
        return chosen["use_sim_time"]

    sim = "{ros__parameters: {use_sim_time: true}}"
    assert clocks("", use_sim_time="true") is True
    # What the argument leaves open is as the detector has it.
    assert clocks("") is False
    assert clocks(f"/**: {sim}") is True
    assert clocks(f"/**: {sim}", use_sim_time="false") is False
    assert clocks(f"/other: {sim}") is False
    assert clocks(f"/car/detector_node: {sim}", namespace="/car") is True
    assert clocks(f"/car/detector_node: {sim}") is False
    assert clocks((ROOT / "config" / "replay.yaml").read_text()) is True


@without_launch
def test_switches_are_true_or_false(monkeypatch):
    with pytest.raises(RuntimeError, match="argument rviz: expected true or false, got 'maybe'"):
        detect(monkeypatch, rviz="maybe")


def replayed(monkeypatch, **given):
    module = launch_rig.load("replay.launch.py", monkeypatch)
    values = {name: default or "" for name, default, _ in module.ARGUMENTS}
    values["config"] = str(ROOT / "config" / "replay.yaml")
    return module, launch_rig.Context({**values, "bag": "a/bag", **given})


@without_launch
def test_the_bag_is_played_with_clock(monkeypatch):
    module, context = replayed(monkeypatch, rate="0.5")
    end, player = module.play(context)
    # The command line of crkd live.
    assert player.kwargs["cmd"] == players.ros2_play_command("a/bag", rate=0.5)
    # Without an evaluator the end of the bag is the end.
    end = on_exit(end, player)
    assert reason(end(0)) == "the bag is over"
    assert reason(end(2)) == "the player failed with exit code 2"
    assert end(2, ending=True) is None
    module, context = replayed(monkeypatch, loop="true", start_offset="3.5", keep_open="true")
    end, player = module.play(context)
    end = on_exit(end, player)
    assert end(0) is None
    assert reason(end(2)) == "the player failed with exit code 2"
    assert player.kwargs["cmd"] == players.ros2_play_command(
        "a/bag", rate=1.0, start_offset=3.5, loop=True
    )


@without_launch
@pytest.mark.parametrize(
    ("names", "expected", "texts"),
    [
        (("rate", "start_offset"), "a finite number", ("fast", "nan", "1,5")),
        (("loop", "keep_open"), "true or false", ("yes", "on", "tru")),
    ],
)
def test_arguments_of_a_replay_are_what_they_should_be(names, expected, texts, monkeypatch):
    for name, text in itertools.product(names, texts):
        module, context = replayed(monkeypatch, **{name: text})
        with pytest.raises(RuntimeError, match=f"argument {name}: expected {expected}, got"):
            module.play(context)


@without_launch
def test_the_evaluator_is_started_where_there_is_a_data_set(monkeypatch):
    module, context = replayed(monkeypatch)
    assert module.evaluate(context) == []
    module, context = replayed(monkeypatch, data="worlds/val", split="world_all")
    end, evaluator = module.evaluate(context)
    end = on_exit(end, evaluator)
    assert reason(end(0)) == "the bag is over"
    assert reason(end(1)) == "the evaluator failed with exit code 1"
    (chosen,) = evaluator.kwargs["parameters"]
    from crkd_ros.streaming_eval.evaluator import EvaluatorConfig

    assert set(chosen) <= {p.name for p in knobs.parameters(EvaluatorConfig)}
    assert chosen["split"].args == ("world_all",) and chosen["overwrite"] is False
    assert evaluator.kwargs["remappings"] == [] and evaluator.kwargs["namespace"] == ""
    # The evaluator hears the bag out; a player that fails leaves it nothing to hear.
    end, player = module.play(context)
    assert player.kind == "ExecuteProcess"
    assert on_exit(end, player)(0) is None
    assert reason(on_exit(end, player)(1)) == "the player failed with exit code 1"


@without_launch
def test_the_evaluator_listens_where_the_detector_speaks(monkeypatch, tmp_path):
    def evaluator(text="", **given):
        file = tmp_path / "node.yaml"
        file.write_text(text)
        world = {"data": "worlds/val", "split": "world_all", "config": str(file)}
        module, context = replayed(monkeypatch, **world, **given)
        return module.evaluate(context)[1].kwargs

    made = evaluator(namespace="car", boxes="/perception/boxes")
    assert made["namespace"] == "car"
    assert made["remappings"] == [("detector_node/boxes", "/perception/boxes")]
    # Private names are those of the detector.
    (pair,) = evaluator(boxes="~/found")["remappings"]
    assert pair == ("detector_node/boxes", "detector_node/found")
    made = evaluator(
        "detector_node: {ros__parameters: {topics: {odometry: /can/odom}, base_frame: ego}}"
    )
    assert made["remappings"] == [("odom", "/can/odom")]
    assert made["parameters"][0]["base_frame"].args == ("ego",)
    # These names are the evaluator's own.
    from crkd_ros.streaming_eval import session
    from crkd_ros.streaming_eval.evaluator import EvaluatorConfig

    topics = []
    node = SimpleNamespace(create_subscription=lambda _, topic, *__, **___: topics.append(topic))
    pytest.importorskip("rclpy")
    session.subscribe(
        node,
        SimpleNamespace(**dict.fromkeys(RECORDS)),
        detector=EvaluatorConfig.detector,
        receiver=SimpleNamespace(group=None, add=lambda *_, **__: None),
    )
    assert {"detector_node/boxes", "odom"} <= set(topics)


@without_launch
def test_playing_starts_once_when_the_detector_is_active(monkeypatch):
    module, _ = replayed(monkeypatch)
    made = module.generate_launch_description().args[0]
    handler = next(m for m in made if m.kind == "RegisterEventHandler").args[0]
    assert set(handler.kwargs) == {"on_stdout"}

    def tell(text, process="detector_node-2"):
        return handler.kwargs["on_stdout"](SimpleNamespace(text=text, process_name=process))

    said = module.ACTIVE + b"\n"
    assert tell(b"detector_node: loading\n") is None
    assert tell(said, "evaluator-1") is None and tell(said, "my_detector_node-3") is None
    (action,) = tell(said)
    assert action.kwargs["function"] is module.play
    assert tell(said) is None
    *_, node = detect(monkeypatch)
    assert node.kwargs["exec_name"] == node.kwargs["name"] == module.DETECTOR


def test_the_node_says_at_every_log_level_that_it_is_active(monkeypatch, capsys):
    pytest.importorskip("rclpy")
    from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn

    from crkd_ros.node.detector_node import DetectorNode

    module = launch_rig.load("replay.launch.py", monkeypatch)
    node = DetectorNode.__new__(DetectorNode)
    node._live = SimpleNamespace(start=lambda: None, announce=lambda: None)
    monkeypatch.setattr(LifecycleNode, "on_activate", None)
    for result in (TransitionCallbackReturn.FAILURE, TransitionCallbackReturn.SUCCESS):
        assert capsys.readouterr().out == ""
        node._enter = lambda *_, result=result: result
        assert node.on_activate(None) == result
    assert capsys.readouterr().out.encode() == module.ACTIVE + b"\n"


@pytest.mark.parametrize("name", ["detect.launch.py", "replay.launch.py"])
def test_launch_takes_the_description(name, monkeypatch):
    pytest.importorskip("launch_ros")
    module = launch_rig.load(name, monkeypatch)
    description = module.generate_launch_description()
    own = {a.name for a in description.entities if hasattr(a, "default_value")}
    assert own == {argument[0] for argument in module.ARGUMENTS}


@pytest.mark.parametrize("given", [{}, {"autostart": "false", "rviz": "true", "boxes": "/b"}])
def test_launch_takes_the_nodes(given, monkeypatch):
    pytest.importorskip("launch_ros")
    from launch_ros.actions import Node

    module = launch_rig.load("detect.launch.py", monkeypatch)
    from launch import LaunchContext

    context = LaunchContext()
    values = {name: default for name, default, _ in module.ARGUMENTS}
    values["config"] = str(ROOT / "config" / "replay.yaml")
    context.launch_configurations.update({**values, **given})
    actions = module.nodes(context)
    detector = next(a for a in actions if isinstance(a, Node))
    assert detector.node_package == "crkd_ros"
    assert len(actions) == (3 if given else 2)


# -- files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["replay.yaml", "vehicle.yaml"])
def test_parameter_files_hold_known_parameters(name):
    tree = yaml.safe_load((ROOT / "config" / name).read_text())
    assert list(tree) == ["/**"] and list(tree["/**"]) == ["ros__parameters"]
    values = tree["/**"]["ros__parameters"]
    overrides = values.pop("qos_overrides", {})
    values.pop("use_sim_time", None)
    configuration.build(NodeConfig, dict(flat(values)))
    raw = {f"/{NodeConfig().topics.image_raw.replace(SENSOR, name.lower())}" for name in CAMERAS}
    assert not overrides or set(overrides) == set(inputs()) - raw


def seen(look):
    """What the ROS graph shows; under some middlewares a node's own parts come later to it."""
    deadline = time.monotonic() + 60.0
    while not (found := look()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


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
        (found,) = seen(lambda: node.get_subscriptions_info_by_topic("/cam_back/camera_info"))
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
    assert wanted | {"/detector_node/markers", "/detector_node/drivable_area"} == set(shown)
    from crkd_ros.convert.markers import NAMESPACES

    assert set(shown["/detector_node/markers"]["Namespaces"]) == set(NAMESPACES)
