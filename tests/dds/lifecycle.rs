//! The node under a lifecycle manager.

use crate::fixture::{Bench, Node, python_with_cyclonedds};
use serde_json::{Value, json};

#[test]
fn a_managed_node_works_while_it_is_active_and_only_then() {
    let Some(python) = python_with_cyclonedds() else { return };
    let bench = Bench::new();
    let clouds = bench.clouds(2_000, 3);
    let expected = bench.command_line(&clouds);
    let Some(node) = Node::start(&bench, "-p autostart:=false") else { return };
    let Some(mut peer) = node.peer() else { return };
    let step = |known: &[&str], success: bool, state: &str| json!({"known": known, "success": success, "state": state});
    let events = |steps: &[&str]| json!({"events": steps});

    let idle = peer.play(&clouds);
    assert!(idle.boxes.is_empty() && idle.since_before("not_active") >= 3, "{}", idle.summary());
    let path = bench.path("model.safetensors");
    let (model, away) = (std::fs::read(&path).expect("read"), bench.path("away"));
    std::fs::rename(&path, &away).expect("renamed");
    let told = node.change_state(&python, &["activate", "configure"]);
    let refused = step(&["configure", "shutdown"], false, "unconfigured");
    let failed = ["unconfigured configure configuring", "configuring transition_failure unconfigured"];
    assert_eq!(told, [json!({"state": "unconfigured"}), refused.clone(), refused, events(&failed)], "there is no model");

    std::fs::write(&path, model).expect("written");
    let told = node.change_state(&python, &["configure", "activate"]);
    let steps = [step(&["configure", "shutdown"], true, "inactive"), step(&["activate", "cleanup", "shutdown"], true, "active")];
    assert_eq!(told[1..3], steps);
    let active = peer.play(&clouds);
    active.check(&expected);

    // With a model of its own for each round: what is let go comes back.
    let round = node.change_state(&python, &["deactivate", "cleanup", "configure", "activate", "deactivate"]);
    let states: Vec<&Value> = round[1..6].iter().map(|told| &told["state"]).collect();
    assert_eq!(states, ["inactive", "unconfigured", "inactive", "active", "inactive"]);
    assert_eq!(round[6]["events"].as_array().map(Vec::len), Some(10));
    let resting = peer.play(&clouds);
    assert!(resting.boxes.is_empty(), "{}", resting.summary());

    let told = node.change_state(&python, &["activate", "shutdown"]);
    assert_eq!(told[2], step(&["deactivate", "shutdown"], true, "finalized"));
    assert_eq!(node.change_state(&python, &["configure"])[1], step(&[], false, "finalized"));
    node.stop("INT");
}
