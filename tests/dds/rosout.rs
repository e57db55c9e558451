//! The node's log on `/rosout`, heard on Cyclone DDS.

use crate::fixture::{Bench, Node, python_with_cyclonedds};
use lidar_ptq::ros::msg::rcl_interfaces::Log;
use serde_json::json;

#[test]
fn the_log_is_on_rosout_also_for_those_who_come_later() {
    let Some(python) = python_with_cyclonedds() else { return };
    let bench = Bench::new();
    let Some(node) = Node::start(&bench, "") else { return };
    let model = bench.path("nothing.safetensors").display().to_string();
    let told = node.log(&python, &model);
    let [lines @ .., offered, later] = &told[..] else { panic!("{told:?}") };
    let warning = lines.iter().find(|line| line["level"] == Log::WARN).expect("a warning");
    let text = warning["text"].as_str().expect("text");
    assert!(text.starts_with("the model was not replaced reason=") && text.contains(&model), "{text}");
    assert_eq!(warning["file"], "src/node/detect_node/model.rs");
    assert_eq!(warning["module"], "lidar_ptq::node::detect_node::model");
    assert!(warning["line"].as_u64() > Some(0) && warning["stamp"][0].as_i64() > Some(1_700_000_000), "{warning}");
    assert_eq!(offered, &json!({"lifespans": [10.0]}), "as of rcl's own nodes");
    assert!(later["later"].as_array().is_some_and(|lines| lines.contains(&warning["text"])), "{later}");
    node.stop("INT");
}
