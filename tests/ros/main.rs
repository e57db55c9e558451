//! Messages and bags against files that the public Python packages `rosbags` and `mcap` wrote (`tests/data/ros/make_fixtures.py`).

mod bags;
mod cdr;
mod damage;
mod samples;

use std::path::PathBuf;

fn fixture(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/ros").join(path)
}
