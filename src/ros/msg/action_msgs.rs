//! `action_msgs` and `unique_identifier_msgs`: what all actions have in common.

use super::{cdr_struct, ros_message, ros_service};
use crate::sensor::Stamp;

/// Of a goal: a UUID, which is nothing but its bytes.
pub type GoalId = [u8; 16];

cdr_struct! {
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct GoalInfo {
        pub goal_id: GoalId,
        /// When it was accepted.
        pub stamp: Stamp,
    }
}

cdr_struct! {
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct GoalStatus {
        pub goal_info: GoalInfo,
        /// `GoalStatus::EXECUTING`, ...
        pub status: i8,
    }
}

impl GoalStatus {
    pub const UNKNOWN: i8 = 0;
    pub const EXECUTING: i8 = 2;
    pub const CANCELING: i8 = 3;
    pub const SUCCEEDED: i8 = 4;
    pub const CANCELED: i8 = 5;
    pub const ABORTED: i8 = 6;
}

cdr_struct! {
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub struct GoalStatusArray {
        pub status_list: Vec<GoalStatus>,
    }
}

ros_message! {
    GoalStatusArray: "action_msgs" "GoalStatusArray",
    "action_msgs" "GoalStatus", "action_msgs" "GoalInfo", "unique_identifier_msgs" "UUID", "builtin_interfaces" "Time"
}

cdr_struct! {
    /// An identifier of zeros means all goals, a time not after which they were accepted if it is not zero.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct CancelGoalRequest {
        pub goal_info: GoalInfo,
    }
}

cdr_struct! {
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub struct CancelGoalResponse {
        pub return_code: i8,
        pub goals_canceling: Vec<GoalInfo>,
    }
}

impl CancelGoalResponse {
    pub const NONE: i8 = 0;
    pub const REJECTED: i8 = 1;
    pub const UNKNOWN_GOAL: i8 = 2;
    pub const GOAL_TERMINATED: i8 = 3;
}

ros_service! {
    /// Ends goals early.
    CancelGoal: "action_msgs", CancelGoalRequest => CancelGoalResponse
}
