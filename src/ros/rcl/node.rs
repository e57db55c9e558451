//! A node of `rcl`, and what is opened on it.

use super::error::check;
use crate::ros::names::NodeName;
use crate::ros::transport::TransportError;
use r2r_rcl::{
    rcl_context_fini, rcl_context_t, rcl_get_zero_initialized_context, rcl_get_zero_initialized_init_options,
    rcl_get_zero_initialized_node, rcl_init, rcl_init_options_fini, rcl_init_options_init, rcl_node_fini, rcl_node_get_default_options,
    rcl_node_init, rcl_node_t, rcl_ret_t, rcl_shutdown, rcutils_get_default_allocator,
};
use std::ffi::CString;
use std::ptr;
use std::sync::Arc;

/// A node in a context of its own.
pub(super) struct Node {
    /// Both are ours alone, made by `Box::into_raw`.
    context: *mut rcl_context_t,
    node: *mut rcl_node_t,
}

// SAFETY: `rcl` reads a node from any thread. What changes it, opening and closing, is done by one thread at a time: by the one that
// opens the transport until the receiver runs, by the receiver until it has ended, and by the last owner after that.
unsafe impl Send for Node {}
// SAFETY: as above.
unsafe impl Sync for Node {}

impl Node {
    /// Domain, discovery range and middleware are those of ROS' environment variables.
    pub(super) fn open(name: &NodeName) -> Result<Arc<Self>, TransportError> {
        let [base, namespace] = [name.base(), name.namespace()].map(c_string);
        // SAFETY: each object is zero-initialised before its `init`, and ended if a later step fails: by `Drop`, which also takes a
        // context or a node that has not been initialised. No arguments are passed; those of the program were read before.
        unsafe {
            let context = Box::into_raw(Box::new(rcl_get_zero_initialized_context()));
            let node = Box::into_raw(Box::new(rcl_get_zero_initialized_node()));
            let opened = Self { context, node };
            let mut options = rcl_get_zero_initialized_init_options();
            check(rcl_init_options_init(&raw mut options, rcutils_get_default_allocator()), "starting")?;
            let started = check(rcl_init(0, ptr::null(), &raw const options, context), "starting");
            let freed = check(rcl_init_options_fini(&raw mut options), "starting");
            started.and(freed)?;
            let options = rcl_node_get_default_options();
            check(rcl_node_init(node, base.as_ptr(), namespace.as_ptr(), context, &raw const options), "announcing the node")?;
            Ok(Arc::new(opened))
        }
    }

    pub(super) fn as_ptr(&self) -> *mut rcl_node_t {
        self.node
    }

    pub(super) fn context(&self) -> *mut rcl_context_t {
        self.context
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // SAFETY: nobody else has the node any more: all that was opened on it held an `Arc`. Ending what was never begun is an error
        // that changes nothing.
        unsafe {
            for (code, what) in [(rcl_node_fini(self.node), "the node"), (rcl_shutdown(self.context), "the context")] {
                if let Err(error) = check(code, what) {
                    tracing::debug!(%error, "was not ended");
                }
            }
            if let Err(error) = check(rcl_context_fini(self.context), "the context") {
                tracing::debug!(%error, "was not ended");
            }
            drop(Box::from_raw(self.node));
            drop(Box::from_raw(self.context));
        }
    }
}

type Fini<T> = unsafe extern "C" fn(*mut T, *mut rcl_node_t) -> rcl_ret_t;

/// A publisher, subscription, service or client of `rcl`.
pub(super) struct Entity<T> {
    /// Stays where it is: wait sets hold its address.
    handle: *mut T,
    fini: Fini<T>,
    node: Arc<Node>,
}

// SAFETY: `rcl` allows one call at a time on one of these, from any thread. Publishers are used by the transport's owner alone,
// subscriptions by the receiver; services and clients are used by both, with a lock ([`super::service`]).
unsafe impl<T> Send for Entity<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Entity<T> {}

impl<T> Entity<T> {
    /// `zero`: as `rcl_get_zero_initialized_...` gives it. `init` opens it on the node. `what`: for the error.
    pub(super) fn open(
        node: &Arc<Node>,
        what: &str,
        zero: T,
        init: impl FnOnce(*mut T, *const rcl_node_t) -> rcl_ret_t,
        fini: Fini<T>,
    ) -> Result<Self, TransportError> {
        let handle = Box::into_raw(Box::new(zero));
        let code = init(handle, node.as_ptr());
        // `fini` of what was not opened is an error that changes nothing.
        let entity = Self { handle, fini, node: node.clone() };
        check(code, what)?;
        Ok(entity)
    }

    pub(super) fn as_ptr(&self) -> *const T {
        self.handle
    }
}

impl<T> Drop for Entity<T> {
    fn drop(&mut self) {
        // SAFETY: the handle is ours, was opened on this node, and is used by nobody any more.
        unsafe {
            if let Err(error) = check((self.fini)(self.handle, self.node.as_ptr()), "closing") {
                tracing::debug!(%error, "was not closed");
            }
            drop(Box::from_raw(self.handle));
        }
    }
}

/// Names have been checked by [`NodeName`], so they hold no zero.
pub(super) fn c_string(name: &str) -> CString {
    CString::new(name).unwrap_or_default()
}
