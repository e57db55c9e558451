"""A quantized model from what this robot sees: ros2 launch lidar_ptq calibrate.launch.py model_path:=model.safetensors record_minutes:=2

Ends when it is done. The detector of detect.launch.py, if it runs, is asked to load the result.
"""
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, EmitEvent, RegisterEventHandler
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare


def generate_launch_description():
    share = FindPackageShare("lidar_ptq")
    arguments = [
        DeclareLaunchArgument("model_path", description="Float model, as `lidar_ptq import` or `train` writes it."),
        DeclareLaunchArgument("output_path", default_value="", description="Where the quantized model goes; empty: beside the float one."),
        DeclareLaunchArgument("bag", default_value="", description="Bag to calibrate from; empty: record one first."),
        DeclareLaunchArgument("bag_topic", default_value="", description="Topic of the clouds in a bag that has several."),
        DeclareLaunchArgument("record_minutes", default_value="2.0", description="How long to record, where no bag is given."),
        DeclareLaunchArgument("load", default_value="true", description="Ask the detector to load the result, if it agrees with the float model."),
        DeclareLaunchArgument("input_pointcloud", default_value="/points", description="Topic of the clouds (sensor_msgs/PointCloud2)."),
        DeclareLaunchArgument("input_odometry", default_value="/odom", description="Topic of odometry, used where /tf tells of no motion."),
        DeclareLaunchArgument(
            "params_file",
            default_value=PathJoinSubstitution([share, "config", "calibrate.param.yaml"]),
            description="Parameter file; the default explains every parameter.",
        ),
        DeclareLaunchArgument("namespace", default_value="", description="Namespace of the node, and of the detector."),
        DeclareLaunchArgument("log_level", default_value="info", description="debug, info, warn or error."),
    ]

    def typed(name, value_type):
        return ParameterValue(LaunchConfiguration(name), value_type=value_type)

    calibrator = Node(
        package="lidar_ptq",
        executable="calibrate_node",
        name="lidar_ptq_calibrate",
        namespace=LaunchConfiguration("namespace"),
        parameters=[
            LaunchConfiguration("params_file"),
            {
                "model_path": typed("model_path", str),
                "output_path": typed("output_path", str),
                "bag": typed("bag", str),
                "bag_topic": typed("bag_topic", str),
                "record_minutes": typed("record_minutes", float),
                "load": typed("load", bool),
                "exit_when_done": True,
            },
        ],
        remappings=[
            ("~/input/pointcloud", LaunchConfiguration("input_pointcloud")),
            ("~/input/odometry", LaunchConfiguration("input_odometry")),
        ],
        ros_arguments=["--log-level", LaunchConfiguration("log_level")],
        output="screen",
    )
    done = RegisterEventHandler(OnProcessExit(target_action=calibrator, on_exit=[EmitEvent(event=Shutdown(reason="calibration has ended"))]))
    return LaunchDescription([*arguments, calibrator, done])
