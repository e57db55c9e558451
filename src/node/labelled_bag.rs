//! Bags with ground truth, as evaluation wants them.

use super::evaluator::LabelledEvent;
use super::input::{InputError, InputOptions, Inputs};
use super::truth::{BagTruth, TruthError, TruthOptions, USUAL_TOPIC};
use crate::ros::bag::BagError;
use crate::ros::msg::RosMessage;
use crate::ros::msg::vision_msgs::Detection3DArray;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};

/// Bags and files one after the other, each cloud with the labels of its stamp.
pub struct LabelledBags {
    inputs: Inputs,
    /// Of the recordings that have not started.
    waiting: VecDeque<Option<BagTruth>>,
    truth: Option<BagTruth>,
}

/// A recording that cannot be evaluated.
#[derive(Debug, thiserror::Error)]
pub enum LabelledBagsError {
    #[error(transparent)]
    Input(#[from] InputError),
    #[error(transparent)]
    Truth(#[from] TruthError),
}

impl LabelledBags {
    /// Opens every input and reads its labels. With `labels_needed` false an input may have none, as is enough to compare
    /// two models.
    ///
    /// # Errors
    /// As [`Inputs::open`] and [`BagTruth::read`].
    pub fn open(
        paths: &[PathBuf],
        wanted: Vec<String>,
        options: InputOptions,
        truth: &TruthOptions,
        labels_needed: bool,
    ) -> Result<Self, LabelledBagsError> {
        let inputs = Inputs::open(paths, wanted, options)?;
        let waiting = paths.iter().map(|path| read_truth(path, truth, labels_needed)).collect::<Result<_, _>>()?;
        Ok(Self { inputs, waiting, truth: None })
    }

    /// Opens every input, and reads the labels of the bags that have some on the usual topic, or on the one that `truth` names.
    /// Their messages are handed on among those of motion. Bags without are not looked at twice.
    ///
    /// A lone topic of another name is not taken for labels, as [`LabelledBags::open`] would: it may hold what some detector
    /// found, this one even.
    ///
    /// # Errors
    /// As [`Inputs::open`] and [`BagTruth::read`], and a named topic that no bag has.
    pub fn open_with_labels_if_any(
        paths: &[PathBuf],
        wanted: Vec<String>,
        mut options: InputOptions,
        truth: &TruthOptions,
    ) -> Result<Self, LabelledBagsError> {
        let topic = truth.topic.as_deref().unwrap_or(USUAL_TOPIC).to_owned();
        options.pass_on.push(topic.clone());
        let inputs = Inputs::open(paths, wanted, options)?;
        let labelled = inputs.carry(&topic, Detection3DArray::TYPE);
        let needed = truth.topic.is_some() && !labelled.contains(&true);
        let truth = TruthOptions { topic: Some(topic), ..truth.clone() };
        let read = |(path, labelled): (&PathBuf, bool)| (labelled || needed).then(|| BagTruth::read(path, &truth)).transpose();
        let waiting = paths.iter().zip(labelled).map(read).collect::<Result<_, _>>()?;
        Ok(Self { inputs, waiting, truth: None })
    }

    /// What could not be used of the labels that were read, a sentence each.
    pub fn remarks(&self) -> Vec<String> {
        self.waiting.iter().chain([&self.truth]).flatten().flat_map(BagTruth::remarks).collect()
    }

    pub fn inputs(&self) -> &Inputs {
        &self.inputs
    }
}

impl Iterator for LabelledBags {
    type Item = LabelledEvent;

    fn next(&mut self) -> Option<LabelledEvent> {
        let mut event = LabelledEvent::from(self.inputs.next()?);
        match &mut event {
            LabelledEvent::Start { labelled, .. } => {
                self.truth = self.waiting.pop_front().flatten();
                *labelled = self.truth.is_some();
            }
            LabelledEvent::Cloud(cloud) => cloud.labels = self.truth.as_ref().and_then(|t| t.at(cloud.input.cloud.stamp)).cloned(),
            LabelledEvent::Motion(_) | LabelledEvent::Failed(_) => {}
        }
        Some(event)
    }
}

fn read_truth(path: &Path, options: &TruthOptions, needed: bool) -> Result<Option<BagTruth>, TruthError> {
    match BagTruth::read(path, options) {
        Ok(truth) => Ok(Some(truth)),
        Err(TruthError::NoTopic { .. } | TruthError::Bag(BagError::UnknownFormat { .. } | BagError::EmptyFolder { .. })) if !needed => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
