#!/usr/bin/env python3
"""Rewrites a bag with the public packages `mcap` and `rosbags`, in every storage and compression that they know.

usage: rewrite_bags.py BAG.mcap OUTDIR      prints one path a line
"""
import sys
from pathlib import Path

from mcap.reader import make_reader
from mcap.writer import CompressionType, IndexType, Writer as McapWriter
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer as RosbagsWriter
from rosbags.typesys import Stores, get_types_from_msg, get_typestore


def messages(path):
    with open(path, "rb") as file:
        for schema, channel, message in make_reader(file).iter_messages(log_time_order=True):
            yield schema, channel, message


def by_mcap(source, target, **options):
    with open(target, "wb") as file:
        writer = McapWriter(file, chunk_size=1 << 20, **options)
        writer.start(profile="ros2", library="rewrite_bags")
        channels = {}
        for schema, channel, message in messages(source):
            if channel.topic not in channels:
                schema_id = writer.register_schema(schema.name, schema.encoding, schema.data)
                channels[channel.topic] = writer.register_channel(channel.topic, channel.message_encoding, schema_id)
            writer.add_message(channels[channel.topic], message.log_time, message.data, message.publish_time)
        writer.finish()


def by_rosbags(source, target, storage, mode=None):
    store = get_typestore(Stores.ROS2_HUMBLE)
    writer = RosbagsWriter(target, version=8, storage_plugin=storage)
    if mode is not None:
        writer.set_compression(mode, CompressionFormat.ZSTD)
    with writer:
        connections = {}
        for schema, channel, message in messages(source):
            if channel.topic not in connections:
                if schema.name not in store.types:
                    store.register(get_types_from_msg(schema.data.decode(), schema.name))
                connections[channel.topic] = writer.add_connection(channel.topic, schema.name, typestore=store)
            writer.write(connections[channel.topic], message.log_time, message.data)


def main():
    source, out = Path(sys.argv[1]), Path(sys.argv[2])
    for name, options in {
        "mcap_none": {"compression": CompressionType.NONE},
        "mcap_lz4": {"compression": CompressionType.LZ4},
        "mcap_zstd": {"compression": CompressionType.ZSTD},
        "mcap_no_index": {"index_types": IndexType.NONE, "use_summary_offsets": False},
        "mcap_no_crc": {"enable_crcs": False},
        "mcap_unchunked": {"use_chunking": False},
    }.items():
        target = out / f"{name}.mcap"
        by_mcap(source, target, **options)
        print(target)
    for name, storage, mode in [
        ("rosbags_sqlite3", StoragePlugin.SQLITE3, None),
        ("rosbags_sqlite3_file_zstd", StoragePlugin.SQLITE3, CompressionMode.FILE),
        ("rosbags_sqlite3_message_zstd", StoragePlugin.SQLITE3, CompressionMode.MESSAGE),
        ("rosbags_mcap", StoragePlugin.MCAP, None),
        ("rosbags_mcap_file_zstd", StoragePlugin.MCAP, CompressionMode.FILE),
        ("rosbags_mcap_message_zstd", StoragePlugin.MCAP, CompressionMode.MESSAGE),
        ("rosbags_mcap_storage_zstd", StoragePlugin.MCAP, CompressionMode.STORAGE),
    ]:
        by_rosbags(source, out / name, storage, mode)
        print(out / name)


if __name__ == "__main__":
    main()
