//! What the fuzz targets do with their input, and `tests/corpus.rs` with every file of the corpus.
//!
//! Each function feeds bytes from outside to one reader. Errors are right answers; a panic, a hang, or a result that
//! breaks what its type promises is a finding. Checksums hide what lies behind them from a mutating fuzzer, so where a format
//! has one, a first byte chooses between the file itself and content that is wrapped in a valid file here.

use lidar_ptq::detect::{DetectorConfig, Grid, Model, Preset};
use lidar_ptq::graph::{Checkpoint, MANIFEST_KEY, Params, Precision, Provenance};
use lidar_ptq::ros::bag::{BagReader, ProblemKind, Report, Selection};
use lidar_ptq::ros::cdr::{CdrWriter, Endian};
use lidar_ptq::ros::msg::RosMessage;
use lidar_ptq::ros::msg::geometry_msgs::PoseStamped;
use lidar_ptq::ros::msg::nav_msgs::Odometry;
use lidar_ptq::ros::msg::sensor_msgs::{CameraInfo, CompressedImage, PointCloud2, PointCloud2Ref};
use lidar_ptq::ros::msg::tf2_msgs::TFMessage;
use lidar_ptq::ros::msg::vision_msgs::Detection3DArray;
use lidar_ptq::ros::msg::visualization_msgs::MarkerArray;
use lidar_ptq::ros::point_cloud::{decode_cloud, decode_field, encode_cloud};
use lidar_ptq::sensor::files::{parse_bin, parse_cloud, parse_npy, parse_pcd};
use lidar_ptq::sensor::{PointCloud, PointTime, Stamp, TIME, TimeReference, TimeUnit};
use ndarray::{ArrayD, IxDyn};
use safetensors::SafeTensors;
use std::collections::{HashMap, HashSet};
use std::io::{Cursor, Write};
use std::path::Path;
use std::sync::OnceLock;

/// Name and body.
pub type Target = (&'static str, fn(&[u8]));

/// Every target by its name, which is also that of its corpus folder.
pub const TARGETS: [Target; 7] = [
    ("cdr", cdr),
    ("point_cloud2", point_cloud2),
    ("bag_mcap", bag_mcap),
    ("bag_sqlite", bag_sqlite),
    ("clouds", clouds),
    ("checkpoint", checkpoint),
    ("model_file", model_file),
];

/// The first byte chooses the message type, the rest is the message.
pub fn cdr(bytes: &[u8]) {
    const MESSAGES: [fn(&[u8]); 9] = [
        viewed_point_cloud2,
        message::<PointCloud2>,
        message::<TFMessage>,
        message::<PoseStamped>,
        message::<Odometry>,
        message::<Detection3DArray>,
        message::<MarkerArray>,
        message::<CompressedImage>,
        message::<CameraInfo>,
    ];
    if let Some((&choice, bytes)) = bytes.split_first() {
        MESSAGES[usize::from(choice) % MESSAGES.len()](bytes);
    }
}

/// Compares encodings, not messages: NaN is not equal to itself. Encoding clamps times, so only what has been encoded once
/// must come back the same.
fn message<M: RosMessage>(bytes: &[u8]) {
    match M::decode(bytes) {
        Ok(message) => {
            let little = message.encode();
            let mut writer = CdrWriter::new(Endian::Big);
            message.write(&mut writer);
            for encoded in [&little, &writer.finish()] {
                let again = M::decode(encoded).expect("what was encoded is decoded");
                assert_eq!(again.encode(), little, "{}", M::TYPE);
            }
        }
        Err(error) => {
            assert!(error.offset <= bytes.len().max(4), "{error}");
            assert_eq!(error.message, M::TYPE);
        }
    }
}

fn viewed_point_cloud2(bytes: &[u8]) {
    match (PointCloud2Ref::view(bytes), PointCloud2::decode(bytes)) {
        (Ok(view), Ok(message)) => assert_eq!(view, message.as_view()),
        (Err(a), Err(b)) => assert_eq!(a, b),
        (view, message) => panic!("view {view:?}, decoded {message:?}"),
    }
}

/// A message: as it is, and as one row of as many points as its data has, because sizes that agree are hard to guess.
pub fn point_cloud2(bytes: &[u8]) {
    let Ok(mut message) = PointCloud2Ref::view(bytes) else { return };
    decode_with_all_wishes(&message);
    let points = message.data.len().checked_div(message.point_step as usize).unwrap_or(0);
    message.data = &message.data[..points * message.point_step as usize];
    (message.height, message.width, message.row_step) = (1, points as u32, 0);
    decode_with_all_wishes(&message);
}

fn decode_with_all_wishes(message: &PointCloud2Ref) {
    let own: Vec<&str> = message.fields.iter().map(|f| f.name.as_str()).collect();
    for wanted in [&[][..], &["intensity"], &["intensity", "ring", "x", "intensity", "absent"], &own] {
        let Ok((cloud, report)) = decode_cloud(message, wanted).map_err(|error| error.to_string()) else { continue };
        check_cloud(&cloud);
        assert_eq!((cloud.len() + report.dropped) as u64, u64::from(message.width) * u64::from(message.height));
        assert!(report.absent.iter().all(|name| wanted.contains(&name.as_str()) && cloud.field_index(name).is_none()));
        let encoded = encode_cloud(&cloud);
        let fields: Vec<&str> = cloud.fields.iter().map(String::as_str).collect();
        let (again, _) = decode_cloud(&encoded.as_view(), &fields).expect("an encoded cloud");
        assert_eq!(again.fields, cloud.fields);
        assert!(again.data.iter().zip(&cloud.data).all(|(a, b)| a.to_bits() == b.to_bits()));
        assert_eq!(again.data.shape(), cloud.data.shape());
        cloud.fields.iter().for_each(|field| check_field(message, &cloud, field));
    }
}

/// A field at full precision belongs to the same points as the cloud, and makes times of whatever it holds.
fn check_field(message: &PointCloud2Ref, cloud: &PointCloud, field: &str) {
    let exact = decode_field(message, field).expect("as the cloud").expect("the cloud has it");
    let column = cloud.column(field).expect("named by itself");
    assert_eq!(exact.len(), column.len());
    assert!(exact.iter().zip(column).all(|(exact, rounded)| *exact as f32 == *rounded || exact.is_nan() && rounded.is_nan()));
    for reference in [TimeReference::BeforeStamp, TimeReference::AfterStamp, TimeReference::ScanStart, TimeReference::Clock] {
        let mut timed = cloud.clone();
        let time = PointTime { field: Some(field.into()), unit: TimeUnit::Ns, reference };
        let Ok(range) = time.apply(&mut timed, Some(&exact), &[]) else { continue };
        assert_eq!(timed.fields[..3], ["x", "y", "z"]);
        assert!(
            range.is_none_or(|range| range.iter().all(|v| v.is_finite()))
                && timed.column(TIME).is_none_or(|c| c.iter().all(|v| v.is_finite()))
        );
    }
}

/// What `PointCloud` promises.
fn check_cloud(cloud: &PointCloud) {
    assert_eq!(cloud.fields[..3], ["x", "y", "z"]);
    assert_eq!(cloud.data.ncols(), cloud.fields.len());
    assert!(cloud.data.is_standard_layout());
    assert_eq!(cloud.fields.iter().collect::<HashSet<_>>().len(), cloud.fields.len(), "{:?}", cloud.fields);
    assert!(cloud.data.rows().into_iter().all(|row| row.iter().take(3).all(|v| v.is_finite())));
}

/// A bag file with or without the first bytes of MCAP, which are then put before it.
pub fn bag_mcap(bytes: &[u8]) {
    bag(b"\x89MCAP0\r\n", bytes);
}

/// A bag file with or without the first bytes of SQLite, which are then put before it.
pub fn bag_sqlite(bytes: &[u8]) {
    bag(b"SQLite format 3\0", bytes);
}

fn bag(magic: &[u8], bytes: &[u8]) {
    const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    if !bytes.starts_with(magic) && !bytes.starts_with(&ZSTD_MAGIC) {
        file.write_all(magic).expect("written");
    }
    file.write_all(bytes).expect("written");
    let Ok(mut bag) = BagReader::open(file.path()).map_err(|error| error.to_string()) else { return };

    let mut previous = None;
    let mut first = None;
    let mut topics = HashSet::new();
    let mut in_order = true;
    for message in &mut bag {
        topics.insert(message.topic.clone());
        in_order &= previous.is_none_or(|previous| previous <= message.stamp);
        previous = Some(message.stamp);
        first.get_or_insert(message);
    }
    assert!(in_order || is_reported_out_of_order(bag.report()));
    // Asked for afterwards: a damaged file may describe a channel inside a chunk only.
    assert!(topics.iter().all(|topic| bag.topics().iter().any(|known| known.name == *topic)));
    check_report(bag.report());

    // The same again, from the first message's topic and a window in time that begins with it.
    let Some(first) = first else { return };
    let end = Stamp(first.stamp.0.saturating_add(1_000_000_000));
    bag.select(Selection::topics([&*first.topic]).from(first.stamp).until(end));
    assert!(bag.by_ref().all(|m| m.topic == first.topic && (first.stamp..end).contains(&m.stamp)));
    check_report(bag.report());
}

fn is_reported_out_of_order(report: &Report) -> bool {
    report.more() > 0 || report.problems().iter().any(|p| p.kind == ProblemKind::OutOfOrder)
}

fn check_report(report: &Report) {
    assert!(report.problems().iter().all(|problem| !problem.to_string().is_empty()));
    assert!(!report.is_clean() || report.more() == 0);
}

/// The first byte chooses the format and the columns, the rest is the file.
pub fn clouds(bytes: &[u8]) {
    let Some((&choice, bytes)) = bytes.split_first() else { return };
    let four: Vec<String> = ["intensity", "z", "y", "x"].map(str::to_owned).to_vec();
    let five: Vec<String> = ["x", "y", "z", "intensity", "time"].map(str::to_owned).to_vec();
    let parsed = match choice % 8 {
        0 => parse_pcd(bytes),
        1 => parse_npy(bytes, None),
        2 => parse_npy(bytes, Some(&four)),
        3 => parse_npy(bytes, Some(&five)),
        4 => parse_bin(bytes, None),
        5 => parse_bin(bytes, Some(&four)),
        6 => parse_bin(bytes, Some(&five)),
        _ => match parse_cloud(Path::new("1.pcd.bin"), bytes, None) {
            Ok(parsed) => Ok(parsed),
            Err(error) => return assert!(!error.to_string().is_empty()),
        },
    };
    match parsed {
        Ok(parsed) => {
            check_cloud(&parsed.cloud);
            assert!(parsed.cloud.len() + parsed.dropped_non_finite <= bytes.len());
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// After an even first byte: a checkpoint file. After an odd one: the pickle of a zip archive with two storages.
pub fn checkpoint(bytes: &[u8]) {
    let Some((&choice, bytes)) = bytes.split_first() else { return };
    let archive;
    let file = if choice % 2 == 0 {
        bytes
    } else {
        archive = archive_of(bytes);
        &archive
    };
    match Checkpoint::from_bytes(file) {
        Ok(checkpoint) => {
            let values: usize = checkpoint.params.0.values().map(|tensor| tensor.len()).sum();
            assert!(values <= 4 * file.len(), "{values} values from {} bytes", file.len());
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// What `torch.save` makes of a pickle and the storages `0` (64 bytes, of finite numbers as f32) and `1` (8 bytes).
fn archive_of(pickle: &[u8]) -> Vec<u8> {
    let options = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    let numbers: Vec<u8> = (0..16u8).flat_map(|n| f32::from(n).to_le_bytes()).collect();
    let entries = [("a/data.pkl", pickle), ("a/byteorder", b"little"), ("a/data/0", &numbers), ("a/data/1", &[1; 8])];
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in entries {
        archive.start_file(name, options).expect("started");
        archive.write_all(content).expect("written");
    }
    archive.finish().expect("finished").into_inner()
}

/// After an even first byte: a model file. After an odd one: the manifest of [`small_model`]'s file.
pub fn model_file(bytes: &[u8]) {
    let Some((&choice, bytes)) = bytes.split_first() else { return };
    let read = match (choice % 2, std::str::from_utf8(bytes)) {
        (0, _) => Model::from_bytes(bytes),
        (_, Ok(manifest)) => Model::from_bytes(&with_manifest(manifest)),
        (_, Err(_)) => return,
    };
    match read {
        Ok(model) => {
            model.params().check(model.graph()).expect("parameters fit the graph");
            assert!(model.params().0.values().flatten().all(|v| v.is_finite()));
            let written = model.to_bytes(Precision::F32).expect("written");
            assert_eq!(Model::from_bytes(&written).expect("what was written is read"), model);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn with_manifest(manifest: &str) -> Vec<u8> {
    static MODEL: OnceLock<Vec<u8>> = OnceLock::new();
    let model = MODEL.get_or_init(|| small_model().to_bytes(Precision::F32).expect("written"));
    let tensors = SafeTensors::deserialize(model).expect("valid").tensors();
    let metadata = HashMap::from([(MANIFEST_KEY.to_owned(), manifest.to_owned())]);
    safetensors::serialize(tensors, Some(metadata)).expect("written")
}

/// A detector of a few hundred parameters on an 8 x 8 grid.
pub fn small_model() -> Model {
    let mut config = Preset::find("nuscenes_pillar_det3d").expect("a preset").config().expect("valid");
    config.grid = Grid { min: [-4.0, -4.0, -2.0], max: [4.0, 4.0, 2.0], voxel: [1.0, 1.0, 4.0] };
    config.network.encoder.layers = vec![2, 2];
    config.network.rpn.layers = vec![0, 0, 0];
    config.network.rpn.filters = vec![1, 1, 2];
    config.network.rpn.upsample_filters = vec![1, 1, 1];
    config.network.head.shared_channels = 1;
    config.network.head.branch_channels = 1;
    config.network.head.tasks.truncate(1);
    let params = ones(&config);
    Model::new(config, params, Provenance::default()).expect("valid")
}

fn ones(config: &DetectorConfig) -> Params {
    let specs = config.graph().expect("valid").params();
    Params(specs.into_iter().map(|spec| (spec.name, ArrayD::ones(IxDyn(&spec.shape)))).collect())
}
