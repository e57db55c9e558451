//! The model that runs, and how another takes its place: loaded and tried beside it, swapped in between two frames.

use super::params::{DetectParams, setting_name};
use crate::detect::{Detector, DetectorConfig, Model, isa_in_use, network_on};
use crate::engine::Isa;
use crate::graph::Spread;
use crate::node::input::CloudReader;
use crate::node::wanted_fields;
use crate::ros::transport::RequestId;
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

/// A model on its way, on a thread of its own.
pub(super) struct Loading {
    /// Who wants it.
    pub asked_by: RequestId,
    result: Receiver<anyhow::Result<LoadedModel>>,
}

impl Loading {
    pub fn start(asked_by: RequestId, path: PathBuf, params: DetectParams, isa: Isa) -> anyhow::Result<Self> {
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
