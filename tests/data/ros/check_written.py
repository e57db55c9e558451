"""Reads a bag of ours with the public packages `rosbags` and `mcap` and compares it with the fixtures.

    LIDAR_PTQ_WRITTEN_BAG=/tmp/written.mcap cargo test --release --test ros -- --ignored write_a_bag
    python check_written.py /tmp/written.mcap
"""

import sys
from pathlib import Path

from mcap.reader import make_reader
from mcap_ros2.decoder import DecoderFactory
from rosbags.highlevel import AnyReader

HERE = Path(__file__).parent
path = Path(sys.argv[1])

with open(path, "rb") as file:
    reader = make_reader(file, validate_crcs=True, decoder_factories=[DecoderFactory()])
    summary = reader.get_summary()
    assert reader.get_header().profile == "ros2"
    assert summary.statistics.message_count == 8 and len(summary.chunk_indexes) > 0
    decoded = list(reader.iter_decoded_messages())
    assert len(decoded) == 8
    for schema, channel, message, _ in decoded:
        expected = (HERE / "cdr" / f"{channel.topic[1:]}.le.cdr").read_bytes()
        assert message.data == expected, channel.topic
        assert schema.encoding == "ros2msg" and channel.metadata["offered_qos_profiles"].startswith("- history: 1")

with AnyReader([path]) as reader:  # with the definitions in the file only
    for connection, _, raw in reader.messages():
        message = reader.deserialize(raw, connection.msgtype)
        assert bytes(reader.typestore.serialize_cdr(message, connection.msgtype)) == bytes(raw), connection.topic
    assert sorted(c.topic for c in reader.connections) == sorted(c.topic for _, c, _, _ in decoded)
    for connection in reader.connections:
        [qos] = connection.ext.offered_qos_profiles
        assert qos.durability.name == "VOLATILE" and qos.reliability.name == "RELIABLE"
print(f"{len(decoded)} messages of {path} are as expected")
