//! What happens to a cloud before the detector has it: the message is read, sweeps are merged, features put into the network's order.
//!
//!     cargo bench --bench cloud -- [--threads 2] [--points 120000] [--runs 50]
//!
//! Each run begins after a pause, as in a node that waits for the next cloud: threads are asleep and caches have been used for other things.
//! What is left is mostly the way to memory and back.

#[allow(dead_code)] // it is the networks', and each bench takes its part
mod network;

use lidar_ptq::geometry::Pose;
use lidar_ptq::ros::msg::RosMessage;
use lidar_ptq::ros::msg::sensor_msgs::PointCloud2Ref;
use lidar_ptq::ros::point_cloud::{decode_cloud, encode_cloud};
use lidar_ptq::sensor::{EgoMotion, MotionError, PointCloud, PointsConfig, Stamp, SweepBuffer, SweepsConfig, assemble};
use ndarray::Array2;
use network::Options;
use std::hint::black_box;
use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_millis(30);
const FIELDS: [&str; 4] = ["x", "y", "z", "intensity"];

/// A sensor that does not move.
struct Standing;

impl EgoMotion for Standing {
    fn newest_from_old(&self, _: (&str, Stamp), _: (&str, Stamp)) -> Result<Pose, MotionError> {
        Ok(Pose::identity())
    }
}

fn main() {
    let options = Options::read();
    let (threads, points, runs) = (options.number("--threads", 2), options.number("--points", 120_000), options.number("--runs", 50));
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().expect("the only pool");
    let features = FIELDS.into_iter().chain(["time"]).map(str::to_owned).collect();
    let config = PointsConfig { features, intensity: Default::default(), time: Default::default(), sweeps: Default::default() };
    let cloud = |sweep: i64| PointCloud {
        stamp: Stamp(sweep * 100_000_000),
        frame_id: "lidar".into(),
        fields: FIELDS.map(str::to_owned).to_vec(),
        data: Array2::from_shape_fn((points, FIELDS.len()), |(i, j)| ((31 * i + 7 * j) % 997) as f32 * 0.1 - 40.0),
    };
    println!("{points} points a cloud, {threads} threads; median (least) of {runs}, milliseconds");

    let message = encode_cloud(&cloud(0)).encode();
    let read = |bytes: &[u8]| decode_cloud(&PointCloud2Ref::view(bytes).expect("a message"), &FIELDS).expect("a cloud");
    time("read a message of float32", runs, || (), |()| read(&message));
    time("features of a sweep without time", runs, || cloud(0), |cloud| assemble(&cloud, &config).expect("features").into_owned());
    for count in [1, 5, 10] {
        let (mut buffer, mut sweep) = (SweepBuffer::new(SweepsConfig { count, ego_box: [1.0; 2] }, 1.0), 0);
        let mut merged = None;
        let mut next = || {
            sweep += 1;
            cloud(sweep)
        };
        (1..count).for_each(|_| drop(buffer.merge(&next(), &Standing)));
        time(&format!("merge {count} sweeps"), runs, next, |cloud| merged = Some(buffer.merge(&cloud, &Standing).0));
        let merged = merged.expect("at least one run");
        time(
            &format!("features of {count} sweeps"),
            runs,
            || (),
            |()| {
                black_box(assemble(&merged, &config).expect("features").dim());
            },
        );
    }
}

fn time<I, T>(what: &str, runs: usize, mut prepare: impl FnMut() -> I, mut run: impl FnMut(I) -> T) {
    let mut times: Vec<f64> = (0..runs)
        .map(|_| {
            let input = prepare();
            std::thread::sleep(PAUSE);
            let start = Instant::now();
            let result = run(input);
            let elapsed = start.elapsed().as_secs_f64() * 1e3;
            black_box(result);
            elapsed
        })
        .collect();
    times.sort_by(f64::total_cmp);
    println!("{what:34} {:6.2} ({:.2})", times[runs / 2], times[0]);
}
