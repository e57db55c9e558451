//! The model that runs, and how another takes its place: loaded and tried beside it, swapped in between two frames.

use super::DetectNode;
use super::params::{DetectParams, setting_name};
use crate::detect::{Detector, DetectorConfig, Model, isa_in_use, network_on};
use crate::engine::Isa;
use crate::graph::Spread;
use crate::node::input::CloudReader;
use crate::node::{describe, wanted_fields};
use crate::ros::msg::RosService;
use crate::ros::msg::lidar_ptq_msgs::{LoadModel, LoadModelResponse};
use crate::ros::transport::{Request, RequestId, Transport};
use anyhow::Context;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, TryRecvError, channel};

pub(super) struct LoadedModel {
    pub detector: Detector,
    pub reader: CloudReader,
    pub classes: Vec<String>,
    /// As the file has it, before the parameters change it.
    pub config: DetectorConfig,
    pub path: PathBuf,
    /// What the clouds of its calibration were like, by trait.
    pub seen: BTreeMap<String, Spread>,
    /// For diagnostics.
    pub facts: Vec<(&'static str, String)>,
}

impl LoadedModel {
    /// Reads the file, applies the parameters, makes the engine.
    pub fn load(path: &Path, params: &DetectParams, isa: Isa) -> anyhow::Result<Self> {
        let model = Model::load(path).with_context(|| path.display().to_string())?;
        let config = tuned(model.config(), params).with_context(|| path.display().to_string())?;
        let network = network_on(&model, isa, params.device);
        let (network, device) = network.map_err(anyhow::Error::from_boxed).with_context(|| path.display().to_string())?;
        let reader = CloudReader::new(wanted_fields(&config), None, config.points.time.clone());
        let facts = vec![
            ("path", path.display().to_string()),
            ("name", config.name.clone()),
            ("precision", if model.quantization().is_some() { "int8" } else { "float32" }.to_owned()),
            ("device", device),
            ("instructions", isa_in_use(&model, isa).to_string()),
            ("threads", rayon::current_num_threads().to_string()),
            ("sweeps", config.points.sweeps.count.to_string()),
        ];
        let classes = config.classes();
        let detector = Detector::new(config, network).with_context(|| path.display().to_string())?;
        let seen = model.quantization().map(|q| q.calibration.traits.clone()).unwrap_or_default();
        Ok(Self { detector, reader, classes, config: model.config().clone(), path: path.to_owned(), seen, facts })
    }
}

/// A model's configuration as the parameters want it.
pub(super) fn tuned(own: &DetectorConfig, params: &DetectParams) -> anyhow::Result<DetectorConfig> {
    let mut config = own.clone();
    params.tuning.apply(&mut config, &setting_name)?;
    config.validate().context("the parameters do not fit the model")?;
    Ok(config)
}

/// Who wants a model.
#[derive(Clone, Copy)]
pub(super) enum AskedBy {
    /// Of `~/load_model`.
    Caller(RequestId),
    /// Who configures the node.
    Configure,
}

/// A model on its way, on a thread of its own.
pub(super) struct Loading {
    pub asked_by: AskedBy,
    result: Receiver<anyhow::Result<LoadedModel>>,
}

impl Loading {
    pub fn start(asked_by: AskedBy, path: PathBuf, params: DetectParams, isa: Isa) -> anyhow::Result<Self> {
        let (sender, result) = channel();
        let load = move || {
            // Nobody waits any more when the node ends.
            let _ = sender.send(LoadedModel::load(&path, &params, isa));
        };
        std::thread::Builder::new().name("model loader".into()).spawn(load).context("starting a thread")?;
        Ok(Self { asked_by, result })
    }

    /// The model, or why there is none; `None` while it is on its way.
    pub fn poll(&self) -> Option<anyhow::Result<LoadedModel>> {
        match self.result.try_recv() {
            Ok(result) => Some(result),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Err(anyhow::anyhow!("loading ended unexpectedly"))),
        }
    }
}

impl DetectNode {
    pub(super) fn serve_load_model(&mut self, request: &Request, transport: &mut dyn Transport) {
        let started = LoadModel::decode_request(&request.data).map_err(|e| e.to_string()).and_then(|asked| {
            if let Some(reason) = self.refuses_models() {
                return Err(reason);
            }
            tracing::info!(path = asked.path, "loading another model");
            let asked_by = AskedBy::Caller(request.id);
            Loading::start(asked_by, asked.path.into(), self.params.clone(), self.isa).map_err(|e| format!("{e:#}"))
        });
        match started {
            Ok(loading) => self.loading = Some(loading),
            Err(message) => {
                let refused = LoadModelResponse { success: false, message };
                self.answer::<LoadModel>(transport, &request.service, request.id, &refused);
            }
        }
    }

    /// Between two frames: the model that has been loaded takes the place of the old one.
    pub(super) fn take_over_model(&mut self, transport: &mut dyn Transport) {
        let Some((result, asked_by)) = self.loading.as_ref().and_then(|l| Some((l.poll()?, l.asked_by))) else { return };
        self.loading = None;
        let taken_over = match result.and_then(|model| self.swap(model)) {
            Ok(path) => {
                tracing::info!(path, "the model was loaded");
                self.health.load_failure = None;
                self.note_model_path(path.clone(), transport);
                Ok(path)
            }
            Err(error) => Err(self.note_load_failure(&error)),
        };
        match asked_by {
            AskedBy::Configure => self.finish_transition(taken_over.is_ok(), transport),
            AskedBy::Caller(to) => {
                let success = taken_over.is_ok();
                let message = taken_over.map_or_else(|reason| reason, |path| format!("{path} runs"));
                self.answer::<LoadModel>(transport, &self.names.load_model.clone(), to, &LoadModelResponse { success, message });
            }
        }
    }

    /// The reason, in words.
    pub(super) fn note_load_failure(&mut self, error: &anyhow::Error) -> String {
        let reason = describe(&**error);
        tracing::warn!(reason, "the model was not replaced");
        self.health.load_failure = Some(reason.clone());
        reason
    }

    /// Parameters may have changed since the model was asked for; the path of the model that runs now.
    fn swap(&mut self, mut model: LoadedModel) -> anyhow::Result<String> {
        let config = tuned(&model.config, &self.params)?;
        model.detector.set_decode(config.decode)?;
        self.perception.replace_detector(model.detector);
        self.reader = model.reader;
        self.classes = model.classes;
        self.model_config = model.config;
        self.model_facts = model.facts;
        self.seen = model.seen;
        Ok(model.path.display().to_string())
    }
}
