//! Damaged bags: what is readable is read, the rest is reported, and nothing panics.

use crate::bags::{BAGS, recording};
use crate::fixture;
use lidar_ptq::ros::bag::{BagReader, ProblemKind, RawMessage, Report};
use proptest::prelude::*;
use std::fs;
use std::path::Path;

/// The bag file of a fixture, which may be a folder.
fn file_bytes(name: &str) -> Vec<u8> {
    let path = fixture(name);
    if path.is_file() {
        return fs::read(path).unwrap();
    }
    let files = fs::read_dir(path).unwrap().map(|e| e.unwrap().path());
    fs::read(files.into_iter().find(|p| !p.ends_with("metadata.yaml")).unwrap()).unwrap()
}

fn read_bytes(path: &Path, bytes: &[u8]) -> Option<(Vec<RawMessage>, Report)> {
    fs::write(path, bytes).unwrap();
    let mut bag = BagReader::open(path).ok()?;
    let messages = bag.by_ref().collect();
    Some((messages, bag.report().clone()))
}

/// A cut file gives a subset of the recording in its order, not a prefix of it: it was not written in time order.
fn is_subset(messages: &[RawMessage]) -> bool {
    let mut all = recording().into_iter();
    messages.iter().all(|m| all.any(|r| r == *m))
}

#[test]
fn a_bag_cut_at_any_byte_gives_what_is_before_the_cut() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cut");
    for name in BAGS.iter().filter(|name| !name.contains("sqlite3")) {
        let bytes = file_bytes(name);
        // Every byte of one file of each kind; the others differ in their compression only.
        let step = if ["none.mcap", "no_summary.mcap", "unchunked.mcap"].iter().any(|n| name.ends_with(n)) { 1 } else { 31 };
        let mut most = 0;
        for length in (0..bytes.len()).step_by(step).chain([bytes.len()]) {
            let Some((messages, report)) = read_bytes(&path, &bytes[..length]) else { continue };
            assert!(is_subset(&messages), "{name} cut at {length}");
            assert!(messages.len() >= most, "{name} cut at {length} gives less than cut earlier");
            assert!(messages.len() == 12 || !report.is_clean(), "{name} cut at {length} is not reported");
            most = messages.len();
        }
        assert_eq!(most, 12, "{name}");
    }
}

#[test]
fn a_cut_database_gives_no_wrong_message_and_all_that_can_be_reached() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cut");
    for name in BAGS.iter().filter(|name| name.contains("sqlite3")) {
        let bytes = file_bytes(name);
        let mut most = 0;
        for length in (0..bytes.len()).step_by(101) {
            let Some((messages, report)) = read_bytes(&path, &bytes[..length]) else { continue };
            assert!(is_subset(&messages), "{name} cut at {length}");
            assert!(!report.is_clean(), "{name} cut at {length} is not reported");
            most = most.max(messages.len());
        }
        // Messages are in many pages of a plain database; a single zstd frame has no readable part.
        assert!(name.ends_with("file") || (1..12).contains(&most), "{name}: {most}");
    }
}

#[test]
fn a_chunk_with_a_wrong_checksum_is_left_out_and_the_others_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let mut bytes = file_bytes("mcap/none.mcap");
    let cloud = bytes.windows(8).position(|w| w == [2.0f32.to_le_bytes(), 2.25f32.to_le_bytes()].concat()).unwrap();
    bytes[cloud] ^= 1;
    let (messages, report) = read_bytes(&folder.path().join("damaged.mcap"), &bytes).unwrap();
    assert!(is_subset(&messages) && (8..12).contains(&messages.len()), "{}", messages.len());
    assert!(
        matches!(report.problems(), [problem] if matches!(&problem.kind, ProblemKind::Chunk { reason, .. } if reason.contains("CRC"))),
        "{report:?}"
    );
}

#[test]
fn a_wrong_index_is_not_used() {
    let folder = tempfile::tempdir().unwrap();
    let mut bytes = file_bytes("mcap/zstd.mcap");
    let last = bytes.len() - 8 - 29 - 60;
    bytes[last] ^= 0xff;
    let (messages, report) = read_bytes(&folder.path().join("damaged.mcap"), &bytes).unwrap();
    assert_eq!(messages, recording());
    assert!(matches!(report.problems(), [problem] if matches!(problem.kind, ProblemKind::Summary { .. })), "{report:?}");
}

#[test]
fn lengths_beyond_all_memory_are_reported() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("huge.mcap");
    let magic = b"\x89MCAP0\r\n";
    for opcode in 1..=0x10u8 {
        for length in [1u64 << 60, u64::MAX, u64::MAX - 8, 1 << 31] {
            let bytes = [&magic[..], &[opcode], &length.to_le_bytes(), &[0xff; 64]].concat();
            let (messages, _) = read_bytes(&path, &bytes).unwrap();
            assert!(messages.is_empty());
        }
        let record = [&[opcode][..], &100u64.to_le_bytes(), &[0xff; 100]].concat();
        let (messages, _) = read_bytes(&path, &[&magic[..], &record].concat()).unwrap();
        assert!(messages.is_empty());
    }
}

proptest! {
    #[test]
    fn changed_bags_never_panic(
        which in 0..BAGS.len(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let mut bytes = file_bytes(BAGS[which]);
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        read_bytes(&folder.path().join("changed"), &bytes);
    }

    #[test]
    fn arbitrary_bytes_after_the_magic_never_panic(
        magic in prop::sample::select(vec![&b"\x89MCAP0\r\n"[..], b"SQLite format 3\0", &[0x28, 0xb5, 0x2f, 0xfd]]),
        bytes in prop::collection::vec(any::<u8>(), 0..600),
    ) {
        let folder = tempfile::tempdir().unwrap();
        read_bytes(&folder.path().join("arbitrary"), &[magic, &bytes[..]].concat());
    }
}
