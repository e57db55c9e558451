//! `rcl_interfaces`: the parameters of a node, asked for and set from outside, and its log.

use super::{cdr_struct, ros_message, ros_service};
use crate::sensor::Stamp;

cdr_struct! {
    /// One of its fields holds; `kind` tells which.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct ParameterValue {
        /// The definition's `type`.
        pub kind: u8,
        pub bool_value: bool,
        pub integer_value: i64,
        pub double_value: f64,
        pub string_value: String,
        pub byte_array_value: Vec<u8>,
        pub bool_array_value: Vec<bool>,
        pub integer_array_value: Vec<i64>,
        pub double_array_value: Vec<f64>,
        pub string_array_value: Vec<String>,
    }
}

impl ParameterValue {
    pub const NOT_SET: u8 = 0;
    pub const BOOL: u8 = 1;
    pub const INTEGER: u8 = 2;
    pub const DOUBLE: u8 = 3;
    pub const STRING: u8 = 4;
    pub const BYTE_ARRAY: u8 = 5;
    pub const BOOL_ARRAY: u8 = 6;
    pub const INTEGER_ARRAY: u8 = 7;
    pub const DOUBLE_ARRAY: u8 = 8;
    pub const STRING_ARRAY: u8 = 9;
}

cdr_struct! {
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct Parameter {
        pub name: String,
        pub value: ParameterValue,
    }
}

cdr_struct! {
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct ParameterEvent {
        pub stamp: Stamp,
        /// Its full name.
        pub node: String,
        pub new_parameters: Vec<Parameter>,
        pub changed_parameters: Vec<Parameter>,
        pub deleted_parameters: Vec<Parameter>,
    }
}

ros_message! {
    ParameterEvent: "rcl_interfaces" "ParameterEvent",
    "builtin_interfaces" "Time", "rcl_interfaces" "Parameter", "rcl_interfaces" "ParameterValue"
}

cdr_struct! {
    /// A line of a node's log.
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub struct Log {
        pub stamp: Stamp,
        pub level: u8,
        /// Of the logger.
        pub name: String,
        /// The definition's `msg`.
        pub text: String,
        /// Where in the program's source the line was written.
        pub file: String,
        pub function: String,
        pub line: u32,
    }
}

impl Log {
    pub const DEBUG: u8 = 10;
    pub const INFO: u8 = 20;
    pub const WARN: u8 = 30;
    pub const ERROR: u8 = 40;
}

ros_message! {
    Log: "rcl_interfaces" "Log",
    "builtin_interfaces" "Time"
}

cdr_struct! {
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct FloatingPointRange {
        pub from_value: f64,
        pub to_value: f64,
        /// Zero: any.
        pub step: f64,
    }
}

cdr_struct! {
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub struct IntegerRange {
        pub from_value: i64,
        pub to_value: i64,
        /// Zero: any.
        pub step: u64,
    }
}

cdr_struct! {
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct ParameterDescriptor {
        pub name: String,
        /// As `ParameterValue::kind`; the definition's `type`.
        pub kind: u8,
        pub description: String,
        pub additional_constraints: String,
        pub read_only: bool,
        pub dynamic_typing: bool,
        /// One at most.
        pub floating_point_range: Vec<FloatingPointRange>,
        /// One at most.
        pub integer_range: Vec<IntegerRange>,
    }
}

cdr_struct! {
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub struct SetParametersResult {
        pub successful: bool,
        pub reason: String,
    }
}

cdr_struct! {
    /// The request of services that ask about parameters by name.
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub struct Names {
        pub names: Vec<String>,
    }
}

cdr_struct! {
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct Parameters {
        pub parameters: Vec<Parameter>,
    }
}

cdr_struct! {
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct Values {
        pub values: Vec<ParameterValue>,
    }
}

cdr_struct! {
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub struct Types {
        pub types: Vec<u8>,
    }
}

cdr_struct! {
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct Descriptors {
        pub descriptors: Vec<ParameterDescriptor>,
    }
}

cdr_struct! {
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub struct SetResults {
        pub results: Vec<SetParametersResult>,
    }
}

cdr_struct! {
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub struct SetResult {
        pub result: SetParametersResult,
    }
}

cdr_struct! {
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub struct ListRequest {
        /// Groups; none: all parameters.
        pub prefixes: Vec<String>,
        /// Parts of the name below the group, at most; 0 is any number.
        pub depth: u64,
    }
}

cdr_struct! {
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub struct ListResult {
        pub names: Vec<String>,
        pub prefixes: Vec<String>,
    }
}

ros_service!(DescribeParameters: "rcl_interfaces", Names => Descriptors);
ros_service!(GetParameterTypes: "rcl_interfaces", Names => Types);
ros_service!(GetParameters: "rcl_interfaces", Names => Values);
ros_service!(ListParameters: "rcl_interfaces", ListRequest => ListResult);
ros_service!(SetParameters: "rcl_interfaces", Parameters => SetResults);
ros_service!(SetParametersAtomically: "rcl_interfaces", Parameters => SetResult);
