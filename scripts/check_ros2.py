#!/usr/bin/env python3
"""Checks the nodes against a real ROS 2: python3 scripts/check_ros2.py [FOLDER OF THE PROGRAMS, default target/release]

Needs a sourced ROS 2 with rclpy, ros2cli, vision_msgs, a built lidar_ptq_msgs, and PyPI's mcap. Plays a simulated drive with rclpy into
detect_node, compares its boxes with `lidar_ptq detect`, and does with the ros2 tools what users do. Exit status 0: all as it should be.
"""
import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

try:
    import lidar_ptq_msgs.srv  # noqa: F401 (the tools need it)
    import numpy as np
    import rclpy
    from mcap.reader import make_reader
    from rclpy.qos import QoSProfile, ReliabilityPolicy
    from rclpy.serialization import deserialize_message
    from sensor_msgs.msg import PointCloud2, PointField
    from sensor_msgs_py.point_cloud2 import read_points
    from vision_msgs.msg import Detection3DArray
except ImportError as missing:
    print(f"skipped: {missing}; source ROS 2 and a workspace with lidar_ptq_msgs, install the Python package mcap")
    sys.exit(0)

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "target/release").resolve()
MODEL = ROOT / "models/edge_pillar.safetensors"
CLOUDS = 20
FIRST_STAMP = 1_700_000_000
# The command line's boxes are printed with eight digits.
TOLERANCE = 1e-5
FAILED = []


def check(what, holds, seen=""):
    print(f"{'ok  ' if holds else 'FAIL'} {what}{'' if holds else f': {seen}'}", flush=True)
    if not holds:
        FAILED.append(what)


def ros2(*arguments, seconds=30):
    """What a tool prints; the noise of middlewares on standard error is left out."""
    try:
        run = subprocess.run(["ros2", *arguments], capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        return f"no answer within {seconds} s"
    return run.stdout + "".join(line for line in run.stderr.splitlines(True) if "type hash" not in line)


def drive(folder):
    """Clouds of a simulated drive: x, y, z, intensity, 16 bytes a point."""
    bag = folder / "drive.mcap"
    subprocess.run([PROGRAMS / "lidar_ptq", "sim", "--seed", "7", "--seconds", "1", "-o", bag], check=True, capture_output=True)
    with open(bag, "rb") as file:
        messages = [m.data for _, c, m in make_reader(file).iter_messages() if c.topic == "/lidar/points"]
    columns = ["x", "y", "z", "intensity"]
    points = (read_points(deserialize_message(data, PointCloud2), columns) for data in messages[:CLOUDS])
    return [np.stack([p[c].astype("<f4") for c in columns], axis=1).tobytes() for p in points]


def command_line(clouds, folder):
    """The boxes of `lidar_ptq detect` in each cloud."""
    frames = folder / "frames"
    frames.mkdir()
    for number, data in enumerate(clouds):
        (frames / f"{number:04}.bin").write_bytes(data)
    detect = [PROGRAMS / "lidar_ptq", "detect", MODEL, frames, "--fields", "x,y,z,intensity", "--json", "-"]
    lines = subprocess.run(detect, check=True, capture_output=True, text=True).stdout.splitlines()
    return [json.loads(line)["boxes"] for line in lines]


def cloud(number, data):
    fields = [PointField(name=name, offset=4 * i, datatype=PointField.FLOAT32, count=1) for i, name in enumerate(["x", "y", "z", "intensity"])]
    message = PointCloud2(height=1, width=len(data) // 16, fields=fields, point_step=16, row_step=len(data), data=data, is_dense=True)
    # So far apart that no sweep is merged with another.
    message.header.stamp.sec, message.header.frame_id = FIRST_STAMP + 100 * number, "lidar"
    return message


def number_of(answer):
    return (answer.header.stamp.sec - FIRST_STAMP) // 100


def boxes_of(message):
    def one(detection):
        hypothesis, box = detection.results[0].hypothesis, detection.bbox
        p, s = box.center.position, box.size
        return [hypothesis.class_id, hypothesis.score, p.x, p.y, p.z, s.x, s.y, s.z]

    return [one(detection) for detection in message.detections]


def same(ours, theirs):
    theirs = [[b["label"], b["score"], *b["center"], *b["size"]] for b in theirs]
    is_same = lambda a, b: a[0] == b[0] and all(abs(x - y) <= TOLERANCE * max(1, abs(y)) for x, y in zip(a[1:], b[1:]))
    return len(ours) == len(theirs) and all(map(is_same, ours, theirs))


def play(node, answers, clouds, reliability):
    """Each cloud is sent when the one before has been answered, or ten seconds have passed."""
    publisher = node.create_publisher(PointCloud2, "/points", QoSProfile(depth=5, reliability=reliability))
    spin(node, 20, lambda: publisher.get_subscription_count() > 0)
    spin(node, 1)
    for data in clouds:
        sent = play.sent
        publisher.publish(cloud(sent, data))
        play.sent += 1
        spin(node, 10, lambda: any(number_of(answer) == sent for answer in answers))
    node.destroy_publisher(publisher)


play.sent = 0


def spin(node, seconds, is_done=lambda: False):
    until = time.time() + seconds
    while time.time() < until and not is_done():
        rclpy.spin_once(node, timeout_sec=0.05)


def check_tools():
    check("ros2 node list", "/lidar_ptq" in ros2("node", "list", "--no-daemon", "--spin-time", "3").split())
    topics = ros2("topic", "list", "-t", "--no-daemon", "--spin-time", "3")
    for topic in ["/points [sensor_msgs/msg/PointCloud2]", "/lidar_ptq/output/detections [vision_msgs/msg/Detection3DArray]"]:
        check(f"ros2 topic list -t: {topic}", topic in topics, topics)
    level = ros2("topic", "echo", "--once", "/diagnostics")
    check("ros2 topic echo /diagnostics", "lidar_ptq: input" in level, level)
    for value, expected in [("0.3", "successful"), ("3.0", "expected a number from -1 to 1"), ("abc", "expected a number")]:
        answer = ros2("param", "set", "/lidar_ptq", "score_threshold", value)
        check(f"ros2 param set score_threshold {value}", expected in answer, answer)
    answer = ros2("param", "get", "/lidar_ptq", "score_threshold")
    check("ros2 param get", "0.3" in answer, answer)
    answer = ros2("param", "set", "/lidar_ptq", "model_path", "/x")
    check("a read-only parameter stays", "read-only" in answer, answer)
    answer = ros2("service", "call", "/lidar_ptq/reset", "std_srvs/srv/Trigger")
    check("ros2 service call reset", "success=True" in answer, answer)


def check_loading(scratch):
    garbage = scratch / "garbage.safetensors"
    garbage.write_bytes(MODEL.read_bytes()[:1000])
    for path, expected in [(garbage, "success=False"), (MODEL, "success=True")]:
        call = ["service", "call", "/lidar_ptq/load_model", "lidar_ptq_msgs/srv/LoadModel", f"{{path: {path}}}"]
        answer = ros2(*call)
        check(f"load_model {path.name}", expected in answer, answer)


def main(scratch):
    clouds = drive(scratch)
    expected = command_line(clouds, scratch)
    arguments = ["--ros-args", "-p", f"model_path:={MODEL}", "-r", "~/input/pointcloud:=/points"]
    with open(scratch / "node.log", "w") as log:
        detector = subprocess.Popen([PROGRAMS / "detect_node", *arguments], stdout=log, stderr=log)
    try:
        rclpy.init()
        print(f"{rclpy.get_rmw_implementation_identifier()}, programs of {PROGRAMS}")
        node, answers = rclpy.create_node("check_ros2"), []
        node.create_subscription(Detection3DArray, "/lidar_ptq/output/detections", answers.append, 10)
        for name, reliability in [("reliable", ReliabilityPolicy.RELIABLE), ("best effort", ReliabilityPolicy.BEST_EFFORT)]:
            answers.clear()
            play(node, answers, clouds, reliability)
            numbers = [number_of(answer) for answer in answers]
            check(f"{name}: every cloud is answered once", numbers == list(range(play.sent - len(clouds), play.sent)), numbers)
            agree = sum(same(boxes_of(a), expected[number_of(a) % len(clouds)]) for a in answers)
            check(f"{name}: the command line's boxes", agree == len(clouds), f"{agree} of {len(clouds)}")
        node.destroy_node()
        rclpy.shutdown()
        check_tools()
        check_loading(scratch)
        detector.send_signal(signal.SIGINT)
        check("SIGINT ends the node", detector.wait(10) == 0)
    finally:
        detector.kill()
        if FAILED:
            print((scratch / "node.log").read_text())


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(Path(folder))
    print(f"{len(FAILED)} failed")
    sys.exit(1 if FAILED else 0)
