//! Types, found by name in the libraries of their packages when a topic or service is opened.
//!
//! So none of ROS' types is compiled into the program: a message goes in and out as CDR. For services `rcl` has no such way. Their
//! messages are made into C structures and back by the middleware itself.

use super::error::{check, take_message};
use super::node::c_string;
use crate::ros::transport::TransportError;
use r2r_rcl::{
    rcl_serialized_message_t, rcutils_get_default_allocator, rcutils_get_zero_initialized_uint8_array, rcutils_uint8_array_fini,
    rmw_deserialize, rmw_serialize, rosidl_message_type_support_t, rosidl_service_type_support_t,
};
use std::ffi::{CStr, c_void};
use std::ptr::NonNull;

/// How the middleware reads and writes a message.
#[derive(Clone, Copy)]
pub(super) struct MessageType(NonNull<rosidl_message_type_support_t>);

// SAFETY: it points to a constant of a library that stays open.
unsafe impl Send for MessageType {}
// SAFETY: as above.
unsafe impl Sync for MessageType {}

impl MessageType {
    /// `name`: such as `sensor_msgs/msg/PointCloud2`.
    pub(super) fn find(name: &str) -> Result<Self, TransportError> {
        type Get = unsafe extern "C" fn() -> *const rosidl_message_type_support_t;
        let get = symbol(name, "rosidl_typesupport_c", "rosidl_typesupport_c__get_message_type_support_handle__", "")?;
        // SAFETY: rosidl's generator gives this function this form, in every distribution.
        let support = unsafe { std::mem::transmute::<*mut c_void, Get>(get.as_ptr())() };
        NonNull::new(support.cast_mut()).map(Self).ok_or_else(|| no_type(name, "it has no type support".into()))
    }

    pub(super) fn as_ptr(self) -> *const rosidl_message_type_support_t {
        self.0.as_ptr()
    }
}

/// A message as a C structure, and what makes and frees it.
#[derive(Clone, Copy)]
struct NativeType {
    message: MessageType,
    create: unsafe extern "C" fn() -> *mut c_void,
    destroy: unsafe extern "C" fn(*mut c_void),
}

/// A service's two messages.
pub(super) struct ServiceType {
    name: &'static str,
    support: NonNull<rosidl_service_type_support_t>,
    request: NativeType,
    response: NativeType,
}

// SAFETY: it points to a constant of a library that stays open.
unsafe impl Send for ServiceType {}
// SAFETY: as above.
unsafe impl Sync for ServiceType {}

impl ServiceType {
    /// `name`: such as `std_srvs/srv/Trigger`.
    pub(super) fn find(name: &'static str) -> Result<Self, TransportError> {
        type Get = unsafe extern "C" fn() -> *const rosidl_service_type_support_t;
        let get = symbol(name, "rosidl_typesupport_c", "rosidl_typesupport_c__get_service_type_support_handle__", "")?;
        // SAFETY: rosidl's generator gives this function this form, in every distribution.
        let support = unsafe { std::mem::transmute::<*mut c_void, Get>(get.as_ptr())() };
        let support = NonNull::new(support.cast_mut()).ok_or_else(|| no_type(name, "it has no type support".into()))?;
        let [request, response] = ["_Request", "_Response"].map(|half| NativeType::find(&format!("{name}{half}")));
        Ok(Self { name, support, request: request?, response: response? })
    }

    pub(super) fn as_ptr(&self) -> *const rosidl_service_type_support_t {
        self.support.as_ptr()
    }

    /// An empty one, to be filled by `rcl`.
    pub(super) fn new_request(&self) -> Result<Native, TransportError> {
        Native::new(self.request, self.name)
    }

    pub(super) fn new_response(&self) -> Result<Native, TransportError> {
        Native::new(self.response, self.name)
    }
}

impl NativeType {
    fn find(name: &str) -> Result<Self, TransportError> {
        let create = symbol(name, "rosidl_generator_c", "", "__create")?;
        let destroy = symbol(name, "rosidl_generator_c", "", "__destroy")?;
        // SAFETY: rosidl's generator gives these functions these forms, up to the pointer's type.
        unsafe {
            Ok(Self {
                message: MessageType::find(name)?,
                create: std::mem::transmute::<*mut c_void, unsafe extern "C" fn() -> *mut c_void>(create.as_ptr()),
                destroy: std::mem::transmute::<*mut c_void, unsafe extern "C" fn(*mut c_void)>(destroy.as_ptr()),
            })
        }
    }
}

/// A message as a C structure.
pub(super) struct Native {
    of: NativeType,
    service: &'static str,
    message: NonNull<c_void>,
}

impl Native {
    fn new(of: NativeType, service: &'static str) -> Result<Self, TransportError> {
        // SAFETY: the function makes an initialised message, or none where memory is short.
        let message = unsafe { (of.create)() };
        match NonNull::new(message) {
            Some(message) => Ok(Self { of, service, message }),
            None => Err(no_type(service, "there is no memory for a message".into())),
        }
    }

    pub(super) fn as_ptr(&mut self) -> *mut c_void {
        self.message.as_ptr()
    }

    /// `data`: CDR with encapsulation.
    pub(super) fn fill(&mut self, data: &[u8]) -> Result<(), TransportError> {
        let message = serialized(data);
        // SAFETY: the message is of the type of this support; the bytes are only read, and outlive the call.
        let code = unsafe { rmw_deserialize(&raw const message, self.of.message.as_ptr(), self.message.as_ptr()) };
        check(code, self.service)
    }

    /// CDR with encapsulation.
    pub(super) fn to_cdr(&self) -> Result<Vec<u8>, TransportError> {
        let mut buffer = Buffer::new();
        // SAFETY: the message is of the type of this support, and the buffer grows by its own allocator.
        let code = unsafe { rmw_serialize(self.message.as_ptr(), self.of.message.as_ptr(), buffer.as_ptr()) };
        check(code, self.service)?;
        Ok(buffer.bytes().to_vec())
    }
}

impl Drop for Native {
    fn drop(&mut self) {
        // SAFETY: made by the function that belongs to this one, and ours alone.
        unsafe { (self.of.destroy)(self.message.as_ptr()) }
    }
}

/// Bytes that `rcl` writes; it grows as it must.
pub(super) struct Buffer(rcl_serialized_message_t);

// SAFETY: its memory is its own.
unsafe impl Send for Buffer {}

impl Buffer {
    pub(super) fn new() -> Self {
        // SAFETY: both give plain values.
        unsafe {
            Self(rcl_serialized_message_t { allocator: rcutils_get_default_allocator(), ..rcutils_get_zero_initialized_uint8_array() })
        }
    }

    pub(super) fn as_ptr(&mut self) -> *mut rcl_serialized_message_t {
        &raw mut self.0
    }

    pub(super) fn bytes(&self) -> &[u8] {
        if self.0.buffer.is_null() {
            return &[];
        }
        // SAFETY: so many bytes have been written there, and nothing writes while they are borrowed.
        unsafe { std::slice::from_raw_parts(self.0.buffer, self.0.buffer_length) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: the memory came from the allocator that stands beside it.
        unsafe { rcutils_uint8_array_fini(&raw mut self.0) };
    }
}

/// Bytes that are only read.
pub(super) fn serialized(data: &[u8]) -> rcl_serialized_message_t {
    // SAFETY: the function gives a plain value.
    let allocator = unsafe { rcutils_get_default_allocator() };
    rcl_serialized_message_t { buffer: data.as_ptr().cast_mut(), buffer_length: data.len(), buffer_capacity: data.len(), allocator }
}

/// A function that rosidl has made for a type: `{prefix}{package}__{kind}__{name}{suffix}` in the package's library of that `kind`.
fn symbol(type_name: &str, kind: &str, prefix: &str, suffix: &str) -> Result<NonNull<c_void>, TransportError> {
    let package = type_name.split('/').next().unwrap_or_default();
    let library = c_string(&format!("lib{package}__{kind}.so"));
    let function = c_string(&format!("{prefix}{}{suffix}", type_name.replace('/', "__")));
    // SAFETY: ROS' own libraries, which run nothing of note when opened. They are never closed.
    let found = unsafe {
        let library = libc::dlopen(library.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL);
        if library.is_null() { library } else { libc::dlsym(library, function.as_ptr()) }
    };
    NonNull::new(found).ok_or_else(|| {
        // SAFETY: the text is of this thread's last error, and is copied before there is another.
        let reason = unsafe {
            let text = libc::dlerror();
            if text.is_null() { take_message() } else { CStr::from_ptr(text).to_string_lossy().into_owned() }
        };
        no_type(type_name, reason)
    })
}

fn no_type(type_name: &str, reason: String) -> TransportError {
    TransportError::NoType { type_name: type_name.to_owned(), reason }
}
