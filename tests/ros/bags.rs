//! The same recording in every container and compression, and bags of our own.

use crate::{fixture, samples};
use lidar_ptq::ros::bag::{BagError, BagReader, BagWriter, ChunkCompression, RawMessage, Selection};
use lidar_ptq::ros::msg::RosMessage;
use lidar_ptq::ros::msg::sensor_msgs::PointCloud2;
use lidar_ptq::ros::msg::tf2_msgs::TFMessage;
use lidar_ptq::ros::transport::{BagTransport, Received, Transport};
use lidar_ptq::sensor::Stamp;
use std::fs;
use std::path::Path;
use std::time::Duration;

pub const BAGS: [&str; 14] = [
    "mcap/none.mcap",
    "mcap/zstd.mcap",
    "mcap/lz4.mcap",
    "mcap/no_crc.mcap",
    "mcap/no_index.mcap",
    "mcap/no_summary.mcap",
    "mcap/unchunked.mcap",
    "rosbag2/mcap_none",
    "rosbag2/mcap_file",
    "rosbag2/mcap_message",
    "rosbag2/mcap_storage",
    "rosbag2/sqlite3_none",
    "rosbag2/sqlite3_file",
    "rosbag2/sqlite3_message",
];

/// `make_fixtures.py`'s recording in time order.
pub fn recording() -> Vec<RawMessage> {
    let at = |k: i64| Stamp((100 + k) * 1_000_000_000);
    let cloud = |k| RawMessage {
        topic: "/points".into(),
        type_name: PointCloud2::TYPE.into(),
        stamp: at(k),
        data: samples::point_cloud2(k).encode(),
    };
    let tf = |k| RawMessage {
        topic: "/tf".into(),
        type_name: TFMessage::TYPE.into(),
        stamp: Stamp(at(k).0 + 1),
        data: samples::tf_message(k).encode(),
    };
    (0..6).flat_map(|k| [cloud(k), tf(k)]).collect()
}

fn read(path: &Path) -> Vec<RawMessage> {
    let mut bag = BagReader::open(path).unwrap_or_else(|e| panic!("{e}"));
    let messages: Vec<_> = bag.by_ref().collect();
    assert!(bag.report().is_clean(), "{}: {:?}", path.display(), bag.report());
    messages
}

#[test]
fn every_container_and_compression_gives_the_same_messages_in_time_order() {
    for name in BAGS {
        assert_eq!(read(&fixture(name)), recording(), "{name}");
        let bag = BagReader::open(&fixture(name)).unwrap();
        let topics: Vec<_> = bag.topics().into_iter().map(|t| (t.name.to_string(), t.type_name.to_string(), t.count)).collect();
        let expected = [("/points", PointCloud2::TYPE, 6), ("/tf", TFMessage::TYPE, 6)].map(|(n, t, c)| (n.to_owned(), t.to_owned(), c));
        assert_eq!(topics, expected, "{name}");
        assert_eq!(bag.time_range(), Some((Stamp(100_000_000_000), Stamp(105_000_000_001))), "{name}");
    }
}

#[test]
fn a_selection_gives_its_topics_and_times_and_can_be_changed() {
    for name in BAGS {
        let mut bag = BagReader::open(&fixture(name)).unwrap();
        let _ = bag.next();
        bag.select(Selection::topics(["/tf"]).from(Stamp(102_000_000_000)).until(Stamp(104_000_000_001)));
        let expected: Vec<_> = recording().into_iter().filter(|m| &*m.topic == "/tf").skip(2).take(2).collect();
        assert_eq!(bag.by_ref().collect::<Vec<_>>(), expected, "{name}");
        bag.select(Selection::topics(["/nothing"]));
        assert_eq!(bag.next(), None, "{name}");
        bag.select(Selection::all());
        assert_eq!(bag.by_ref().count(), 12, "{name}");
    }
}

#[test]
fn a_folder_without_metadata_merges_its_files_by_time() {
    let folder = tempfile::tempdir().unwrap();
    let messages = recording();
    // The first file by name is the last by time, and the two overlap.
    for (file, part) in [("b_0.mcap", [&messages[..5], &messages[8..9]].concat()), ("a_1.mcap", [&messages[5..8], &messages[9..]].concat())]
    {
        let mut bag = BagWriter::create(&folder.path().join(file)).unwrap();
        for m in part {
            bag.write_raw(&m.topic, &m.type_name, "", m.stamp, &m.data).unwrap();
        }
        bag.finish().unwrap();
    }
    assert_eq!(read(folder.path()), messages);
}

#[test]
fn a_database_without_an_index_on_the_time_is_read_in_time_order_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("odd name?#%.db3");
    fs::copy(fixture("rosbag2/sqlite3_none/sqlite3_none.db3"), &path).unwrap();
    rusqlite::Connection::open(&path).unwrap().execute_batch("DROP INDEX timestamp_idx").unwrap();
    assert_eq!(read(&path), recording());
}

#[test]
fn a_listed_file_that_is_missing_is_reported_and_the_others_are_read() {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(fixture("mcap/zstd.mcap"), folder.path().join("x_0.mcap")).unwrap();
    let metadata = "rosbag2_bagfile_information:\n  relative_file_paths:\n    - x_0.mcap\n    - ../x_1.mcap\n";
    fs::write(folder.path().join("metadata.yaml"), metadata).unwrap();
    let mut bag = BagReader::open(folder.path()).unwrap();
    assert_eq!(bag.by_ref().collect::<Vec<_>>(), recording());
    assert_eq!(bag.report().problems().len(), 1);
    assert!(bag.report().problems()[0].to_string().contains("x_1.mcap: listed in metadata.yaml and not opened"));
}

#[test]
fn what_is_no_bag_is_told_by_name() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(BagReader::open(folder.path()), Err(BagError::EmptyFolder { .. })));
    let file = folder.path().join("points.pcd");
    fs::write(&file, "# .PCD v0.7").unwrap();
    let error = BagReader::open(&file).err().unwrap().to_string();
    assert!(error.contains("points.pcd: neither MCAP nor SQLite"), "{error}");
    assert!(matches!(BagReader::open(&folder.path().join("absent")), Err(BagError::Io { .. })));
}

#[test]
fn a_written_bag_reads_back_and_carries_definitions() {
    let folder = tempfile::tempdir().unwrap();
    for compression in [ChunkCompression::None, ChunkCompression::Zstd] {
        let path = folder.path().join("out.mcap");
        let mut bag = BagWriter::create_with(&path, compression).unwrap();
        bag.write("/boxes", Stamp(1), &samples::detection3d_array()).unwrap();
        bag.write("/tf_static", Stamp(0), &samples::tf_message(0)).unwrap();
        let error = bag.write("/boxes", Stamp(2), &samples::marker_array()).unwrap_err();
        assert!(error.to_string().contains("topic /boxes is vision_msgs/msg/Detection3DArray"), "{error}");
        bag.finish().unwrap();
        let messages = read(&path);
        assert_eq!(messages[0].data, samples::tf_message(0).encode());
        assert_eq!((messages[1].data.clone(), messages[1].stamp), (samples::detection3d_array().encode(), Stamp(1)));
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn an_unfinished_bag_leaves_nothing_and_replaces_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.mcap");
    fs::write(&path, "old").unwrap();
    let mut bag = BagWriter::create(&path).unwrap();
    bag.write("/tf", Stamp(0), &samples::tf_message(0)).unwrap();
    drop(bag);
    assert_eq!(fs::read(&path).unwrap(), b"old");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_bag_is_a_transport() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.mcap");
    let source = BagReader::open(&fixture("mcap/zstd.mcap")).unwrap();
    let mut bag = BagTransport::new(source, Some(BagWriter::create(&path).unwrap()));
    {
        let transport: &mut dyn Transport = &mut bag;
        assert!(matches!(transport.receive(Duration::ZERO).unwrap(), Received::Nothing));
        while let Received::Message(message) = transport.receive(Duration::MAX).unwrap() {
            if &*message.topic == "/points" {
                transport.publish("/copy", message.stamp, &PointCloud2::decode(&message.data).unwrap()).unwrap();
            }
        }
    }
    assert!(bag.finish().unwrap().report().is_clean());
    let copies: Vec<_> = read(&path).into_iter().map(|m| (m.stamp, m.data)).collect();
    let expected: Vec<_> = recording().into_iter().filter(|m| &*m.topic == "/points").map(|m| (m.stamp, m.data)).collect();
    assert_eq!(copies, expected);
}

/// For `tests/data/ros/check_written.py`, which reads the bag with the public packages; run by hand.
#[test]
#[ignore = "writes the file named by LIDAR_PTQ_WRITTEN_BAG"]
fn write_a_bag_for_the_public_readers() {
    let path = std::env::var("LIDAR_PTQ_WRITTEN_BAG").expect("LIDAR_PTQ_WRITTEN_BAG is set");
    let mut bag = BagWriter::create(path.as_ref()).unwrap();
    bag.write("/point_cloud2", Stamp(0), &samples::point_cloud2(3)).unwrap();
    bag.write("/tf_message", Stamp(1), &samples::tf_message(3)).unwrap();
    bag.write("/pose_stamped", Stamp(2), &samples::pose_stamped()).unwrap();
    bag.write("/odometry", Stamp(3), &samples::odometry()).unwrap();
    bag.write("/detection3d_array", Stamp(4), &samples::detection3d_array()).unwrap();
    bag.write("/marker_array", Stamp(5), &samples::marker_array()).unwrap();
    bag.write("/compressed_image", Stamp(6), &samples::compressed_image()).unwrap();
    bag.write("/camera_info", Stamp(7), &samples::camera_info()).unwrap();
    bag.finish().unwrap();
}
