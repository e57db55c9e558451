//! `std_srvs`.

use super::{cdr_struct, ros_service};
use crate::ros::cdr::{Cdr, CdrError, CdrReader, CdrWriter};

/// A request without fields. DDS has no empty struct: ROS sends a byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Empty;

impl Cdr for Empty {
    const MIN_BYTES: usize = 1;

    fn write(&self, writer: &mut CdrWriter) {
        0u8.write(writer);
    }

    /// What is in it says nothing, so nothing is looked at.
    fn read(_reader: &mut CdrReader) -> Result<Self, CdrError> {
        Ok(Self)
    }
}

cdr_struct! {
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub struct TriggerResponse {
        pub success: bool,
        pub message: String,
    }
}

ros_service! {
    /// Does something.
    Trigger: "std_srvs", Empty => TriggerResponse
}
