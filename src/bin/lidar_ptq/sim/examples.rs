//! Labelled frames for `lidar_ptq train`.

use super::{Args, FIRST_HELD_OUT_SEED, bar};
use crate::interrupt::stop_flag;
use crate::say;
use anyhow::{Context, bail};
use lidar_ptq::detect::DetectorConfig;
use lidar_ptq::sensor::{OdometryMotion, PoseTrack, SweepBuffer, assemble};
use lidar_ptq::sim::{ObjectClass, SimFrame, Simulation};
use lidar_ptq::train::{ExampleFolder, LabelledBox};
use std::path::Path;
use std::sync::atomic::Ordering;

pub fn write(args: &Args, folder: &Path) -> anyhow::Result<()> {
    let last = args.seed.saturating_add(args.drives);
    if args.seed < FIRST_HELD_OUT_SEED && last > FIRST_HELD_OUT_SEED {
        bail!("seeds {} to {last} reach into those kept for judging ({FIRST_HELD_OUT_SEED} and above)", args.seed);
    }
    let detector = DetectorConfig::load(&args.detector)?;
    let classes = detector.classes();
    if !ObjectClass::ALL.iter().any(|c| classes.iter().any(|name| name.eq_ignore_ascii_case(c.name()))) {
        let known: Vec<&str> = ObjectClass::ALL.iter().map(|c| c.name()).collect();
        bail!("{}: expected a class of the simulator's ({}), found {}", args.detector, known.join(", "), classes.join(", "));
    }
    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let bar = bar(args.drives, "drives")?;
    let interrupted = stop_flag()?;
    for seed in args.seed..last {
        let config = args.config(seed);
        let every = (args.every * config.lidar.rate_hz()).round().max(1.0) as usize;
        let sweeps = detector.points.sweeps.count.max(1);
        let mut buffer = SweepBuffer::new(detector.points.sweeps.clone(), 1.0);
        let mut motion: Option<OdometryMotion> = None;
        for (index, frame) in Simulation::new(&config).enumerate() {
            if interrupted.load(Ordering::SeqCst) {
                bail!("interrupted in the drive of seed {seed}; the frames in {} are complete", folder.display());
            }
            let motion = motion.get_or_insert_with(|| OdometryMotion {
                world_from_body: PoseTrack::new(10.0, 0.0),
                body_from_sensor: frame.base_from_lidar,
            });
            motion.world_from_body.push(frame.stamp, frame.odom_from_base);
            let labels = labels(&frame, &classes);
            let (merged, report) = buffer.merge(&frame.cloud, motion);
            if (index + 1) % every == 0 && report.merged == sweeps {
                let points = assemble(&merged, &detector.points)?.into_owned();
                ExampleFolder::write(folder, &format!("{seed:06}_{index:04}"), &points, &labels)?;
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    say(&format!("wrote {}\n", folder.display()));
    Ok(())
}

/// Objects of the model's classes, in upper or lower case, that the newest sweep saw.
fn labels(frame: &SimFrame, classes: &[String]) -> Vec<LabelledBox> {
    let seen = frame.truth.iter().filter(|t| t.num_lidar_points > 0);
    let known = seen.filter_map(|t| {
        let label = classes.iter().position(|c| c.eq_ignore_ascii_case(t.class.name()))?;
        Some(LabelledBox { label, center: t.bbox.center, size: t.bbox.size, yaw: t.bbox.yaw, velocity: Some(t.bbox.velocity) })
    });
    known.collect()
}
