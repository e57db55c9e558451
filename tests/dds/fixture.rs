//! A node as a process, others that speak to it, and what they have heard.

mod cyclone;

pub use cyclone::python_with_cyclonedds;

use crate::support::{mind_signals, save_tiny_model, scene, send_signal};
use lidar_ptq::ros::bag::BagWriter;
use lidar_ptq::ros::dds::{DdsOptions, DdsTransport};
use lidar_ptq::ros::interface::{Interface, Publisher, Reliability, Subscription};
use lidar_ptq::ros::msg::RosMessage;
use lidar_ptq::ros::msg::diagnostic_msgs::DiagnosticArray;
use lidar_ptq::ros::msg::sensor_msgs::PointCloud2;
use lidar_ptq::ros::msg::vision_msgs::Detection3DArray;
use lidar_ptq::ros::names::NodeName;
use lidar_ptq::ros::point_cloud::encode_cloud;
use lidar_ptq::ros::transport::{Publication, Received, Transport};
use lidar_ptq::sensor::Stamp;
use ndarray::{Array2, Axis, concatenate};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Nothing here takes that long; a test that waits for it has failed.
const TOO_LONG: Duration = Duration::from_secs(30);
const PERIOD: Duration = Duration::from_millis(100);

/// A label, a score, centre, size; the detector's own numbers, which the messages widen.
pub type Box = (String, f32, [f32; 3], [f32; 3]);

/// Domains that no two tests of this process share. Of other processes, topics are told apart by their number.
fn next_domain() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    1 + (std::process::id() as u16 % 20) * 5 + NEXT.fetch_add(1, Ordering::SeqCst) % 5
}

/// Files that belong to a test.
pub struct Bench(TempDir);

impl Bench {
    pub fn new() -> Self {
        let bench = Self(tempfile::tempdir().expect("a folder"));
        save_tiny_model(&bench.path("model.safetensors"));
        save_tiny_model(&bench.path("other.safetensors"));
        bench
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The scenes of the other tests, with as many more points in between.
    pub fn clouds(&self, points: usize, count: usize) -> Vec<PointCloud2> {
        let cloud = |frame: usize| {
            let mut cloud = scene(frame);
            let more = points.saturating_sub(cloud.data.nrows());
            let between = Array2::from_shape_fn((more, 4), |(i, column)| {
                let (angle, range) = (i as f32 * 2.399_963, 3.0 + 20.0 * (i as f32 / more as f32));
                [range * angle.cos(), range * angle.sin(), -1.9, (i % 100) as f32][column]
            });
            cloud.data = concatenate(Axis(0), &[cloud.data.view(), between.view()]).expect("four columns each");
            encode_cloud(&cloud)
        };
        (0..count).map(cloud).collect()
    }

    /// What `lidar_ptq detect` finds in the same clouds.
    pub fn command_line(&self, clouds: &[PointCloud2]) -> BTreeMap<Stamp, Vec<Box>> {
        let mut bag = BagWriter::create(&self.path("drive.mcap")).expect("a bag");
        clouds.iter().for_each(|c| bag.write("/points", c.header.stamp, c).expect("written"));
        bag.finish().expect("finished");
        let mut command = Command::new(env!("CARGO_BIN_EXE_lidar_ptq"));
        let output = command.current_dir(self.0.path()).args(["detect", "model.safetensors", "drive.mcap", "-o", "boxes.mcap"]).output();
        let output = output.expect("the program runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let bag = lidar_ptq::ros::bag::BagReader::open(&self.path("boxes.mcap")).expect("a bag");
        let detections = bag.filter(|m| &*m.type_name == Detection3DArray::TYPE);
        detections.map(|m| boxes_of(&Detection3DArray::decode(&m.data).expect("valid"))).collect()
    }
}

fn boxes_of(array: &Detection3DArray) -> (Stamp, Vec<Box>) {
    let boxes = array.detections.iter().map(|d| {
        let (hypothesis, position, size) = (&d.results[0].hypothesis, d.bbox.center.position, d.bbox.size);
        let narrow = |v: [f64; 3]| v.map(|v| v as f32);
        let (center, size) = (narrow([position.x, position.y, position.z]), narrow([size.x, size.y, size.z]));
        (hypothesis.class_id.clone(), hypothesis.score as f32, center, size)
    });
    (array.header.stamp, boxes.collect())
}

/// The node, running.
pub struct Node {
    child: Child,
    domain: u16,
    prefix: String,
}

impl Node {
    /// `None`, with a word of it, where the network does not let processes find each other.
    pub fn start(bench: &Bench, more: &str) -> Option<Self> {
        let domain = next_domain();
        let prefix = format!("/test_{}_{domain}", std::process::id());
        let more = format!("-p diagnostics.period:=0.1 {more}");
        Some(Self { child: spawn(Command::new(env!("CARGO_BIN_EXE_detect_node")), bench, domain, &prefix, &more), domain, prefix })
    }

    /// A calibration node that works for this detector.
    pub fn calibrator(&self, bench: &Bench, more: &str) -> Self {
        self.calibrator_as(Command::new(env!("CARGO_BIN_EXE_calibrate_node")), bench, more)
    }

    /// As [`Node::calibrator`]; no file that it or its calibration writes can be larger, as on a disk that is nearly full.
    pub fn calibrator_on_full_disk(&self, bench: &Bench, blocks: u32, more: &str) -> Self {
        let mut command = Command::new("sh");
        let program = env!("CARGO_BIN_EXE_calibrate_node");
        command.args(["-c", &format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\""), program]);
        self.calibrator_as(command, bench, more)
    }

    fn calibrator_as(&self, command: Command, bench: &Bench, more: &str) -> Self {
        let quick =
            "-p calibration.method:=max-min -p calibration.frames:=3 -p calibration.held_out:=2 -p calibration.least_agreement:=0.0";
        let more = format!("{quick} -r ~/input/pointcloud:={} {more}", self.topic("input/pointcloud"));
        Self { child: spawn(command, bench, self.domain, &self.prefix, &more), domain: self.domain, prefix: self.prefix.clone() }
    }

    /// As [`Node::start`]; what the node logs cannot be written.
    pub fn start_without_log(bench: &Bench) -> Self {
        let domain = next_domain();
        let prefix = format!("/test_{}_{domain}", std::process::id());
        let mut command = Command::new(env!("CARGO_BIN_EXE_detect_node"));
        command.stderr(std::fs::File::create("/dev/full").expect("a device that is always full"));
        Self { child: spawn(command, bench, domain, &prefix, "-p diagnostics.period:=0.1"), domain, prefix }
    }

    /// Killed, and started anew under the same name.
    pub fn kill_and_start(&mut self, bench: &Bench) {
        self.kill();
        let more = "-p diagnostics.period:=0.1";
        self.child = spawn(Command::new(env!("CARGO_BIN_EXE_detect_node")), bench, self.domain, &self.prefix, more);
    }

    pub fn kill(&mut self) {
        send_signal(&self.child, "KILL");
        self.child.wait().expect("it ends");
    }

    /// The exit status of a node that ends by itself.
    pub fn wait(mut self) -> std::process::ExitStatus {
        let since = Instant::now();
        while since.elapsed() < TOO_LONG {
            if let Some(status) = self.child.try_wait().expect("asked") {
                return status;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("the node did not end");
    }

    fn topic(&self, name: &str) -> String {
        format!("{}/lidar_ptq/{name}", self.prefix)
    }

    /// Another process (this one) on the network; `None` where it does not find the node.
    pub fn peer(&self) -> Option<Peer> {
        let interface = Interface {
            node: NodeName::new(&self.prefix, "peer").expect("a name"),
            subscriptions: vec![
                Subscription::new::<Detection3DArray>(self.topic("output/detections"), Reliability::Reliable, 1000),
                Subscription::new::<DiagnosticArray>(format!("{}/diagnostics", self.prefix), Reliability::Reliable, 1000),
            ],
            publishers: vec![Publisher::new::<PointCloud2>(self.topic("input/pointcloud"))],
            services: vec![],
            clients: vec![],
        };
        let options = DdsOptions { domain: self.domain, localhost_only: true, ..DdsOptions::default() };
        let transport = match DdsTransport::open(options, &interface) {
            Ok(transport) => transport,
            Err(error) => {
                println!("skipped: no DDS here: {error}");
                return None;
            }
        };
        let mut peer = Peer { transport, input: self.topic("input/pointcloud") };
        if peer.is_heard() {
            return Some(peer);
        }
        println!("skipped: processes do not find each other by DDS on this machine's loopback interface");
        None
    }

    /// Memory that the node holds, bytes, as Linux counts it.
    pub fn resident_bytes(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let kilobytes = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?.trim().strip_suffix(" kB")?.parse::<u64>().ok()?;
        Some(kilobytes << 10)
    }

    pub fn signal(&self, signal: &str) {
        send_signal(&self.child, signal);
    }

    /// The node ends by itself, in order.
    pub fn stop(mut self, signal: &str) {
        self.signal(signal);
        let since = Instant::now();
        while since.elapsed() < TOO_LONG {
            if let Some(status) = self.child.try_wait().expect("asked") {
                assert!(status.success(), "SIG{signal}: {status}");
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("SIG{signal} did not end the node");
    }
}

fn spawn(mut command: Command, bench: &Bench, domain: u16, prefix: &str, more: &str) -> Child {
    command.args(["--ros-args", "-r", &format!("__ns:={prefix}"), "-r", &format!("/diagnostics:={prefix}/diagnostics")]);
    command.args(["-p", &format!("model_path:={}", bench.path("model.safetensors").display())]);
    command.args(more.split_whitespace());
    command.env("ROS_DOMAIN_ID", domain.to_string()).env("ROS_LOCALHOST_ONLY", "1").env_remove("ROS_DISTRO");
    command.stdin(Stdio::null());
    mind_signals(&mut command);
    command.spawn().expect("the node runs")
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub struct Peer {
    transport: DdsTransport,
    input: String,
}

impl Peer {
    /// At 10 Hz, until all are accounted for.
    pub fn play(&mut self, clouds: &[PointCloud2]) -> Answers {
        self.play_every(PERIOD, clouds)
    }

    pub fn play_every(&mut self, period: Duration, clouds: &[PointCloud2]) -> Answers {
        let mut all = self.news();
        for cloud in clouds {
            self.send(&cloud.encode(), &mut all);
            let since = Instant::now();
            while let Some(left) = period.checked_sub(since.elapsed()) {
                self.hear(left, &mut all);
            }
        }
        self.wait_for_all(&mut all);
        all
    }

    /// At 10 Hz, each stamped with the time when it is sent; nothing is waited for.
    pub fn play_now(&mut self, clouds: &mut [PointCloud2]) -> Answers {
        let mut all = Answers::default();
        for cloud in clouds {
            let since = Instant::now();
            cloud.header.stamp = self.transport.now();
            self.send(&cloud.encode(), &mut all);
            while let Some(left) = PERIOD.checked_sub(since.elapsed()) {
                self.hear(left, &mut all);
            }
        }
        all
    }

    /// Each when all before it are accounted for.
    pub fn play_one_by_one(&mut self, messages: impl IntoIterator<Item = Vec<u8>>) -> Answers {
        let mut all = self.news();
        for message in messages {
            self.send(&message, &mut all);
            self.wait_for_all(&mut all);
        }
        all
    }

    /// Sends clouds that do not matter until the node counts them, and waits until no more of them are on their way.
    pub fn is_heard(&mut self) -> bool {
        let mut warm_up = encode_cloud(&scene(0));
        warm_up.header.stamp = Stamp(0);
        let (mut news, since) = (Answers::default(), Instant::now());
        while news.count("received") == 0 {
            if since.elapsed() > TOO_LONG {
                return false;
            }
            self.send(&warm_up.encode(), &mut news);
            self.hear(PERIOD, &mut news);
        }
        let mut last = u64::MAX;
        while news.accounted() != last || news.count("received") != last {
            last = news.accounted();
            (0..5).for_each(|_| self.hear(PERIOD, &mut news));
        }
        true
    }

    /// What the node has told lately.
    fn news(&mut self) -> Answers {
        let (mut news, since) = (Answers::default(), Instant::now());
        while news.status.is_empty() && since.elapsed() < TOO_LONG {
            self.hear(PERIOD, &mut news);
        }
        Answers { before: news.accounted(), ..Answers::default() }
    }

    fn send(&mut self, data: &[u8], all: &mut Answers) {
        let (type_name, definition) = (PointCloud2::TYPE, PointCloud2::DEFINITION);
        let publication = Publication { topic: &self.input, type_name, definition, stamp: Stamp(0), data };
        self.transport.publish_raw(publication).expect("published");
        all.sent += 1;
    }

    fn wait_for_all(&mut self, all: &mut Answers) {
        let since = Instant::now();
        while all.accounted() < all.before + all.sent && since.elapsed() < TOO_LONG {
            self.hear(PERIOD, all);
        }
        // The answers come on a topic of their own.
        (0..3).for_each(|_| self.hear(PERIOD, all));
    }

    fn hear(&mut self, wait: Duration, answers: &mut Answers) {
        let Received::Message(message) = self.transport.receive(wait).expect("it works") else { return };
        if &*message.type_name == Detection3DArray::TYPE {
            let (stamp, boxes) = boxes_of(&Detection3DArray::decode(&message.data).expect("valid"));
            answers.boxes.insert(stamp, boxes);
            return;
        }
        for status in DiagnosticArray::decode(&message.data).expect("valid").status {
            let values = status.values.into_iter().map(|v| (v.key, v.value));
            if status.name.ends_with(": input") {
                answers.status = values.collect();
            } else if status.name.ends_with(": times") {
                answers.times = values.collect();
            }
        }
    }
}

/// What was heard of the node.
#[derive(Default)]
pub struct Answers {
    pub boxes: BTreeMap<Stamp, Vec<Box>>,
    /// Of the service: success and message.
    pub calls: Vec<(bool, String)>,
    status: BTreeMap<String, String>,
    times: BTreeMap<String, String>,
    sent: u64,
    /// Clouds that were accounted for before.
    before: u64,
}

impl Answers {
    pub fn input(&self, key: &str) -> &str {
        self.status.get(key).map_or("", String::as_str)
    }

    pub fn summary(&self) -> String {
        format!("{:?}", self.status)
    }

    /// Of the diagnostics of `times`; milliseconds, or frames a second.
    pub fn time(&self, key: &str) -> f64 {
        self.times.get(key).and_then(|v| v.parse().ok()).unwrap_or(f64::NAN)
    }

    fn count(&self, key: &str) -> u64 {
        self.input(key).parse().unwrap_or(0)
    }

    /// Clouds of which the node knows what became.
    fn accounted(&self) -> u64 {
        ["answered", "dropped_for_newer", "skipped", "not_active", "lost_on_the_way"].iter().map(|key| self.count(key)).sum()
    }

    /// Clouds that the node has skipped, or taken in, since before.
    pub fn since_before(&self, key: &str) -> u64 {
        self.count(key).saturating_sub(if key == "received" { self.before } else { 0 })
    }

    /// Every cloud is answered or counted, and the answers are right. Of a publisher that does not ask whether its clouds
    /// have come, the last may be lost unseen.
    pub fn check(&self, expected: &BTreeMap<Stamp, Vec<Box>>) {
        let (accounted, sent) = (self.accounted(), self.before + self.sent);
        let is_sure = self.input("reliability") == "reliable";
        assert!(accounted == sent || (!is_sure && accounted < sent), "{}", self.summary());
        assert!(!self.boxes.is_empty(), "{}", self.summary());
        for (stamp, boxes) in &self.boxes {
            assert_eq!(boxes, &expected[stamp], "{stamp:?}");
        }
        assert!(expected.values().any(|boxes| !boxes.is_empty()), "there is something to find");
    }

    /// A line of `peer.py`.
    fn read(&mut self, line: &Value) {
        if let Some(boxes) = line["detections"].as_array() {
            let number = |v: &Value| v.as_f64().expect("a number") as f32;
            let three = |v: &Value| [0, 1, 2].map(|i| number(&v[i]));
            let read = |b: &Value| {
                let label = b["label"].as_str().expect("a name").to_owned();
                (label, number(&b["score"]), three(&b["center"]), three(&b["size"]))
            };
            let [sec, nanosec] = [0, 1].map(|i| line["stamp"][i].as_i64().expect("whole"));
            self.boxes.insert(Stamp(sec * 1_000_000_000 + nanosec), boxes.iter().map(read).collect());
        } else if let Some(before) = line["before"].as_u64() {
            self.before = before;
        } else if let Some(success) = line["loaded"].as_bool() {
            self.calls.push((success, line["message"].as_str().expect("text").to_owned()));
        } else if line["diagnostic"].as_str().is_some_and(|name| name.ends_with(": input")) {
            let values = line["values"].as_object().expect("values");
            self.status = values.iter().map(|(k, v)| (k.clone(), v.as_str().expect("text").to_owned())).collect();
        }
    }
}
