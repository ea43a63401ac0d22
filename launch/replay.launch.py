"""A bag played to the detector: ros2 launch crkd_ros replay.launch.py bag:=BAG weights:=FILE.

With ``data`` and ``split`` of the data set that the bag was made of, the evaluator node prints and
writes offline and streaming metrics, latency and lost frames when the bag is over (``crkd live``
does the same without ROS 2 launch, at several rates). Playing starts when the detector is active.
``--show-args`` lists the arguments; further ones of detect.launch.py may be given too.
"""

from pathlib import Path

from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    ExecuteProcess,
    IncludeLaunchDescription,
    LogInfo,
    OpaqueFunction,
    RegisterEventHandler,
)
from launch.event_handlers import OnProcessExit, OnProcessIO
from launch.events import Shutdown
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from crkd_ros.parameters import parameter_file
from crkd_ros.parameters.launch_arguments import number, truth
from crkd_ros.streaming_eval.players import ros2_play_command
from launch import LaunchDescription

SHARE = FindPackageShare("crkd_ros")

#: Name, default (None: required), what it is.
ARGUMENTS = (
    ("bag", None, "The rosbag2 to play; required"),
    ("weights", None, "Detector (.safetensors, run folder or file of crkd export); required"),
    ("data", "", "Root of the nuScenes data set of the bag; empty: no evaluation"),
    ("split", "", "A split of it with the bag's scene, for the evaluation"),
    ("out", "evaluation", "Folder for metrics.json, the picture and the page"),
    ("overwrite", "false", "Replace the results that are in that folder"),
    ("rate", "1.0", "Bag seconds per real second"),
    (
        "start_offset",
        "0.0",
        "Seconds to leave out at the bag's start, /tf_static too: give calibration_file",
    ),
    ("loop", "false", "Begin again at the bag's end; scored when interrupted, a row per pass"),
    (
        "config",
        PathJoinSubstitution([SHARE, "config", "replay.yaml"]),
        "Parameter file of the detector",
    ),
    ("rviz", "false", "Open RViz with rviz/detector.rviz"),
    ("foxglove", "false", "Start foxglove_bridge on port 8765 (layout: foxglove/detector.json)"),
    ("keep_open", "false", "Leave everything running when the bag is over"),
)
#: The detector's process and node; what it prints, whatever the log level, when it is active.
DETECTOR, ACTIVE = "detector_node", b"detector_node: active"


def generate_launch_description():
    arguments = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, default, description in ARGUMENTS
    ]
    detector = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(PathJoinSubstitution([SHARE, "launch", "detect.launch.py"])),
        launch_arguments={
            "use_sim_time": "true",
            **{name: LaunchConfiguration(name) for name in ("weights", "config")},
            **{name: LaunchConfiguration(name) for name in ("rviz", "foxglove")},
        }.items(),
    )
    playing = []

    def when_active(event):
        # Process names end in a number.
        if event.process_name.rpartition("-")[0] != DETECTOR:
            return None
        if playing or ACTIVE not in event.text:
            return None
        playing.append(True)
        return [OpaqueFunction(function=play)]

    active = RegisterEventHandler(OnProcessIO(on_stdout=when_active))
    return LaunchDescription([*arguments, active, OpaqueFunction(function=evaluate), detector])


def play(context):
    """The bag, once the detector listens; without an evaluator its end is the end of all."""

    def given(name):
        return LaunchConfiguration(name).perform(context)

    command = ros2_play_command(
        given("bag"),
        rate=number("rate", given("rate")),
        start_offset=number("start_offset", given("start_offset") or "0"),
        loop=truth("loop", given("loop")),
    )
    player = ExecuteProcess(cmd=command, name="ros2_bag_play", output="screen")
    # With an evaluator, its end is the end, later.
    stay = bool(given("data")) or truth("keep_open", given("keep_open"))
    return [at_end(player, "the player", stay=stay), player]


def evaluate(context):
    """The evaluator, where there is something to evaluate with; its end is the end of all."""

    def given(name):
        # Those of detect.launch.py are not declared yet.
        return LaunchConfiguration(name, default="").perform(context)

    if not given("data"):
        return []
    file = parameter_file.given(Path(given("config")), node=DETECTOR, namespace=given("namespace"))
    # What the evaluator listens to, where the detector has it.
    names = {f"{DETECTOR}/boxes": given("boxes"), "odom": file.get("topics.odometry", "")}
    chosen = {name: given(name) for name in ("data", "split", "out")}
    if "base_frame" in file:
        chosen["base_frame"] = str(file["base_frame"])
    evaluator = Node(
        package="crkd_ros",
        executable="evaluator",
        name="evaluator",
        # That of the detector, so that relative names mean the same.
        namespace=given("namespace"),
        output="screen",
        # Text whatever it looks like. Not under use_sim_time: the end of /clock is its end.
        parameters=[
            {name: ParameterValue(text, value_type=str) for name, text in chosen.items()}
            | {"overwrite": truth("overwrite", given("overwrite"))}
        ],
        remappings=[
            (name, f"{DETECTOR}/{there[2:]}" if there.startswith("~/") else there)
            for name, there in names.items()
            if there
        ],
        # Interrupted, it scores what came so far.
        sigterm_timeout="60",
        sigkill_timeout="60",
    )
    stay = truth("keep_open", given("keep_open"))
    return [at_end(evaluator, "the evaluator", stay=stay), evaluator]


def at_end(process, what, *, stay):
    """Shut everything down when this process fails, and unless ``stay`` when it ends well."""

    def ended(event, context):
        if context.is_shutdown or (stay and event.returncode == 0):
            return None
        failed = f"{what} failed with exit code {event.returncode}"
        reason = failed if event.returncode else "the bag is over"
        # Launch itself does not print the reason.
        return [LogInfo(msg=f"shutting down: {reason}"), EmitEvent(event=Shutdown(reason=reason))]

    return RegisterEventHandler(OnProcessExit(target_action=process, on_exit=ended))
