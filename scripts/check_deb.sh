#!/bin/sh
# Builds the Debian package, unpacks it into a scratch root, and runs what is in it. Needs cargo-deb (`cargo install cargo-deb`) and dpkg-deb.
set -eu
cd "$(dirname "$0")/.."
for tool in cargo-deb dpkg-deb; do
    command -v "$tool" >/dev/null || { echo "skipped: $tool is not installed"; exit 0; }
done
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cargo build --release --locked
cargo deb --no-build --output "$scratch/lidar_ptq.deb"
dpkg-deb --info "$scratch/lidar_ptq.deb"
root="$scratch/root"
dpkg-deb -x "$scratch/lidar_ptq.deb" "$root"

# What `ros2 run` and `ros2 launch` look up.
share="$root/opt/lidar_ptq/share/lidar_ptq"
for file in \
    "$root/opt/lidar_ptq/share/ament_index/resource_index/packages/lidar_ptq" "$root/opt/lidar_ptq/setup.sh" "$root/usr/bin/lidar_ptq" \
    "$share/package.xml" "$share/launch/detect.launch.py" "$share/launch/calibrate.launch.py" "$share/launch/replay.launch.py" \
    "$share/config/detect.param.yaml" "$share/config/calibrate.param.yaml" "$share/rviz/detect.rviz" "$share/models/edge_pillar.safetensors"; do
    test -f "$file" || { echo "missing: $file"; exit 1; }
done
# The programs run from where they lie.
programs="$root/opt/lidar_ptq/lib/lidar_ptq"
"$programs/lidar_ptq" --version
"$programs/lidar_ptq" info "$share/models/edge_pillar.safetensors" >/dev/null
"$programs/detect_node" --check --ros-args --params-file "$share/config/detect.param.yaml" -p "model_path:=$share/models/edge_pillar.safetensors"
"$programs/calibrate_node" --help >/dev/null
echo "the package is in order"
