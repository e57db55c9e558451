"""The detector, and rviz if wanted: ros2 launch lidar_ptq detect.launch.py model_path:=model.safetensors input_pointcloud:=/points"""
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare


def generate_launch_description():
    share = FindPackageShare("lidar_ptq")
    arguments = [
        DeclareLaunchArgument(
            "model_path",
            default_value=PathJoinSubstitution([share, "models", "edge_pillar.safetensors"]),
            description="Model file. The default is the bundled one, which shows the way and is no detector to rely on.",
        ),
        DeclareLaunchArgument("input_pointcloud", default_value="/points", description="Topic of the clouds (sensor_msgs/PointCloud2)."),
        DeclareLaunchArgument("input_odometry", default_value="/odom", description="Topic of odometry, used where /tf tells of no motion."),
        DeclareLaunchArgument(
            "params_file",
            default_value=PathJoinSubstitution([share, "config", "detect.param.yaml"]),
            description="Parameter file; the default explains every parameter.",
        ),
        DeclareLaunchArgument("namespace", default_value="", description="Namespace of the node."),
        DeclareLaunchArgument("use_sim_time", default_value="false", description="Take the time from /clock."),
        DeclareLaunchArgument("log_level", default_value="info", description="debug, info, warn or error."),
        DeclareLaunchArgument("rviz", default_value="false", description="Start rviz with clouds and boxes."),
        DeclareLaunchArgument(
            "rviz_layout", default_value="detect.rviz", description="For rviz: detect.rviz, cameras.rviz (with two cameras), or the path of a layout of your own."
        ),
    ]
    use_sim_time = ParameterValue(LaunchConfiguration("use_sim_time"), value_type=bool)
    detector = Node(
        package="lidar_ptq",
        executable="detect_node",
        name="lidar_ptq",
        namespace=LaunchConfiguration("namespace"),
        parameters=[
            LaunchConfiguration("params_file"),
            {"model_path": ParameterValue(LaunchConfiguration("model_path"), value_type=str), "use_sim_time": use_sim_time},
        ],
        remappings=[
            ("~/input/pointcloud", LaunchConfiguration("input_pointcloud")),
            ("~/input/odometry", LaunchConfiguration("input_odometry")),
        ],
        ros_arguments=["--log-level", LaunchConfiguration("log_level")],
        output="screen",
    )
    rviz = Node(
        package="rviz2",
        executable="rviz2",
        arguments=["-d", PathJoinSubstitution([share, "rviz", LaunchConfiguration("rviz_layout")])],
        parameters=[{"use_sim_time": use_sim_time}],
        remappings=[
            ("/points", LaunchConfiguration("input_pointcloud")),
            ("/lidar_ptq/output/markers", PathJoinSubstitution(["/", LaunchConfiguration("namespace"), "lidar_ptq", "output", "markers"])),
        ],
        condition=IfCondition(LaunchConfiguration("rviz")),
    )
    return LaunchDescription([*arguments, detector, rviz])
