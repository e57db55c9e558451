//! `lidar_ptq_msgs`, the package in `msgs/`.

use super::{RosAction, cdr_struct, ros_service};

cdr_struct! {
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub struct LoadModelRequest {
        /// A model file, on the node's own computer.
        pub path: String,
    }
}

cdr_struct! {
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub struct LoadModelResponse {
        pub success: bool,
        /// Why not, or what is running now.
        pub message: String,
    }
}

ros_service! {
    /// Replaces the detector's model.
    LoadModel: "lidar_ptq_msgs", LoadModelRequest => LoadModelResponse
}

cdr_struct! {
    /// What shall be calibrated, and with what. Empty texts: as the node's parameters say.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct CalibrateGoal {
        /// A bag on the node's own computer; empty: record one first.
        pub bag: String,
        pub record_minutes: f64,
        /// A float model.
        pub model: String,
        /// Where the quantized model goes.
        pub output: String,
        /// Ask the detector to load the result.
        pub load: bool,
    }
}

cdr_struct! {
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct CalibrateResult {
        pub success: bool,
        /// Why not, or what was done.
        pub message: String,
        /// The file that was written; empty: none.
        pub model: String,
        /// Whether the detector runs it now.
        pub loaded: bool,
        /// The lower of recall and precision against the float model at a score of 0.3; negative: not known.
        pub agreement: f64,
        /// Tables: what became of each layer, and how the boxes agree.
        pub report: String,
    }
}

cdr_struct! {
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct CalibrateFeedback {
        /// What is done now.
        pub stage: String,
        pub done: u32,
        pub of: u32,
    }
}

/// Makes a quantized model from what the robot sees.
pub struct Calibrate;

impl RosAction for Calibrate {
    type Goal = CalibrateGoal;
    type Result = CalibrateResult;
    type Feedback = CalibrateFeedback;
    const SEND_GOAL: &'static str = "lidar_ptq_msgs/action/Calibrate_SendGoal";
    const GET_RESULT: &'static str = "lidar_ptq_msgs/action/Calibrate_GetResult";
    const FEEDBACK: &'static str = "lidar_ptq_msgs/action/Calibrate_FeedbackMessage";
}
