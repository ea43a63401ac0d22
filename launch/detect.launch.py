"""Live detection: ros2 launch crkd_ros detect.launch.py weights:=FILE [config:=FILE ...].

``--show-args`` lists the arguments. An argument left empty is as the parameter file has it; the
others stand above it. Input topics are those of the parameter file (topics.*).
"""

from pathlib import Path

from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    LogInfo,
    OpaqueFunction,
    RegisterEventHandler,
)
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from crkd_core.sensors import CAMERAS, RADARS
from crkd_ros.parameters import knobs, parameter_file
from crkd_ros.parameters.launch_arguments import truth
from crkd_ros.parameters.topics import SENSOR, TopicsConfig
from launch import LaunchDescription

SHARE = FindPackageShare("crkd_ros")

#: Arguments that are parameters of the node: name, type, what it is.
PARAMETERS = (
    ("weights", str, "Detector (.safetensors, run folder, file of crkd export); or in config"),
    ("calibration_file", str, "YAML with the sensors' poses; without one they come from tf"),
    ("device", str, "Device of the network: cpu, cuda or cuda:N"),
    ("use_sim_time", bool, "Take time from /clock (bags: ros2 bag play --clock)"),
    ("autostart", bool, "Configure and activate the node at once; false: others do"),
    ("tracking", bool, "Give detections ids that stay with their object (tracking.enabled)"),
)
#: Outputs, each of which can be given another name.
OUTPUTS = ("markers", "boxes", "detections", "objects", "drivable_area")

#: Name, default, what it is.
ARGUMENTS = (
    *((name, "", f"{text}; empty: as in config") for name, _, text in PARAMETERS),
    (
        "config",
        PathJoinSubstitution([SHARE, "config", "detector.yaml"]),
        "Parameter file of the node: detector.yaml (every parameter), vehicle.yaml, replay.yaml",
    ),
    ("namespace", "", "Namespace of the node: its inputs and outputs move there"),
    *((name, f"~/{name}", f"Topic of the output ~/{name}") for name in OUTPUTS),
    ("rviz", "false", "Open RViz with rviz/detector.rviz"),
    ("foxglove", "false", "Start foxglove_bridge on port 8765 (layout: foxglove/detector.json)"),
    ("log_level", "info", "debug, info, warn, error or fatal"),
)


def generate_launch_description():
    arguments = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, default, description in ARGUMENTS
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=nodes)])


def nodes(context):
    """The actions for the arguments of this launch."""

    def given(name):
        return LaunchConfiguration(name).perform(context)

    def wanted(name):
        return truth(name, given(name))

    config = Path(given("config"))
    if not config.is_file():
        raise RuntimeError(f"argument config: there is no file {config}")
    chosen = {}
    for name, kind, _ in PARAMETERS:
        if given(name):
            parameter = "tracking.enabled" if name == "tracking" else name
            # As text a path of digits would become a number.
            value = ParameterValue(given(name), value_type=str) if kind is str else wanted(name)
            chosen[parameter] = value
    detector = Node(
        package="crkd_ros",
        executable="detector_node",
        name="detector_node",
        # Of the process, whatever the launch-prefix: replay.launch.py looks for it.
        exec_name="detector_node",
        namespace=given("namespace"),
        output="screen",
        parameters=[given("config"), *([chosen] if chosen else [])],
        remappings=[(f"~/{name}", given(name)) for name in OUTPUTS if given(name) != f"~/{name}"],
        arguments=["--ros-args", "--log-level", given("log_level")],
    )
    at_end = RegisterEventHandler(OnProcessExit(target_action=detector, on_exit=ended))
    actions = [at_end, detector]
    sim_time = []
    if wanted("rviz") or wanted("foxglove"):
        # On the detector's clock, wherever that is chosen.
        file = parameter_file.given(config, node="detector_node", namespace=given("namespace"))
        sim_time = [{"use_sim_time": {**file, **chosen}.get("use_sim_time", False)}]
    if wanted("rviz"):
        rviz = PathJoinSubstitution([SHARE, "rviz", "detector.rviz"])
        named = {name: given(name) for name in OUTPUTS}
        actions.append(
            Node(
                package="rviz2",
                executable="rviz2",
                arguments=["-d", rviz],
                parameters=sim_time,
                remappings=moved(file, namespace=given("namespace"), outputs=named),
            )
        )
    if wanted("foxglove"):
        actions.append(
            Node(package="foxglove_bridge", executable="foxglove_bridge", parameters=sim_time)
        )
    return actions


def moved(file, *, namespace, outputs):
    """Remappings for a viewer whose file has the default topics: to where the node has them.

    ``file``: what the parameter file gives to the node; ``outputs``: names of the outputs.
    """
    pairs = [(f"~/{name}", topic) for name, topic in outputs.items()]
    for name, default in knobs.values(TopicsConfig()).items():
        topic = file.get(f"topics.{name}", default)
        for sensor in RADARS if name == "radar" else CAMERAS:
            pairs.append(tuple(t.replace(SENSOR, sensor.lower()) for t in (default, topic)))
    found = {absolute(default): absolute(topic, namespace) for default, topic in pairs}
    return [(default, topic) for default, topic in found.items() if default != topic]


def absolute(topic, namespace=""):
    """A topic of the detector node, seen from outside."""
    if topic.startswith("/"):
        return topic
    topic = topic.replace("~", "detector_node", 1) if topic.startswith("~/") else topic
    return "/" + "/".join(part for part in (namespace.strip("/"), topic) if part)


def ended(event, context):
    """Without the detector there is nothing to wait for; its own lines say why it ended."""
    if context.is_shutdown:
        return None
    return shutdown(f"the detector ended with exit code {event.returncode}")


def shutdown(reason):
    """End everything; launch itself does not print the reason."""
    return [LogInfo(msg=f"shutting down: {reason}"), EmitEvent(event=Shutdown(reason=reason))]
