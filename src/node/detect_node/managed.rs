//! The node's life as a managed node: what it does when it is configured, activated, and so on.

use super::DetectNode;
use super::model::{AskedBy, Loading};
use crate::detect::{Detector, HeadMaps, Network, NetworkError, PillarInput};
use crate::node::messages::marker_array;
use crate::ros::lifecycle::{State, Transition};
use crate::ros::msg::lidar_ptq_msgs::{LoadModel, LoadModelResponse};
use crate::ros::transport::{Request, Transport};

/// Where a network was until it was let go.
struct NoNetwork;

impl Network for NoNetwork {
    fn run(&mut self, _: &PillarInput) -> Result<HeadMaps, NetworkError> {
        Err("the node is not configured, no model is loaded".into())
    }
}

impl DetectNode {
    pub(super) fn serve_lifecycle(&mut self, request: &Request, transport: &mut dyn Transport) {
        let now = self.time(transport);
        let (wanted, sent) = self.lifecycle.serve(request, transport, now);
        self.note_unsent(sent);
        match wanted {
            None => return,
            Some(Transition::Configure) => {
                let path = self.params.model_path.clone();
                match Loading::start(AskedBy::Configure, path, self.params.clone(), self.isa) {
                    // It is over when the model is there.
                    Ok(loading) => self.loading = Some(loading),
                    Err(error) => {
                        self.note_load_failure(&error);
                        self.finish_transition(false, transport);
                    }
                }
                return;
            }
            // The node knows of the motion already.
            Some(Transition::Activate) => {}
            Some(Transition::Deactivate) => self.rest(transport),
            Some(Transition::Cleanup) => self.clean_up(transport),
            Some(Transition::Shutdown) => {
                self.rest(transport);
                self.clean_up(transport);
            }
        }
        self.finish_transition(true, transport);
    }

    /// Why another model cannot be loaded now.
    pub(super) fn refuses_models(&self) -> Option<String> {
        if self.loading.is_some() {
            return Some("another model is being loaded".to_owned());
        }
        let is_loaded = matches!(self.lifecycle.state(), State::Inactive | State::Active);
        (!is_loaded)
            .then(|| format!("the node is {}: only a node that is inactive or active has a model to replace", self.lifecycle.label()))
    }

    /// The weights are let go. What the model was like stays known, so that parameters can be judged.
    pub(super) fn unload(&mut self) {
        let config = self.perception.detector().config().clone();
        match Detector::new(config, Box::new(NoNetwork)) {
            Ok(empty) => self.perception.replace_detector(empty),
            Err(error) => tracing::error!(%error, "the model stays loaded"),
        }
        self.model_facts.retain(|(key, _)| *key == "path");
        self.seen.clear();
    }

    fn clean_up(&mut self, transport: &mut dyn Transport) {
        if let Some(AskedBy::Caller(to)) = self.loading.take().map(|loading| loading.asked_by) {
            let refused = LoadModelResponse { success: false, message: "the node was cleaned up meanwhile".into() };
            self.answer::<LoadModel>(transport, &self.names.load_model.clone(), to, &refused);
        }
        self.unload();
    }

    /// No more boxes: those that are shown are taken away.
    fn rest(&mut self, transport: &mut dyn Transport) {
        self.waiting = Default::default();
        let shown = self.last_answer.take().is_some();
        if shown {
            let markers = marker_array(self.time(transport), &self.frame_id, &[], &self.classes, &self.marker_style());
            self.publish(transport, &self.names.markers.clone(), &markers);
        }
    }

    pub(super) fn finish_transition(&mut self, success: bool, transport: &mut dyn Transport) {
        let now = self.time(transport);
        let sent = self.lifecycle.finish(success, transport, now);
        self.note_unsent(sent);
    }
}
