//! `lidar_ptq detect` on bags with ground truth: what it says, writes and draws of it; and that others are left alone.

#[allow(dead_code)] // each test file uses its own part
mod support;

use lidar_ptq::geometry::Box3;
use lidar_ptq::node::messages::truth_array;
use lidar_ptq::ros::bag::{BagReader, BagWriter, RawMessage};
use lidar_ptq::ros::msg::RosMessage;
use lidar_ptq::ros::msg::vision_msgs::Detection3DArray;
use lidar_ptq::ros::point_cloud::encode_cloud;
use serde_json::Value;
use std::path::Path;
use support::{TOPIC, Workbench, scene};

const TRUTH: &str = "/ground_truth";
const DETECTIONS: &str = "/lidar_ptq/output/detections";
const FRAMES: usize = 3;

impl Workbench {
    /// What a run that succeeds writes to stdout and to stderr.
    fn detect(&self, arguments: &str) -> [String; 2] {
        let output = self.run(arguments);
        let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).expect("text"));
        assert_eq!(output.status.code(), Some(0), "{arguments}: {}", text[1]);
        text
    }

    /// The clouds, each with these objects on a topic.
    fn write_bag(&self, name: &str, truth: Option<(&str, &str, &[Objects])>) {
        let mut bag = BagWriter::create(&self.path(name)).expect("a bag");
        for i in 0..FRAMES {
            let cloud = scene(i);
            bag.write(TOPIC, cloud.stamp, &encode_cloud(&cloud)).expect("written");
            if let Some((topic, frame_id, objects)) = truth {
                let objects = objects[i].iter().zip(1..).map(|((bbox, class), track)| (*bbox, class.as_str(), track));
                bag.write(topic, cloud.stamp, &truth_array(cloud.stamp, frame_id, objects)).expect("written");
            }
        }
        bag.finish().expect("written");
    }

    /// What the model finds, as if it were there: with points in every box, wherever random weights put it (the cloud ends at
    /// 24 m, the grid at 36 m; heights are anybody's guess, and differ from one machine to the next).
    fn found(&self) -> Vec<Objects> {
        self.write_bag("plain.mcap", None);
        let [lines, _] = self.detect("plain.mcap --json -");
        let frames = lines.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        let object = |found: &Value| {
            let center = [0, 1, 2].map(|i| found["center"][i].as_f64().expect("a number") as f32);
            let side = 8.0 + 2.0 * (center[0].hypot(center[1]) - 20.0).max(0.0);
            let bbox = Box3 { center, size: [side, side, 200.0], yaw: 0.0, velocity: [0.0; 2] };
            (bbox, found["label"].as_str().expect("text").to_owned())
        };
        frames.map(|frame| frame["boxes"].as_array().expect("boxes").iter().map(object).collect()).collect()
    }
}

/// Of a frame.
type Objects = Vec<(Box3, String)>;

fn messages(bag: &Path, topic: &str) -> Vec<RawMessage> {
    BagReader::open(bag).expect("a bag").filter(|m| *m.topic == *topic).collect()
}

/// The rows of the table of classes: objects, boxes, AP, recall, precision.
fn rows(said: &str) -> Vec<(String, Vec<String>)> {
    let (_, table) = said.split_once("against the ground truth of").expect("it is judged");
    let lines = table.lines().skip(2).take_while(|line| !line.is_empty());
    lines.map(|line| line.split_whitespace().map(str::to_owned)).map(|mut w| (w.next().expect("a class"), w.collect())).collect()
}

#[test]
fn boxes_where_the_objects_are_have_full_marks() {
    let bench = Workbench::new();
    let objects = bench.found();
    bench.write_bag("drive.mcap", Some((TRUTH, "velodyne", &objects)));
    let [lines, said] = bench.detect("drive.mcap --json - -o boxes.mcap --png pictures");
    assert!(said.contains("against the ground truth of 3 frames, boxes above 0.1") && said.contains("mAP 0."), "{said}");
    assert!(said.contains("`lidar_ptq eval` gives the full figures"), "{said}");
    let rows = rows(&said);
    assert!(rows.len() > 1, "{said}");
    for (class, row) in &rows {
        assert_eq!(row[0], row[1], "{class} of {objects:?}\n{said}");
        assert_eq!(row[2..], ["1.000"; 3], "{class} of {objects:?}\n{said}");
    }

    // Half as many boxes: the same precision, half of the recall at most.
    let [_, half] = bench.detect("drive.mcap --max-frames 3 --score-threshold 0.9");
    if half.contains("against the ground truth") {
        let sum = |rows: &[(String, Vec<String>)], column: usize| {
            rows.iter().map(|(_, r)| r[column].parse::<usize>().expect("a count")).sum::<usize>()
        };
        let half = self::rows(&half);
        assert_eq!(sum(&half, 0), sum(&rows, 0));
        assert!(sum(&half, 1) < sum(&rows, 1));
    }

    // The labels go on as they came, and nothing else changes.
    assert_eq!(messages(&bench.path("boxes.mcap"), TRUTH), messages(&bench.path("drive.mcap"), TRUTH));
    let [plain, silent] = bench.detect("plain.mcap --json - -o plain_boxes.mcap --png plain_pictures");
    assert_eq!(lines.replace("drive.mcap", "plain.mcap"), plain);
    assert!(!silent.contains("ground truth"), "{silent}");
    let data = |bag: &str| messages(&bench.path(bag), DETECTIONS).into_iter().map(|m| m.data).collect::<Vec<_>>();
    assert_eq!(data("boxes.mcap"), data("plain_boxes.mcap"));
    // White dashes in the pictures.
    let white = |folder: &str| {
        let file = std::fs::File::open(bench.path(folder).join("000000.png")).expect("written");
        let mut reader = png::Decoder::new(std::io::BufReader::new(file)).read_info().expect("a PNG");
        let mut data = vec![0; reader.output_buffer_size().expect("in reason")];
        reader.next_frame(&mut data).expect("whole");
        data.chunks_exact(3).filter(|p| p.iter().all(|&v| v > 245)).count()
    };
    assert!(white("pictures") > white("plain_pictures") + 200);
}

#[test]
fn what_a_detector_found_is_no_ground_truth() {
    let bench = Workbench::new();
    bench.write_bag("drive.mcap", None);
    bench.detect("drive.mcap -o once.mcap");
    let [_, said] = bench.detect("once.mcap -o twice.mcap");
    assert!(!said.contains("ground truth"), "{said}");
    assert_eq!(messages(&bench.path("twice.mcap"), DETECTIONS), messages(&bench.path("once.mcap"), DETECTIONS));
    // Unless somebody says so; both are kept apart even then.
    let [_, said] = bench.detect(&format!("once.mcap -o twice.mcap --truth-topic {DETECTIONS}"));
    assert!(said.contains("against the ground truth of 3 frames"), "{said}");
    assert_eq!(messages(&bench.path("twice.mcap"), DETECTIONS).len(), FRAMES);

    let output = bench.run("drive.mcap --truth-topic /absent");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("/absent") && said.contains(Detection3DArray::TYPE), "{said}");
}

#[test]
fn labels_that_cannot_be_placed_cost_no_boxes() {
    let bench = Workbench::new();
    let objects = bench.found();
    bench.write_bag("drive.mcap", Some((TRUTH, "elsewhere", &objects)));
    let [lines, said] = bench.detect("drive.mcap --json -");
    assert_eq!(lines.lines().count(), FRAMES);
    assert!(said.contains("labels are in frame `elsewhere`") && !said.contains("against the ground truth"), "{said}");
}
