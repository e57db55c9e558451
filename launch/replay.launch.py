"""A bag played into the detector: ros2 launch lidar_ptq replay.launch.py bag:=drive.mcap input_pointcloud:=/lidar/points

The bag's own clock is the time. To evaluate a bag, `lidar_ptq eval` needs no ROS and drops no frame.
"""
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, ExecuteProcess, IncludeLaunchDescription
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare


def generate_launch_description():
    share = FindPackageShare("lidar_ptq")
    arguments = [
        DeclareLaunchArgument("bag", description="Bag to play, as `ros2 bag play` takes it."),
        DeclareLaunchArgument("rate", default_value="1.0", description="Speed of playing."),
    ]
    # Its arguments (model_path, input_pointcloud, params_file, rviz, ...) are this file's, too.
    detector = IncludeLaunchDescription(
        PathJoinSubstitution([share, "launch", "detect.launch.py"]), launch_arguments={"use_sim_time": "true"}.items()
    )
    player = ExecuteProcess(
        cmd=["ros2", "bag", "play", LaunchConfiguration("bag"), "--clock", "--rate", LaunchConfiguration("rate")], output="screen"
    )
    return LaunchDescription([*arguments, detector, player])
