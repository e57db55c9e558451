//! Bags with ground truth, as evaluation wants them.

use super::evaluator::{LabelledCloud, LabelledEvent};
use super::input::{Event, InputError, InputOptions, Inputs};
use super::truth::{BagTruth, TruthError, TruthOptions};
use crate::ros::bag::BagError;
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
        let event = match self.inputs.next()? {
            Event::Start { source } => {
                self.truth = self.waiting.pop_front().flatten();
                LabelledEvent::Start { source, labelled: self.truth.is_some() }
            }
            Event::Motion(message) => LabelledEvent::Motion(message),
            Event::Frame(frame) => match *frame {
                Err(reason) => LabelledEvent::Failed(reason),
                Ok(input) => {
                    let labels = self.truth.as_ref().and_then(|t| t.at(input.cloud.stamp)).cloned();
                    LabelledEvent::Cloud(Box::new(LabelledCloud { input, labels }))
                }
            },
        };
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
