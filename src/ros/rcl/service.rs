//! Services: one of this node that others call, and one of others that this node calls. Both speak CDR.

use super::error::{OK, check};
use super::node::{Entity, Node, c_string};
use super::types::ServiceType;
use crate::ros::interface::Service;
use crate::ros::transport::{Received, Request, RequestId, Response, TransportError};
use r2r_rcl::{
    RCL_RET_CLIENT_TAKE_FAILED, RCL_RET_SERVICE_TAKE_FAILED, rcl_client_fini, rcl_client_get_default_options, rcl_client_init,
    rcl_client_t, rcl_get_zero_initialized_client, rcl_get_zero_initialized_service, rcl_ret_t, rcl_send_request, rcl_send_response,
    rcl_service_fini, rcl_service_get_default_options, rcl_service_init, rcl_service_t, rcl_take_request, rcl_take_response,
    rmw_request_id_t,
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What others call.
pub(super) struct Server {
    name: Arc<str>,
    types: ServiceType,
    entity: Entity<rcl_service_t>,
    /// The receiver takes requests, the transport's owner answers them: one at a time.
    one_at_a_time: Mutex<()>,
}

/// What calls others.
pub(super) struct Caller {
    name: Arc<str>,
    types: ServiceType,
    entity: Entity<rcl_client_t>,
    one_at_a_time: Mutex<()>,
}

impl Server {
    pub(super) fn open(node: &Arc<Node>, service: &Service) -> Result<Self, TransportError> {
        let (types, name) = (ServiceType::find(service.type_name)?, c_string(&service.name));
        // SAFETY: node, type and name are valid, and the service is zero-initialised.
        let entity = unsafe {
            let options = rcl_service_get_default_options();
            let init = |entity, node| rcl_service_init(entity, node, types.as_ptr(), name.as_ptr(), &raw const options);
            Entity::open(node, &service.name, rcl_get_zero_initialized_service(), init, rcl_service_fini)?
        };
        Ok(Self { name: service.name.as_str().into(), types, entity, one_at_a_time: Mutex::new(()) })
    }

    pub(super) fn as_ptr(&self) -> *const rcl_service_t {
        self.entity.as_ptr()
    }

    /// The next request, if one has come.
    pub(super) fn take(&self) -> Result<Option<Received>, TransportError> {
        let mut message = self.types.new_request()?;
        let mut id = request_id(RequestId { caller: [0; 16], sequence: 0 });
        let code = {
            let _lock = lock(&self.one_at_a_time);
            // SAFETY: the service is open, and the message is of its request's type.
            unsafe { rcl_take_request(self.as_ptr(), &raw mut id, message.as_ptr()) }
        };
        if code == RCL_RET_SERVICE_TAKE_FAILED as rcl_ret_t {
            return Ok(None);
        }
        check(code, &self.name)?;
        // SAFETY: sixteen bytes, whose sign is another one in other distributions.
        let caller = unsafe { id.writer_guid.as_ptr().cast::<[u8; 16]>().read() };
        let id = RequestId { caller, sequence: id.sequence_number };
        Ok(Some(Received::Request(Request { service: self.name.clone(), id, data: message.to_cdr()? })))
    }

    pub(super) fn reply(&self, to: RequestId, data: &[u8]) -> Result<(), TransportError> {
        let mut message = self.types.new_response()?;
        message.fill(data)?;
        let mut id = request_id(to);
        let _lock = lock(&self.one_at_a_time);
        // SAFETY: the service is open, and the message is of its answer's type.
        check(unsafe { rcl_send_response(self.as_ptr(), &raw mut id, message.as_ptr()) }, &self.name)
    }
}

impl Caller {
    pub(super) fn open(node: &Arc<Node>, service: &Service) -> Result<Self, TransportError> {
        let (types, name) = (ServiceType::find(service.type_name)?, c_string(&service.name));
        // SAFETY: node, type and name are valid, and the client is zero-initialised.
        let entity = unsafe {
            let options = rcl_client_get_default_options();
            let init = |entity, node| rcl_client_init(entity, node, types.as_ptr(), name.as_ptr(), &raw const options);
            Entity::open(node, &service.name, rcl_get_zero_initialized_client(), init, rcl_client_fini)?
        };
        Ok(Self { name: service.name.as_str().into(), types, entity, one_at_a_time: Mutex::new(()) })
    }

    pub(super) fn as_ptr(&self) -> *const rcl_client_t {
        self.entity.as_ptr()
    }

    /// The call's number.
    pub(super) fn call(&self, data: &[u8]) -> Result<i64, TransportError> {
        let mut message = self.types.new_request()?;
        message.fill(data)?;
        let mut call = 0;
        let _lock = lock(&self.one_at_a_time);
        // SAFETY: the client is open, and the message is of its request's type.
        check(unsafe { rcl_send_request(self.as_ptr(), message.as_ptr(), &raw mut call) }, &self.name)?;
        Ok(call)
    }

    /// The next answer, if one has come.
    pub(super) fn take(&self) -> Result<Option<Received>, TransportError> {
        let mut message = self.types.new_response()?;
        let mut id = request_id(RequestId { caller: [0; 16], sequence: 0 });
        let code = {
            let _lock = lock(&self.one_at_a_time);
            // SAFETY: the client is open, and the message is of its answer's type.
            unsafe { rcl_take_response(self.as_ptr(), &raw mut id, message.as_ptr()) }
        };
        match code {
            OK => {
                let response = Response { service: self.name.clone(), call: id.sequence_number, data: message.to_cdr()? };
                Ok(Some(Received::Response(response)))
            }
            code if code == RCL_RET_CLIENT_TAKE_FAILED as rcl_ret_t => Ok(None),
            code => check(code, &self.name).map(|()| None),
        }
    }
}

fn request_id(id: RequestId) -> rmw_request_id_t {
    // SAFETY: numbers, for which zero is a value.
    let mut request: rmw_request_id_t = unsafe { std::mem::zeroed() };
    // SAFETY: sixteen bytes on both sides, whose sign is another one in other distributions.
    unsafe { request.writer_guid.as_mut_ptr().cast::<[u8; 16]>().write(id.caller) };
    request.sequence_number = id.sequence;
    request
}

/// Nothing is guarded but the order, so that a panic elsewhere leaves nothing half done.
fn lock(of: &Mutex<()>) -> MutexGuard<'_, ()> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
