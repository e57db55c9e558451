//! `diagnostic_msgs`.

use super::std_msgs::Header;
use super::{cdr_struct, ros_message};

cdr_struct! {
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub struct KeyValue {
        pub key: String,
        pub value: String,
    }
}

cdr_struct! {
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub struct DiagnosticStatus {
        /// `DiagnosticStatus::OK`, ...
        pub level: u8,
        /// The node, a colon, and what of it.
        pub name: String,
        pub message: String,
        pub hardware_id: String,
        pub values: Vec<KeyValue>,
    }
}

impl DiagnosticStatus {
    pub const OK: u8 = 0;
    pub const WARN: u8 = 1;
    pub const ERROR: u8 = 2;
}

cdr_struct! {
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct DiagnosticArray {
        pub header: Header,
        pub status: Vec<DiagnosticStatus>,
    }
}

ros_message! {
    DiagnosticArray: "diagnostic_msgs" "DiagnosticArray",
    "std_msgs" "Header", "builtin_interfaces" "Time", "diagnostic_msgs" "DiagnosticStatus", "diagnostic_msgs" "KeyValue"
}
