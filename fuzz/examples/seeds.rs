//! Writes the seeds of the corpus (`fuzz/corpus/*/seed-*`) from `tests/data`, and those that need no fixture from nothing.

use lidar_ptq::detect::PRESETS;
use lidar_ptq::graph::{MANIFEST_KEY, Manifest, Precision, Provenance};
use lidar_ptq::ros::msg::RosMessage;
use lidar_ptq::ros::msg::sensor_msgs::{PointCloud2, PointField};
use safetensors::SafeTensors;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

fn main() {
    cdr();
    point_cloud2();
    bags();
    databases();
    clouds();
    checkpoints();
    models();
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn fixture(name: &str) -> Vec<u8> {
    let path = root().join("tests/data").join(name);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn seed(target: &str, name: &str, parts: &[&[u8]]) {
    let folder = root().join("fuzz/corpus").join(target);
    fs::create_dir_all(&folder).expect("a folder");
    fs::write(folder.join(format!("seed-{name}")), parts.concat()).expect("written");
}

/// The bytes before a file choose its message, as in `lidar_ptq_fuzz::cdr`.
fn cdr() {
    let messages: [(&str, &[u8]); 8] = [
        ("point_cloud2", &[0, 1]),
        ("tf_message", &[2]),
        ("pose_stamped", &[3]),
        ("odometry", &[4]),
        ("detection3d_array", &[5]),
        ("marker_array", &[6]),
        ("compressed_image", &[7]),
        ("camera_info", &[8]),
    ];
    for (name, choices) in messages {
        for (choice, order) in choices.iter().flat_map(|choice| [(choice, "le"), (choice, "be")]) {
            seed("cdr", &format!("{name}-{choice}-{order}"), &[&[*choice], &fixture(&format!("ros/cdr/{name}.{order}.cdr"))]);
        }
    }
}

fn point_cloud2() {
    for order in ["le", "be"] {
        seed("point_cloud2", order, &[&fixture(&format!("ros/cdr/point_cloud2.{order}.cdr"))]);
    }
    // A field of every datatype at odd offsets, z before x, two padded rows.
    let layout = [("z", 8, 1), ("ring", 1, 9), ("u8", 2, 10), ("i16", 3, 11), ("u16", 4, 13), ("i32", 5, 15), ("u32", 6, 19)];
    let layout = layout.into_iter().chain([("x", PointField::FLOAT32, 23), ("y", PointField::FLOAT32, 27)]);
    let field = |(name, datatype, offset): (&str, u8, u32)| PointField { name: name.to_owned(), offset, datatype, count: 1 };
    let mut message = PointCloud2 {
        height: 2,
        width: 2,
        fields: layout.map(field).collect(),
        is_bigendian: true,
        point_step: 33,
        row_step: 70,
        data: (0..140).collect(),
        ..PointCloud2::default()
    };
    seed("point_cloud2", "mixed", &[&message.encode()]);
    (message.is_bigendian, message.height, message.row_step) = (false, 1, 0);
    message.data.truncate(66);
    seed("point_cloud2", "row", &[&message.encode()]);
}

fn bags() {
    for name in ["none", "zstd", "lz4", "no_crc", "no_index", "no_summary", "unchunked"] {
        let bytes = fixture(&format!("ros/mcap/{name}.mcap"));
        seed("bag_mcap", &format!("{name}-unchecked"), &[&without_checksums(bytes)]);
    }
    seed("bag_mcap", "zstd", &[&fixture("ros/mcap/zstd.mcap")]);
    seed("bag_mcap", "message", &[&without_checksums(fixture("ros/rosbag2/mcap_message/mcap_message.mcap"))]);
    seed("bag_mcap", "file", &[&fixture("ros/rosbag2/mcap_file/mcap_file.mcap.zstd")]);
}

/// An MCAP file whose checksums are 0, which says that there are none.
fn without_checksums(mut file: Vec<u8>) -> Vec<u8> {
    const MAGIC: usize = 8;
    let mut at = MAGIC;
    while at + MAGIC < file.len() {
        let length = u64::from_le_bytes(file[at + 1..at + 9].try_into().expect("8 bytes")) as usize;
        // Where the checksum stands in the content of a footer, a chunk and a data end record.
        let checksum = match file[at] {
            0x02 => Some(16),
            0x06 => Some(24),
            0x0f => Some(0),
            _ => None,
        };
        if let Some(checksum) = checksum {
            file[at + 9 + checksum..][..4].fill(0);
        }
        at += 9 + length;
    }
    file
}

fn databases() {
    for name in ["sqlite3_none", "sqlite3_message"] {
        seed("bag_sqlite", name, &[&fixture(&format!("ros/rosbag2/{name}/{name}.db3"))]);
    }
    seed("bag_sqlite", "sqlite3_file", &[&fixture("ros/rosbag2/sqlite3_file/sqlite3_file.db3.zstd")]);
    // Small pages make small files. More rows than are fetched at once take more of them.
    seed("bag_sqlite", "index", &[&database(5, true)]);
    seed("bag_sqlite", "no_index", &[&database(5, false)]);
    let many = database(600, true);
    seed("bag_sqlite", "many", &[&many]);
    // Rows 512 and 514 of the index get the times 0 and -1: whoever takes the last row of a page for the latest starts over.
    let row = |time: [u8; 2], id: u16| [&[3, 2, 2][..], &time, &id.to_be_bytes()].concat();
    let turned_back = replace(&replace(&many, &row([1, 255], 512), &row([0, 0], 512)), &row([2, 1], 514), &row([255, 255], 514));
    seed("bag_sqlite", "turned_back", &[&turned_back]);
}

fn replace(bytes: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    let at = bytes.windows(old.len()).position(|window| window == old).expect("found");
    [&bytes[..at], new, &bytes[at + old.len()..]].concat()
}

fn database(messages: usize, with_index: bool) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.db3");
    let connection = rusqlite::Connection::open(&path).expect("opened");
    let index = if with_index { "CREATE INDEX timestamp_idx ON messages (timestamp ASC);" } else { "" };
    let schema = format!(
        "PRAGMA page_size = 512;
         CREATE TABLE topics(id INTEGER PRIMARY KEY, name TEXT NOT NULL, type TEXT NOT NULL, serialization_format TEXT NOT NULL);
         CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER NOT NULL, timestamp INTEGER NOT NULL, data BLOB NOT NULL);
         {index}
         INSERT INTO topics VALUES (1, '/a', 'std_msgs/msg/Header', 'cdr'), (2, '/b', 'std_msgs/msg/Header', 'json');"
    );
    connection.execute_batch(&schema).expect("made");
    let mut insert = connection.prepare("INSERT INTO messages(topic_id, timestamp, data) VALUES (1, ?1, ?2)").expect("prepared");
    connection.execute_batch("BEGIN").expect("begun");
    for i in 0..messages {
        insert.execute((i as i64, [0u8, 1, 0, 0])).expect("inserted");
    }
    connection.execute_batch("COMMIT").expect("committed");
    fs::read(&path).expect("read")
}

/// The byte before a file chooses its format, as in `lidar_ptq_fuzz::clouds`.
fn clouds() {
    let floats = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>();
    let four = floats(&[1.0, 2.0, 3.0, 0.5, -1.0, f32::NAN, 0.0, 0.25, 4.0, 5.0, 6.0, 0.75]);

    let header = |width: usize, data: &str| {
        format!(
            "# .PCD v0.7\nVERSION 0.7\nFIELDS x y z intensity\nSIZE 4 4 4 4\nTYPE F F F F\nCOUNT 1 1 1 1\nWIDTH {width}\nHEIGHT 1\n\
             VIEWPOINT 0 0 0 1 0 0 0\nPOINTS {width}\nDATA {data}\n"
        )
    };
    seed("clouds", "pcd-ascii", &[&[0], header(2, "ascii").as_bytes(), b"1 2 3 0.5\n-1e3 nan 0 1\n"]);
    seed("clouds", "pcd-binary", &[&[0], header(3, "binary").as_bytes(), &four]);
    let mixed = "FIELDS x y z _ ring normal\nSIZE 8 4 2 1 2 4\nTYPE F F I U U F\nCOUNT 1 1 1 3 1 2\nWIDTH 1\nHEIGHT 2\nDATA binary\n";
    seed("clouds", "pcd-mixed", &[&[0], mixed.as_bytes(), &[0; 2 * 27]]);
    // LZF: a control byte below 32 stands before that many bytes, and one, as they are.
    let columns: Vec<u8> = floats(&[1.0, -1.0, 4.0, 2.0, 2.5, 5.0, 3.0, 0.0, 6.0, 0.5, 0.25, 0.75]);
    let literal: Vec<u8> = columns.chunks(32).flat_map(|run| [&[run.len() as u8 - 1], run].concat()).collect();
    let sizes = [(literal.len() as u32).to_le_bytes(), (columns.len() as u32).to_le_bytes()].concat();
    seed("clouds", "pcd-compressed", &[&[0], header(3, "binary_compressed").as_bytes(), &sizes, &literal]);

    let npy = |dictionary: &str| [&b"\x93NUMPY\x01\x00"[..], &(dictionary.len() as u16).to_le_bytes(), dictionary.as_bytes()].concat();
    let matrix = npy("{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }\n");
    seed("clouds", "npy-matrix", &[&[1], &matrix, &four]);
    seed("clouds", "npy-matrix-named", &[&[2], &matrix, &four]);
    seed("clouds", "npy-fortran", &[&[3], &npy("{'descr': '>i2', 'fortran_order': True, 'shape': (2, 5), }\n"), &[1; 20]]);
    let records =
        "{'descr': [('x', '<f4'), ('y', '<f4'), ('z', '<f8'), ('', '|V2'), ('n', '<u2', (2,))], 'fortran_order': False, 'shape': (2,)}";
    seed("clouds", "npy-records", &[&[1], &npy(records), &[0; 2 * 22]]);

    seed("clouds", "bin-four", &[&[4], &four]);
    seed("clouds", "bin-four-named", &[&[5], &four]);
    let five: Vec<u8> = (0..9u8).flat_map(|i| floats(&[f32::from(i), -1.5, 2.5, 0.5, f32::from(i / 5) * 0.05])).collect();
    seed("clouds", "bin-five", &[&[4], &five]);
    seed("clouds", "bin-five-named", &[&[6], &five]);
    let rings: Vec<u8> = (0..9u8).flat_map(|i| floats(&[f32::from(i), -1.5, 2.5, 12.0, f32::from(i)])).collect();
    seed("clouds", "bin-nuscenes", &[&[7], &rings]);
}

/// Files whole, and the pickles of the archives alone.
fn checkpoints() {
    let folder = root().join("tests/data/checkpoint");
    let paths: Vec<PathBuf> = fs::read_dir(folder).expect("fixtures").map(|entry| entry.expect("an entry").path()).collect();
    for path in paths.iter().filter(|path| path.extension().is_some_and(|e| e == "pth")) {
        let name = path.file_stem().expect("a name").to_string_lossy();
        let bytes = fs::read(path).expect("read");
        seed("checkpoint", &name, &[&[0], &bytes]);
        if let Some(pickle) = pickle_of(&bytes) {
            seed("checkpoint", &format!("{name}-pickle"), &[&[1], &pickle]);
        }
    }
    let tensors = br#"{"__metadata__":{"format":"pt"},"a.weight":{"dtype":"F16","shape":[1,2],"data_offsets":[0,4]},"n":{"dtype":"I64","shape":[],"data_offsets":[4,12]}}"#;
    seed("checkpoint", "safetensors", &[&[0], &(tensors.len() as u64).to_le_bytes(), tensors, &[0; 12]]);
}

fn pickle_of(file: &[u8]) -> Option<Vec<u8>> {
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(file)).ok()?;
    let name = archive.file_names().find(|name| name.ends_with("/data.pkl"))?.to_owned();
    let mut pickle = Vec::new();
    archive.by_name(&name).ok()?.read_to_end(&mut pickle).ok()?;
    Some(pickle)
}

fn models() {
    for (name, precision) in [("f32", Precision::F32), ("f16", Precision::F16)] {
        let bytes = lidar_ptq_fuzz::small_model().to_bytes(precision).expect("written");
        seed("model_file", name, &[&[0], &bytes]);
        let (_, metadata) = SafeTensors::read_metadata(&bytes).expect("valid");
        let manifest = &metadata.metadata().as_ref().expect("metadata")[MANIFEST_KEY];
        seed("model_file", "manifest", &[&[1], manifest.as_bytes()]);
    }
    for preset in PRESETS {
        let manifest = Manifest::new(preset.config().expect("valid"), Provenance::default());
        seed("model_file", preset.name, &[&[1], serde_json::to_string(&manifest).expect("json").as_bytes()]);
    }
}
