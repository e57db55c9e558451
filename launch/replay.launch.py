"""A bag played into the detector: ros2 launch lidar_ptq replay.launch.py bag:=drive.mcap input_pointcloud:=/lidar/points

The bag's own clock is the time. With evaluate:=true the same bag is judged when it has been played: against the ground truth that it
holds, and with teacher:=MODEL against that model. That is done by `lidar_ptq eval`, which drops no frame and needs no ROS.
"""
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, EmitEvent, ExecuteProcess, IncludeLaunchDescription, RegisterEventHandler
from launch.conditions import IfCondition, UnlessCondition
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution, PythonExpression
from launch_ros.substitutions import FindPackagePrefix, FindPackageShare


def generate_launch_description():
    share = FindPackageShare("lidar_ptq")
    model = PathJoinSubstitution([share, "models", "edge_pillar.safetensors"])
    arguments = [
        DeclareLaunchArgument("bag", description="Bag to play, as `ros2 bag play` takes it."),
        DeclareLaunchArgument("rate", default_value="1.0", description="Speed of playing."),
        DeclareLaunchArgument("delay", default_value="2.0", description="Seconds before the first message, in which the detector gets ready."),
        DeclareLaunchArgument("model_path", default_value=model, description="Model file."),
        DeclareLaunchArgument("input_pointcloud", default_value="/points", description="Topic of the clouds in the bag."),
        DeclareLaunchArgument("input_odometry", default_value="/odom", description="Topic of odometry, used where /tf tells of no motion."),
        DeclareLaunchArgument("rviz", default_value="false", description="Start rviz with clouds and boxes."),
        DeclareLaunchArgument("evaluate", default_value="false", description="Judge the bag when it has been played, and print the metrics."),
        DeclareLaunchArgument("teacher", default_value="", description="Model to compare with when judging; a bag without ground truth needs one."),
    ]
    # Its further arguments (params_file, namespace, log_level, rviz_layout) are this file's, too.
    names = ["model_path", "input_pointcloud", "input_odometry", "rviz"]
    detector = IncludeLaunchDescription(
        PathJoinSubstitution([share, "launch", "detect.launch.py"]),
        launch_arguments={"use_sim_time": "true", **{name: LaunchConfiguration(name) for name in names}}.items(),
    )
    bag = LaunchConfiguration("bag")
    pace = ["--rate", LaunchConfiguration("rate"), "--delay", LaunchConfiguration("delay")]
    player = ExecuteProcess(cmd=["ros2", "bag", "play", bag, "--clock", *pace], output="screen")

    program = PathJoinSubstitution([FindPackagePrefix("lidar_ptq"), "lib", "lidar_ptq", "lidar_ptq"])
    command = [program, "eval", LaunchConfiguration("model_path"), bag, "--topic", LaunchConfiguration("input_pointcloud")]
    has_teacher = PythonExpression(["'", LaunchConfiguration("teacher"), "' != ''"])
    alone = ExecuteProcess(cmd=command, output="screen", condition=UnlessCondition(has_teacher))
    against = ExecuteProcess(cmd=[*command, "--against", LaunchConfiguration("teacher")], output="screen", condition=IfCondition(has_teacher))
    done = EmitEvent(event=Shutdown(reason="the bag has been played"))
    judged = [RegisterEventHandler(OnProcessExit(target_action=judge, on_exit=[done])) for judge in (alone, against)]
    evaluate = LaunchConfiguration("evaluate")
    played = [
        RegisterEventHandler(OnProcessExit(target_action=player, on_exit=[alone, against]), condition=IfCondition(evaluate)),
        RegisterEventHandler(OnProcessExit(target_action=player, on_exit=[done]), condition=UnlessCondition(evaluate)),
    ]
    return LaunchDescription([*arguments, detector, player, *played, *judged])
