#!/bin/sh
# Builds the Debian package, installs it into a Debian that has nothing else, runs what is in it, and removes it again. Needs cargo-deb
# (`cargo install cargo-deb`) and dpkg-deb. Without root or debootstrap, the package is unpacked and run where it lies.
set -eu
cd "$(dirname "$0")/.."
cargo deb --version >/dev/null 2>&1 || { echo "skipped: cargo-deb is not installed"; exit 0; }
command -v dpkg-deb >/dev/null || { echo "skipped: dpkg-deb is not installed"; exit 0; }
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cargo build --release --locked
cargo deb --no-build --output "$scratch/lidar_ptq.deb"
dpkg-deb --info "$scratch/lidar_ptq.deb"
root="$scratch/root"

# A fresh Debian of this computer's release, from where its own packages come from.
fresh_debian() {
    [ "$(id -u)" = 0 ] && command -v debootstrap >/dev/null || return 1
    release=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' "Codename: $release" | head -n 1)
    echo "a fresh Debian: a minute or two"
    debootstrap --variant=minbase "$release" "$root" "$mirror" >"$scratch/debootstrap.log" 2>&1 || { tail -n 3 "$scratch/debootstrap.log"; return 1; }
}

# `at` is where the package's root is for what `run` runs.
if fresh_debian; then
    installed=yes at=
    run() { chroot "$root" "$@"; }
    cp "$scratch/lidar_ptq.deb" "$root/tmp/"
    run apt-get install --yes --quiet /tmp/lidar_ptq.deb
else
    installed= at=$root
    run() { "$@"; }
    echo "skipped: installing (it takes root, debootstrap and its packages); the package is unpacked only"
    rm -rf "$root"
    mkdir -p "$root/tmp"
    dpkg-deb -x "$scratch/lidar_ptq.deb" "$root"
fi

# What `ros2 run` and `ros2 launch` look up.
share=opt/lidar_ptq/share/lidar_ptq
for file in \
    opt/lidar_ptq/share/ament_index/resource_index/packages/lidar_ptq opt/lidar_ptq/setup.sh usr/bin/lidar_ptq \
    $share/package.xml $share/launch/detect.launch.py $share/launch/calibrate.launch.py $share/launch/replay.launch.py \
    $share/config/detect.param.yaml $share/config/calibrate.param.yaml $share/rviz/detect.rviz $share/models/edge_pillar.safetensors; do
    test -f "$root/$file" || { echo "missing: $file"; exit 1; }
done

programs=$at/opt/lidar_ptq/lib/lidar_ptq
model=$at/$share/models/edge_pillar.safetensors
lidar_ptq=$programs/lidar_ptq
[ -z "$installed" ] || lidar_ptq=lidar_ptq
cp tests/data/drive.mcap "$root/tmp/"
run "$lidar_ptq" --version
run "$lidar_ptq" detect "$model" "$at/tmp/drive.mcap" --json "$at/tmp/boxes.jsonl"
grep -q '"label"' "$root/tmp/boxes.jsonl" || { echo "no boxes"; exit 1; }
run "$programs/detect_node" --check --ros-args --params-file "$at/$share/config/detect.param.yaml" -p "model_path:=$model"
# As long as nobody sends clouds, it waits; an interrupt ends it, with status 0.
run timeout --preserve-status --signal INT 10 "$programs/detect_node" --ros-args -p "model_path:=$model"
run "$programs/calibrate_node" --help >/dev/null

if [ -n "$installed" ]; then
    run apt-get remove --yes --quiet lidar-ptq
    left=$(find "$root/opt/lidar_ptq" "$root/usr/bin/lidar_ptq" 2>/dev/null || true)
    [ -z "$left" ] || { echo "left after removal: $left"; exit 1; }
fi
echo "the package is in order${installed:+: installed, run and removed}"
