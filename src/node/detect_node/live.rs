//! Parameters that change while the node runs.

use super::DetectNode;
use super::model::tuned;
use super::params::DetectParams;
use crate::ros::declarations::DeclaredParameters;
use crate::ros::parameter_server::ParameterOwner;
use crate::ros::parameters::ParameterValue;
use crate::ros::transport::{Request, Transport, TransportError};

impl ParameterOwner for DetectNode {
    fn parameters(&self) -> &DeclaredParameters {
        &self.declared
    }

    /// Thresholds hold from the next frame on; the model of the file is asked whether they fit it.
    fn take_over(&mut self, declared: DeclaredParameters) -> Result<(), String> {
        let params = DetectParams::new(&declared);
        let config = tuned(&self.model_config, &params).map_err(|e| format!("{e:#}"))?;
        self.perception.set_decode(config.decode).map_err(|e| e.to_string())?;
        self.params = params;
        self.declared = declared;
        Ok(())
    }
}

impl DetectNode {
    pub(super) fn serve_parameters(&mut self, request: &Request, transport: &mut dyn Transport) {
        let (now, server) = (self.time(transport), self.server.clone());
        let served = server.serve(request, self, transport, now);
        self.note_unsent(served);
    }

    /// `model_path` names the model that runs.
    pub(super) fn note_model_path(&mut self, path: String, transport: &mut dyn Transport) {
        let name = "model_path";
        self.declared.set(name, ParameterValue::String(path));
        self.params = DetectParams::new(&self.declared);
        let now = self.time(transport);
        let told = self.server.tell([name.to_owned()].into(), &self.declared, transport, now);
        self.note_unsent(told);
    }

    pub(super) fn note_unsent(&mut self, sent: Result<(), TransportError>) {
        if let Err(error) = sent {
            self.health.unsent(error.to_string());
        }
    }
}
