//! `std_msgs`.

use super::{cdr_struct, ros_message};
use crate::sensor::Stamp;

cdr_struct! {
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct Header {
        pub stamp: Stamp,
        /// The coordinate frame of the data.
        pub frame_id: String,
    }
}

cdr_struct! {
    /// Each channel in 0..=1.
    #[derive(Clone, Copy, Debug, Default, PartialEq)]
    pub struct ColorRGBA {
        pub r: f32,
        pub g: f32,
        pub b: f32,
        pub a: f32,
    }
}

cdr_struct! {
    #[derive(Clone, Copy, Debug, Default, PartialEq)]
    pub struct Float64 {
        pub data: f64,
    }
}

cdr_struct! {
    /// `std_msgs/String`.
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub struct Text {
        pub data: String,
    }
}

ros_message! {
    Text: "std_msgs" "String"
}

ros_message! {
    Float64: "std_msgs" "Float64"
}
