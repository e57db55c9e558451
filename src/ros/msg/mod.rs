//! ROS messages as plain structs, one file a package. Fields are those of the interface definitions in `definitions/`.
//!
//! A new message is a definition file, a `cdr_struct!` with its fields in order, and a `ros_message!` line.

pub mod action_msgs;
pub mod diagnostic_msgs;
pub mod geometry_msgs;
pub mod lidar_ptq_msgs;
pub mod lifecycle_msgs;
pub mod nav_msgs;
pub mod rcl_interfaces;
pub mod rosgraph_msgs;
pub mod sensor_msgs;
pub mod std_msgs;
pub mod std_srvs;
pub mod tf2_msgs;
pub mod vision_msgs;
pub mod visualization_msgs;

use super::cdr::{Cdr, CdrError, CdrReader, CdrWriter, Endian};

/// A message that is published on its own: one with a type name.
pub trait RosMessage: Cdr {
    /// Such as `sensor_msgs/msg/PointCloud2`.
    const TYPE: &'static str;

    /// The definition with those of all types it holds, in MCAP's `ros2msg` schema encoding.
    const DEFINITION: &'static str;

    /// Little-endian CDR with encapsulation.
    fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    /// From CDR with encapsulation, either byte order. Bytes after the last field are ignored: some middlewares pad.
    fn decode(bytes: &[u8]) -> Result<Self, CdrError> {
        Self::read(&mut CdrReader::new(bytes, Self::TYPE)?)
    }
}

/// A service: a question and its answer.
pub trait RosService {
    type Request: Cdr;
    type Response: Cdr;
    /// Such as `std_srvs/srv/Trigger`.
    const TYPE: &'static str;

    /// From CDR with encapsulation, either byte order.
    fn decode_request(bytes: &[u8]) -> Result<Self::Request, CdrError> {
        Self::Request::read(&mut CdrReader::new(bytes, Self::TYPE)?)
    }

    /// Little-endian CDR with encapsulation.
    fn encode_response(response: &Self::Response) -> Vec<u8> {
        encode(response)
    }

    /// Little-endian CDR with encapsulation.
    fn encode_request(request: &Self::Request) -> Vec<u8> {
        encode(request)
    }

    /// From CDR with encapsulation, either byte order.
    fn decode_response(bytes: &[u8]) -> Result<Self::Response, CdrError> {
        Self::Response::read(&mut CdrReader::new(bytes, Self::TYPE)?)
    }
}

/// An action: a goal that takes its time, tells how far it is, and has a result. Its services and topics are made of these types
/// ([`crate::ros::action`]).
pub trait RosAction {
    type Goal: Cdr;
    type Result: Cdr + Default;
    type Feedback: Cdr;
    /// Such as `lidar_ptq_msgs/action/Calibrate_SendGoal`.
    const SEND_GOAL: &'static str;
    const GET_RESULT: &'static str;
    const FEEDBACK: &'static str;
}

fn encode(value: &impl Cdr) -> Vec<u8> {
    let mut writer = CdrWriter::new(Endian::Little);
    value.write(&mut writer);
    writer.finish()
}

/// A struct whose CDR form is its fields in order.
macro_rules! cdr_struct {
    ($(#[$meta:meta])* pub struct $name:ident { $($(#[$field_meta:meta])* pub $field:ident: $type:ty,)+ }) => {
        $(#[$meta])*
        pub struct $name {
            $($(#[$field_meta])* pub $field: $type,)+
        }

        impl $crate::ros::cdr::Cdr for $name {
            const MIN_BYTES: usize = 0 $(+ <$type as $crate::ros::cdr::Cdr>::MIN_BYTES)+;

            fn write(&self, writer: &mut $crate::ros::cdr::CdrWriter) {
                $($crate::ros::cdr::Cdr::write(&self.$field, writer);)+
            }

            fn read(reader: &mut $crate::ros::cdr::CdrReader) -> Result<Self, $crate::ros::cdr::CdrError> {
                Ok(Self { $($field: reader.field(stringify!($field))?,)+ })
            }
        }
    };
}
use cdr_struct;

/// Type name and definition of a message: its package and name, then those of every type it holds.
macro_rules! ros_message {
    ($struct:ty: $package:literal $name:literal $(, $held_package:literal $held_name:literal)*) => {
        impl $crate::ros::msg::RosMessage for $struct {
            const TYPE: &'static str = concat!($package, "/msg/", $name);
            const DEFINITION: &'static str = concat!(
                include_str!(concat!("definitions/", $package, "/", $name, ".msg")),
                $(
                    "================================================================================\nMSG: ",
                    $held_package, "/", $held_name, "\n",
                    include_str!(concat!("definitions/", $held_package, "/", $held_name, ".msg")),
                )*
            );
        }
    };
}
use ros_message;

/// A service by its package and name.
macro_rules! ros_service {
    ($(#[$meta:meta])* $name:ident: $package:literal, $request:ty => $response:ty) => {
        #[doc = concat!("`", $package, "/srv/", stringify!($name), "`.")]
        $(#[$meta])*
        pub struct $name;

        impl $crate::ros::msg::RosService for $name {
            type Request = $request;
            type Response = $response;
            const TYPE: &'static str = concat!($package, "/srv/", stringify!($name));
        }
    };
}
use ros_service;
