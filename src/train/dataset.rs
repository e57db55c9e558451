//! Training frames from a public data set's folder.

use super::targets::TrainingBox;
use super::trainer::{Example, ExampleError, ExampleSource};
use crate::dataset::{Dataset, LabelledObject};
use crate::detect::DetectorConfig;
use crate::geometry::Box3;
use crate::sensor::{PointsConfig, assemble};

/// A data set's frames as a detector takes them.
///
/// Objects of classes that the detector does not know are left out, and so are those in which no point lies: nothing can be
/// learnt from them. Classes go by their names, in upper or lower case.
#[derive(Clone, Debug)]
pub struct DatasetExamples {
    dataset: Dataset,
    points: PointsConfig,
    classes: Vec<String>,
}

/// None of the classes is labelled.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("none of the detector's classes ({}) is labelled in the data set; its classes are {}", .wanted.join(", "), .labelled.join(", "))]
pub struct NoCommonClass {
    pub wanted: Vec<String>,
    pub labelled: Vec<&'static str>,
}

impl DatasetExamples {
    /// # Errors
    /// A data set that labels none of the detector's classes.
    pub fn new(dataset: Dataset, detector: &DetectorConfig) -> Result<Self, NoCommonClass> {
        let (classes, labelled) = (detector.classes(), dataset.classes());
        if !classes.iter().any(|class| labelled.iter().any(|l| l.eq_ignore_ascii_case(class))) {
            return Err(NoCommonClass { wanted: classes, labelled: labelled.to_vec() });
        }
        Ok(Self { dataset, points: detector.points.clone(), classes })
    }

    fn training_boxes(&self, objects: &[LabelledObject]) -> Vec<TrainingBox> {
        let seen = objects.iter().filter(|object| object.points != Some(0));
        let known = seen.filter_map(|object| {
            let label = self.classes.iter().position(|class| class.eq_ignore_ascii_case(&object.class))?;
            let has_velocity = object.has_velocity();
            let velocity = if has_velocity { object.bbox.velocity } else { [0.0; 2] };
            Some(TrainingBox { bbox: Box3 { velocity, ..object.bbox }, label, has_velocity })
        });
        known.collect()
    }
}

impl ExampleSource for DatasetExamples {
    fn len(&self) -> usize {
        self.dataset.len()
    }

    fn example(&self, index: usize) -> Result<Example, ExampleError> {
        let frame = self.dataset.frame(index, &self.points.sweeps)?;
        Ok(Example { points: assemble(&frame.cloud, &self.points)?.into_owned(), boxes: self.training_boxes(&frame.objects) })
    }

    fn boxes(&self, index: usize) -> Result<Vec<TrainingBox>, ExampleError> {
        Ok(self.training_boxes(&self.dataset.objects(index)?))
    }
}
