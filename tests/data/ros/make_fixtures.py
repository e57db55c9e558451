"""Writes the fixtures of tests/ros beside this file, with the public packages `rosbags` and `mcap`.

    pip install rosbags==0.11.9 mcap==1.6.0 numpy
    python make_fixtures.py

All content is made up here; the tests build the same values in Rust.
"""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
from mcap.writer import CompressionType, IndexType, Writer as McapWriter
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

HERE = Path(__file__).parent
store = get_typestore(Stores.ROS2_HUMBLE)

VISION_MSGS = {
    "ObjectHypothesis": "string class_id\nfloat64 score\n",
    "ObjectHypothesisWithPose": "vision_msgs/ObjectHypothesis hypothesis\ngeometry_msgs/PoseWithCovariance pose\n",
    "BoundingBox3D": "geometry_msgs/Pose center\ngeometry_msgs/Vector3 size\n",
    "Detection3D": "std_msgs/Header header\nvision_msgs/ObjectHypothesisWithPose[] results\nvision_msgs/BoundingBox3D bbox\nstring id\n",
    "Detection3DArray": "std_msgs/Header header\nvision_msgs/Detection3D[] detections\n",
}
types = {}
for name, definition in VISION_MSGS.items():
    types.update(get_types_from_msg(definition, f"vision_msgs/msg/{name}"))
store.register(types)
T = store.types


def make(name, *fields):
    return T[name](*fields)


def header(sec, nanosec, frame):
    return make("std_msgs/msg/Header", make("builtin_interfaces/msg/Time", sec, nanosec), frame)


def pose(*n):
    return make("geometry_msgs/msg/Pose", make("geometry_msgs/msg/Point", *n[:3]), make("geometry_msgs/msg/Quaternion", *n[3:]))


def vector(*n):
    return make("geometry_msgs/msg/Vector3", *n)


def cloud(k):
    """Two points of x, y, z, intensity: k, k + 0.25, ..."""
    fields = [make("sensor_msgs/msg/PointField", name, 4 * i, 7, 1) for i, name in enumerate(["x", "y", "z", "intensity"])]
    data = (k + 0.25 * np.arange(8)).astype("<f4").view(np.uint8)
    return make("sensor_msgs/msg/PointCloud2", header(100 + k, 500, "lidar"), 1, 2, fields, False, 16, 32, data, True)


def tf(k):
    transform = make("geometry_msgs/msg/Transform", vector(float(k), 0.5, -0.25), make("geometry_msgs/msg/Quaternion", 0.0, 0.0, 0.6, 0.8))
    return make("tf2_msgs/msg/TFMessage", [make("geometry_msgs/msg/TransformStamped", header(100 + k, 0, "odom"), "base", transform)])


def messages():
    covariance = np.arange(36, dtype=np.float64)
    image = make("sensor_msgs/msg/CompressedImage", header(-1, 999_999_999, ""), "jpeg", np.array([1, 2, 3], np.uint8))
    marker = make(
        "visualization_msgs/msg/Marker", header(7, 8, "map"), "boxes", -3, 5, 0, pose(1.0, 2.0, 3.0, 0.0, 0.0, 0.0, 1.0), vector(0.1, 0.2, 0.3),
        make("std_msgs/msg/ColorRGBA", 0.25, 0.5, 0.75, 1.0), make("builtin_interfaces/msg/Duration", 0, 100_000_000), True,
        [make("geometry_msgs/msg/Point", 1.5, 2.5, 3.5)], [make("std_msgs/msg/ColorRGBA", 1.0, 0.0, 0.0, 0.5)], "", image,
        [make("visualization_msgs/msg/UVCoordinate", 0.5, 0.125)], "car 0.9", "package://a/b.dae",
        make("visualization_msgs/msg/MeshFile", "b.dae", np.array([9, 8], np.uint8)), True,
    )  # fmt: skip
    hypothesis = make(
        "vision_msgs/msg/ObjectHypothesisWithPose", make("vision_msgs/msg/ObjectHypothesis", "car", 0.875),
        make("geometry_msgs/msg/PoseWithCovariance", pose(4.0, 5.0, 6.0, 0.0, 0.0, 0.6, 0.8), covariance),
    )  # fmt: skip
    detection = make(
        "vision_msgs/msg/Detection3D", header(7, 8, "lidar"), [hypothesis],
        make("vision_msgs/msg/BoundingBox3D", pose(4.0, 5.0, 6.0, 0.0, 0.0, 0.6, 0.8), vector(4.5, 2.0, 1.5)), "17",
    )  # fmt: skip
    twist = make("geometry_msgs/msg/Twist", vector(1.0, 0.0, 0.0), vector(0.0, 0.0, 0.125))
    return {
        "point_cloud2": cloud(3),
        "tf_message": tf(3),
        "pose_stamped": make("geometry_msgs/msg/PoseStamped", header(1, 2, "map"), pose(1.0, 2.0, 3.0, 0.0, 0.0, 0.6, 0.8)),
        "odometry": make(
            "nav_msgs/msg/Odometry", header(1, 2, "odom"), "base",
            make("geometry_msgs/msg/PoseWithCovariance", pose(1.0, 2.0, 3.0, 0.0, 0.0, 0.6, 0.8), covariance),
            make("geometry_msgs/msg/TwistWithCovariance", twist, covariance),
        ),  # fmt: skip
        "detection3d_array": make("vision_msgs/msg/Detection3DArray", header(7, 8, "lidar"), [detection, detection]),
        "marker_array": make("visualization_msgs/msg/MarkerArray", [marker, marker]),
        "compressed_image": image,
        "camera_info": make(
            "sensor_msgs/msg/CameraInfo", header(1, 2, "camera"), 480, 640, "plumb_bob", np.arange(5, dtype=np.float64),
            np.arange(9, dtype=np.float64), np.arange(9, dtype=np.float64), np.arange(12, dtype=np.float64), 1, 2,
            make("sensor_msgs/msg/RegionOfInterest", 3, 4, 5, 6, True),
        ),  # fmt: skip
    }


def recording():
    """(topic, log time, message) in order of writing; the times of pairs are swapped."""
    for k in [1, 0, 3, 2, 5, 4]:
        yield "/points", (100 + k) * 10**9, cloud(k)
        yield "/tf", (100 + k) * 10**9 + 1, tf(k)


def cdr(message):
    return bytes(store.serialize_cdr(message, message.__msgtype__))


def fresh(path):
    if path.is_dir():
        shutil.rmtree(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def write_rosbag2(name, storage, mode):
    path = fresh(HERE / "rosbag2" / name)
    bag = Writer(path, version=8, storage_plugin=storage)
    bag.set_compression(mode, CompressionFormat.ZSTD)
    with bag:
        connections = {}
        for topic, time, message in recording():
            if topic not in connections:
                connections[topic] = bag.add_connection(topic, message.__msgtype__, typestore=store)
            bag.write(connections[topic], time, cdr(message))
    for database in path.glob("*.db3"):
        with closing(sqlite3.connect(database)) as connection:  # smaller files for the repository
            connection.executescript("PRAGMA page_size = 1024; VACUUM;")


def write_mcap(name, **options):
    with open(fresh(HERE / "mcap" / f"{name}.mcap"), "wb") as file:
        writer = McapWriter(file, **options)
        writer.start("ros2", "make_fixtures")
        channels = {}
        for topic, time, message in recording():
            if topic not in channels:
                definition, _ = store.generate_msgdef(message.__msgtype__, ros_version=2)
                schema = writer.register_schema(message.__msgtype__, "ros2msg", definition.encode())
                channels[topic] = writer.register_channel(topic, "cdr", schema)
            writer.add_message(channels[topic], time, cdr(message), time)
        writer.finish()


for name, message in messages().items():
    for order, little in [("le", True), ("be", False)]:
        path = fresh(HERE / "cdr" / f"{name}.{order}.cdr")
        path.write_bytes(bytes(store.serialize_cdr(message, message.__msgtype__, little_endian=little)))

for storage in [StoragePlugin.SQLITE3, StoragePlugin.MCAP]:
    for mode in [CompressionMode.NONE, CompressionMode.FILE, CompressionMode.MESSAGE]:
        write_rosbag2(f"{storage.name.lower()}_{mode.name.lower()}", storage, mode)
write_rosbag2("mcap_storage", StoragePlugin.MCAP, CompressionMode.STORAGE)

# Chunks of two messages or so: several that overlap in time.
small = {"chunk_size": 600}
write_mcap("none", compression=CompressionType.NONE, **small)
write_mcap("zstd", compression=CompressionType.ZSTD, **small)
write_mcap("lz4", compression=CompressionType.LZ4, **small)
write_mcap("no_crc", compression=CompressionType.LZ4, enable_crcs=False, **small)
write_mcap("no_index", compression=CompressionType.ZSTD, index_types=IndexType.NONE, **small)
write_mcap("no_summary", index_types=IndexType.NONE, repeat_channels=False, repeat_schemas=False, use_statistics=False, use_summary_offsets=False, **small)
write_mcap("unchunked", use_chunking=False)
