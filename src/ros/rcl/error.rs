//! What `rcl` says when something fails.

use crate::ros::transport::TransportError;
use r2r_rcl::{RCL_RET_OK, rcl_ret_t, rcutils_get_error_string, rcutils_reset_error};
use std::ffi::CStr;

pub(super) const OK: rcl_ret_t = RCL_RET_OK as rcl_ret_t;

/// An error for every code but that of success. `what`: a topic, or what was tried.
pub(super) fn check(code: rcl_ret_t, what: &str) -> Result<(), TransportError> {
    if code == OK {
        return Ok(());
    }
    let said = take_message();
    let reason = if said.is_empty() { format!("error {code} of rcl") } else { said };
    Err(TransportError::Rcl { what: what.to_owned(), reason })
}

/// The text of this thread's last error, which is then forgotten.
pub(super) fn take_message() -> String {
    // SAFETY: the text is given by value, and ends with a zero within its array.
    unsafe {
        let text = rcutils_get_error_string();
        rcutils_reset_error();
        CStr::from_ptr(text.str_.as_ptr()).to_string_lossy().into_owned()
    }
}
