//! What robots do to software: the node lives, says so in its diagnostics, and recovers.

use crate::fixture::{Bench, Node, python_with_cyclonedds};
use std::time::Duration;

#[test]
fn publishers_that_restart_with_another_qos_are_followed() {
    let Some(python) = python_with_cyclonedds() else { return };
    let bench = Bench::new();
    let clouds = bench.clouds(2_000, 6);
    let expected = bench.command_line(&clouds);
    let Some(node) = Node::start(&bench, "") else { return };
    for (how, reliability) in [(&[][..], "reliable"), (&["--best-effort"], "best_effort"), (&[], "reliable")] {
        let answers = node.independent_peer(&python, &clouds, how);
        answers.check(&expected);
        assert_eq!(answers.input("reliability"), reliability, "{}", answers.summary());
    }
    node.stop("INT");
}

#[test]
fn a_hundred_clouds_a_second_are_answered_or_counted() {
    let bench = Bench::new();
    let clouds = bench.clouds(30_000, 100);
    let expected = bench.command_line(&clouds);
    let Some(node) = Node::start(&bench, "") else { return };
    let Some(mut peer) = node.peer() else { return };
    peer.play_every(Duration::from_millis(10), &clouds).check(&expected);
    // And then it is as before.
    let answers = peer.play(&clouds[..5]);
    answers.check(&expected);
    node.stop("INT");
}

#[test]
fn a_node_that_was_killed_is_found_again_when_it_is_back() {
    let bench = Bench::new();
    let clouds = bench.clouds(2_000, 5);
    let expected = bench.command_line(&clouds);
    let Some(mut node) = Node::start(&bench, "") else { return };
    let Some(mut peer) = node.peer() else { return };
    peer.play(&clouds).check(&expected);
    node.kill_and_start(&bench);
    assert!(peer.is_heard());
    peer.play(&clouds).check(&expected);
    node.stop("INT");
}

/// Out of wireless range, or stopped in a debugger: nobody tells the node that it is gone.
#[test]
fn a_subscriber_that_stops_takes_no_boxes_from_others() {
    let Some(python) = python_with_cyclonedds() else { return };
    let bench = Bench::new();
    let clouds = bench.clouds(2_000, 60);
    let expected = bench.command_line(&clouds);
    let Some(node) = Node::start(&bench, "") else { return };
    let Some(mut peer) = node.peer() else { return };
    let _stuck = node.stuck_subscriber(&python, "--stopped");
    let answers = peer.play(&clouds);
    answers.check(&expected);
    assert_eq!(answers.boxes.len(), clouds.len(), "{}", answers.summary());
    node.stop("INT");
}

#[cfg(target_os = "linux")]
#[test]
fn a_log_that_cannot_be_written_stops_nothing() {
    let bench = Bench::new();
    let clouds = bench.clouds(2_000, 3);
    let node = Node::start_without_log(&bench);
    let Some(mut peer) = node.peer() else { return };
    let mut cut = clouds[0].clone();
    cut.data.truncate(10);
    let messages: Vec<_> = [&cut, &clouds[1]].map(lidar_ptq::ros::msg::RosMessage::encode).into();
    let answers = peer.play_one_by_one(messages);
    assert_eq!((answers.since_before("skipped"), answers.boxes.len()), (1, 1), "{}", answers.summary());
    node.stop("INT");
}

#[test]
fn a_signal_that_comes_twice_ends_the_node_in_order() {
    let bench = Bench::new();
    let Some(node) = Node::start(&bench, "") else { return };
    // As launch without a terminal does, which passes on what the node got already.
    if node.peer().is_some() {
        node.signal("INT");
        node.stop("INT");
    }
}
