# Source this after ROS' own setup: `ros2 run lidar_ptq`, `ros2 launch lidar_ptq detect.launch.py`.
export AMENT_PREFIX_PATH="/opt/lidar_ptq${AMENT_PREFIX_PATH:+:$AMENT_PREFIX_PATH}"
export PATH="/opt/lidar_ptq/lib/lidar_ptq:$PATH"
