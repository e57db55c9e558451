#!/usr/bin/env python3
"""Checks the nodes against a real ROS 2: python3 scripts/check_ros2.py [FOLDER OF THE PROGRAMS, default target/release]

Needs a sourced ROS 2 with rclpy, ros2cli, vision_msgs, a built lidar_ptq_msgs, and PyPI's mcap. Plays a simulated drive with rclpy into
detect_node, compares its boxes with `lidar_ptq detect`, and does with the ros2 tools what users do. With ros2bag and its MCAP storage, also
plays a bag with its own clock; with a sourced workspace in which this package was built, also starts its launch files. Exit status 0: all as
it should be.
"""
import contextlib
import json
import re
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
    from ament_index_python.packages import get_packages_with_prefixes
    from mcap.reader import make_reader
    from rcl_interfaces.msg import Log
    from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
    from rclpy.serialization import deserialize_message
    from sensor_msgs.msg import PointCloud2, PointField
    from sensor_msgs_py.point_cloud2 import read_points
    from std_msgs.msg import Float64
    from vision_msgs.msg import Detection3DArray
except ImportError as missing:
    print(f"skipped: {missing}; source ROS 2 and a workspace with lidar_ptq_msgs, install the Python package mcap")
    sys.exit(0)

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "target/release").resolve()
MODEL = ROOT / "models/edge_pillar.safetensors"
CLOUDS = 20
# Of the bag that is played; slowed down where the computer is busy.
BAG_SECONDS, BAG_RATE = 3, 0.25
FIRST_STAMP = 1_700_000_000
# The command line's boxes are printed with eight digits.
TOLERANCE = 1e-5
FAILED = []


def check(what, holds, seen=""):
    print(f"{'ok  ' if holds else 'FAIL'} {what}{'' if holds else f': {seen}'}", flush=True)
    if not holds:
        FAILED.append(what)


def ros2(*arguments, seconds=30, stop=None):
    """What a tool prints; the noise of middlewares on standard error is left out. `stop`: after so many seconds it is interrupted."""
    tool = subprocess.Popen(["ros2", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        if stop is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                tool.wait(stop)
            tool.send_signal(signal.SIGINT)
        printed, noise = tool.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        tool.kill()
        tool.communicate()
        return f"no answer within {seconds} s"
    return printed + "".join(line for line in noise.splitlines(True) if "type hash" not in line)


def simulate(bag, seconds):
    subprocess.run([PROGRAMS / "lidar_ptq", "sim", "--seed", "7", "--seconds", str(seconds), "-o", bag], check=True, capture_output=True)
    return bag


def drive(folder):
    """Clouds of a simulated drive: x, y, z, intensity, 16 bytes a point."""
    bag = simulate(folder / "drive.mcap", 1)
    with open(bag, "rb") as file:
        messages = [m.data for _, c, m in make_reader(file).iter_messages() if c.topic == "/lidar/points"]
    columns = ["x", "y", "z", "intensity"]
    points = (read_points(deserialize_message(data, PointCloud2), columns) for data in messages[:CLOUDS])
    return [np.stack([p[c].astype("<f4") for c in columns], axis=1).tobytes() for p in points]


def detect(source, *more):
    """What `lidar_ptq detect` finds, a frame a line."""
    run = subprocess.run([PROGRAMS / "lidar_ptq", "detect", MODEL, source, *more, "--json", "-"], check=True, capture_output=True, text=True)
    return list(map(json.loads, run.stdout.splitlines()))


def command_line(clouds, folder):
    """The boxes of `lidar_ptq detect` in each cloud."""
    frames = folder / "frames"
    frames.mkdir()
    for number, data in enumerate(clouds):
        (frames / f"{number:04}.bin").write_bytes(data)
    return [frame["boxes"] for frame in detect(frames, "--fields", "x,y,z,intensity")]


@contextlib.contextmanager
def detector(log, *more):
    """The node while it is needed; then it is interrupted, and must end well."""
    arguments = ["--ros-args", "-p", f"model_path:={MODEL}", *more]
    with open(log, "w") as file:
        process = subprocess.Popen([PROGRAMS / "detect_node", *arguments], stdout=file, stderr=file)
    try:
        yield
        process.send_signal(signal.SIGINT)
        check("SIGINT ends the node", process.wait(10) == 0)
    finally:
        process.kill()
        if FAILED:
            print(log.read_text())


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
    # Without its daemon, a tool looks for half a second, and says of a node that it has not found by then that there is none.
    ros2("daemon", "start")
    until = time.time() + 20
    while time.time() < until and "/lidar_ptq" not in ros2("node", "list").split():
        time.sleep(0.5)
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


def check_lifecycle():
    check("ros2 lifecycle nodes", "/lidar_ptq" in ros2("lifecycle", "nodes").split())
    for transition, state in [("deactivate", "inactive"), ("cleanup", "unconfigured"), ("configure", "inactive"), ("activate", "active")]:
        answer = ros2("lifecycle", "set", "/lidar_ptq", transition)
        check(f"ros2 lifecycle set {transition}", "Transitioning successful" in answer, answer)
        answer = ros2("lifecycle", "get", "/lidar_ptq")
        check(f"ros2 lifecycle get: {state}", answer.startswith(state), answer)
    answer = ros2("lifecycle", "list", "/lidar_ptq", "-a")
    check("ros2 lifecycle list -a", "deactivate" in answer and "transition_failure" in answer, answer)


def check_loading(scratch):
    garbage = scratch / "garbage.safetensors"
    garbage.write_bytes(MODEL.read_bytes()[:1000])
    for path, expected in [(garbage, "success=False"), (MODEL, "success=True")]:
        call = ["service", "call", "/lidar_ptq/load_model", "lidar_ptq_msgs/srv/LoadModel", f"{{path: {path}}}"]
        answer = ros2(*call)
        check(f"load_model {path.name}", expected in answer, answer)


@contextlib.contextmanager
def a_node():
    node = rclpy.create_node("check_ros2")
    try:
        yield node
    finally:
        node.destroy_node()


def check_clouds(scratch, node):
    clouds, answers = drive(scratch), []
    expected = command_line(clouds, scratch)
    node.create_subscription(Detection3DArray, "/lidar_ptq/output/detections", answers.append, 10)
    for name, reliability in [("reliable", ReliabilityPolicy.RELIABLE), ("best effort", ReliabilityPolicy.BEST_EFFORT)]:
        answers.clear()
        play(node, answers, clouds, reliability)
        numbers = [number_of(answer) for answer in answers]
        check(f"{name}: every cloud is answered once", numbers == list(range(play.sent - len(clouds), play.sent)), numbers)
        agree = sum(same(boxes_of(a), expected[number_of(a) % len(clouds)]) for a in answers)
        check(f"{name}: the command line's boxes", agree == len(clouds), f"{agree} of {len(clouds)}")


def check_log(node):
    """After `check_loading`, whose refused model is in the log."""
    lines = []
    asked = QoSProfile(depth=1000, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    node.create_subscription(Log, "/rosout", lines.append, asked)
    ros2("service", "call", "/lidar_ptq/load_model", "lidar_ptq_msgs/srv/LoadModel", "{path: /nowhere}")
    refused = lambda line: line.name == "lidar_ptq" and line.level == 30 and "/nowhere" in line.msg
    spin(node, 10, lambda: any(map(refused, lines)))
    check("the log is on /rosout", any(map(refused, lines)), lines)


def check_bag(scratch, node):
    """A bag is played with its clock; what the node answers is what the command line finds in the bag."""
    bag = simulate(scratch / "played.mcap", BAG_SECONDS)
    expected = {frame["stamp"]: frame["boxes"] for frame in detect(bag)}
    answers, latencies, times = [], [], []
    node.create_subscription(Detection3DArray, "/lidar_ptq/output/detections", answers.append, 100)
    node.create_subscription(Float64, "/lidar_ptq/debug/pipeline_latency_ms", lambda m: latencies.append(m.data), 100)
    node.create_subscription(Float64, "/lidar_ptq/debug/processing_time_ms", lambda m: times.append(m.data), 100)
    play = ["ros2", "bag", "play", bag, "--clock", "--rate", str(BAG_RATE), "--delay", "3", "--disable-keyboard-controls"]
    with detector(scratch / "bag.log", "-p", "use_sim_time:=true", "-r", "~/input/pointcloud:=/lidar/points"):
        # Or else the first frames are the command line's with fewer sweeps.
        spin(node, 20, lambda: node.count_publishers("/lidar_ptq/output/detections") > 0)
        player = subprocess.Popen(play, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        spin(node, 30 + BAG_SECONDS / BAG_RATE, lambda: player.poll() is not None)
        spin(node, 2)
        check("ros2 bag play", player.poll() == 0, player.communicate()[1] if player.poll() is not None else "does not end")
        stamps = [answer.header.stamp.sec + answer.header.stamp.nanosec * 1e-9 for answer in answers]
        known = [min(expected, key=lambda e: abs(e - stamp)) for stamp in stamps]
        agree = sum(same(boxes_of(a), expected[k]) for a, k in zip(answers, known))
        # Where the computer is busy, some are dropped for newer ones; their points are in the others' sweeps all the same.
        in_order = known == sorted(set(known)) and len(known) >= 0.8 * len(expected)
        check("bag: clouds are answered once, in order, and few dropped", in_order, f"{len(known)} answers to {len(expected)} clouds")
        check("bag: the command line's boxes", agree == len(answers), f"{agree} of {len(answers)}")
        # By the system's clock, the bag's clouds are years old, and a latency is not told. The bag's clock is as slow as it is played.
        middle = lambda values: sorted(values)[len(values) // 2] if values else 0.0
        told = f"{len(latencies)} of {len(answers)}, {middle(latencies)} ms, processing {middle(times)} ms"
        check("bag: latencies by /clock", middle(latencies) > 0.5 * BAG_RATE * middle(times) > 0, told)
        rate = ros2("topic", "hz", "/diagnostics", stop=6)
        check("ros2 topic hz /diagnostics", re.search(r"average rate: (0\.9|1\.0)", rate), rate)


def check_detect_launch():
    seen = ros2("launch", "lidar_ptq", "detect.launch.py", "namespace:=front", f"model_path:={MODEL}", stop=8)
    check("detect.launch.py", "node=/front/lidar_ptq" in seen and "finished cleanly" in seen, seen)


def check_replay_launch(scratch):
    """After `check_bag`, with its bag."""
    bag = scratch / "played.mcap"
    names = [f"bag:={bag}", "input_pointcloud:=/lidar/points", f"rate:={BAG_RATE}", "evaluate:=true", f"teacher:={MODEL}"]
    seen = ros2("launch", "lidar_ptq", "replay.launch.py", *names, seconds=180)
    check("replay.launch.py: the node has run", seen.count("finished cleanly") >= 3 and "died" not in seen, seen)
    # Its own teacher: they agree on every box.
    check("replay.launch.py: metrics", "NDS" in seen and re.search(r"all +\d+ +\d+ +1\.000 +1\.000", seen), seen)


def main(scratch):
    rclpy.init()
    print(f"{rclpy.get_rmw_implementation_identifier()}, programs of {PROGRAMS}")
    packages = get_packages_with_prefixes()
    with detector(scratch / "node.log", "-r", "~/input/pointcloud:=/points"):
        parts = [lambda node: check_clouds(scratch, node), lambda _: check_tools(), lambda _: check_lifecycle()]
        for part in [*parts, lambda _: check_loading(scratch), check_log]:
            with a_node() as node:
                part(node)
    if is_installed := "lidar_ptq" in packages:
        check_detect_launch()
    if "ros2bag" in packages and "rosbag2_storage_mcap" in packages:
        with a_node() as node:
            check_bag(scratch, node)
        if is_installed:
            check_replay_launch(scratch)
    rclpy.shutdown()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(Path(folder))
    print(f"{len(FAILED)} failed")
    sys.exit(1 if FAILED else 0)
