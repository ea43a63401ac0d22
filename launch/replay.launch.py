"""A bag played to the detector: ros2 launch crkd_ros replay.launch.py bag:=BAG weights:=FILE.

With ``data`` and ``split`` of the data set that the bag was made of, the evaluator node prints and
writes offline and streaming metrics, latency and lost frames when the bag is over (``crkd-live``
does the same without ROS 2 launch, at several rates). Playing starts when the detector is ready.
``--show-args`` lists the arguments; further ones of detect.launch.py may be given too.
"""

from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    ExecuteProcess,
    IncludeLaunchDescription,
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

from launch import LaunchDescription

SHARE = FindPackageShare("crkd_ros")

#: Name, default (None: required), what it is.
ARGUMENTS = (
    ("bag", None, "The rosbag2 to play; required"),
    ("weights", None, "Checkpoint of the detector (.safetensors); required"),
    ("data", "", "Root of the nuScenes data set of the bag; empty: no evaluation"),
    ("split", "", "A split of it with the bag's scene, for the evaluation"),
    ("out", "evaluation", "Folder for metrics.json, the picture and the page"),
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
#: Printed by the detector when its weights are loaded.
READY = b"ready: "
#: Seconds between advertising and playing, for discovery; ticks of /clock per second.
DELAY, CLOCK_HZ = "2.0", "200"


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

    def when_ready(event):
        if playing or READY not in event.text:
            return None
        playing.append(True)
        return [OpaqueFunction(function=play)]

    ready = RegisterEventHandler(OnProcessIO(on_stdout=when_ready, on_stderr=when_ready))
    return LaunchDescription([*arguments, ready, OpaqueFunction(function=evaluate), detector])


def play(context):
    """The bag, once the detector listens; without an evaluator its end is the end of all."""

    def given(name):
        return LaunchConfiguration(name).perform(context)

    command = ["ros2", "bag", "play", given("bag"), "--clock", CLOCK_HZ, "--rate", given("rate")]
    command += ["--delay", DELAY, "--disable-keyboard-controls"]
    # It refuses 0 in some versions.
    if float(given("start_offset") or 0) > 0:
        command += ["--start-offset", given("start_offset")]
    if given("loop").lower() in ("true", "1"):
        command.append("--loop")
    player = ExecuteProcess(cmd=command, name="ros2_bag_play", output="screen")
    return [player] if given("data") else [*at_end(player, given("keep_open")), player]


def evaluate(context):
    """The evaluator, where there is something to evaluate with; its end is the end of all."""

    def given(name):
        return LaunchConfiguration(name).perform(context)

    if not given("data"):
        return []
    evaluator = Node(
        package="crkd_ros",
        executable="evaluator",
        name="evaluator",
        output="screen",
        # Text whatever it looks like. Not under use_sim_time: the end of /clock is its end.
        parameters=[
            {
                name: ParameterValue(given(name), value_type=str)
                for name in ("data", "split", "out")
            }
        ],
        # Interrupted, it scores what came so far.
        sigterm_timeout="60",
        sigkill_timeout="60",
    )
    return [*at_end(evaluator, given("keep_open")), evaluator]


def at_end(process, keep_open):
    """Shut everything down when this process ends."""
    if keep_open.lower() in ("true", "1"):
        return []
    stop = EmitEvent(event=Shutdown(reason="the bag is over"))
    return [RegisterEventHandler(OnProcessExit(target_action=process, on_exit=[stop]))]
