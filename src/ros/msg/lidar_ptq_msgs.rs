//! `lidar_ptq_msgs`, the package in `msgs/`.

use super::{RosService, cdr_struct};

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

/// Replaces the detector's model.
pub struct LoadModel;

impl RosService for LoadModel {
    type Request = LoadModelRequest;
    type Response = LoadModelResponse;
    const TYPE: &'static str = "lidar_ptq_msgs/srv/LoadModel";
}
