"""Live detection: ros2 launch crkd_ros detect.launch.py weights:=FILE [config:=FILE ...].

Input topics are those of config/detector.yaml (topics.*): edit a copy of it and pass it as config.
"""

from launch.actions import DeclareLaunchArgument
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription

SHARE = FindPackageShare("crkd_ros")

ARGUMENTS = (
    ("weights", None, "Checkpoint of the detector (.safetensors); required"),
    (
        "config",
        PathJoinSubstitution([SHARE, "config", "detector.yaml"]),
        "Parameter file of the node",
    ),
    ("calibration_file", "", "YAML with the sensors' poses; empty: from tf"),
    ("device", "cpu", "Device of the network: cpu, cuda or cuda:N"),
    ("use_sim_time", "false", "Take time from /clock (bags: ros2 bag play --clock)"),
    ("rviz", "false", "Open RViz with rviz/detector.rviz"),
    ("log_level", "info", "debug, info, warn, error or fatal"),
)


def generate_launch_description():
    arguments = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, default, description in ARGUMENTS
    ]
    use_sim_time = ParameterValue(LaunchConfiguration("use_sim_time"), value_type=bool)
    detector = Node(
        package="crkd_ros",
        executable="detector_node",
        name="detector_node",
        output="screen",
        # Later entries win: arguments of this file stand above the parameter file.
        parameters=[
            LaunchConfiguration("config"),
            {
                "weights": ParameterValue(LaunchConfiguration("weights"), value_type=str),
                "calibration_file": ParameterValue(
                    LaunchConfiguration("calibration_file"), value_type=str
                ),
                "device": ParameterValue(LaunchConfiguration("device"), value_type=str),
                "use_sim_time": use_sim_time,
            },
        ],
        arguments=["--ros-args", "--log-level", LaunchConfiguration("log_level")],
    )
    rviz = Node(
        package="rviz2",
        executable="rviz2",
        arguments=["-d", PathJoinSubstitution([SHARE, "rviz", "detector.rviz"])],
        parameters=[{"use_sim_time": use_sim_time}],
        condition=IfCondition(LaunchConfiguration("rviz")),
    )
    return LaunchDescription([*arguments, detector, rviz])
