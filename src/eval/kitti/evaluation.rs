//! A detector's boxes in the frames of a KITTI folder, gathered and judged.

use super::curve::KittiCurve;
use super::matching::is_neighbour;
use super::{JUDGED, KittiFrame, KittiRow, Overlap, evaluate, image_share};
use crate::dataset::kitti::{DONT_CARE, KittiObject};
use crate::dataset::{DatasetError, KittiFolder};
use crate::eval::nuscenes::{ClassRule, DetectionMetric, Evaluation, Orientation};
use crate::eval::table::Table;
use crate::eval::{EvalFrame, ScoredBox, TruthBox};
use crate::geometry::Box3;
use serde::Serialize;
use serde_json::{Value, json};

/// Objects with fewer points do not count where centres are compared: they are not to be seen.
pub const MIN_POINTS: u32 = 5;
/// A box is ignored where centres are compared if more than this share of it, in the image, lies in a `DontCare` region.
const DONT_CARE_SHARE: f64 = 0.5;
/// Distances at which centres match, metres.
pub const DISTANCES_M: [f64; 3] = [0.5, 1.0, 2.0];

/// Frames and what was found in them.
#[derive(Clone, Debug)]
pub struct KittiEvaluation {
    classes: Vec<String>,
    area: [[f32; 2]; 2],
    frames: Vec<KittiFrame>,
    /// Labels are positions in the judged classes.
    centers: Evaluation,
}

/// Average precision of a class by distance of centres seen from above: what is left to measure where a few dozen frames are
/// too few for overlaps of 0.7.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CenterRow {
    pub class: String,
    /// At each of [`DISTANCES_M`].
    pub curves: [KittiCurve; DISTANCES_M.len()],
}

impl KittiEvaluation {
    /// For boxes whose labels are positions in `classes`. Objects outside of `area`, lowest and highest x and y in the lidar
    /// frame, do not count where centres are compared; the benchmark's own metric counts them.
    pub fn new(classes: Vec<String>, area: [[f32; 2]; 2]) -> Self {
        let rule =
            |name: &str| ClassRule { name: name.to_owned(), range_m: f64::INFINITY, orientation: Orientation::None, velocity: false };
        let metric = DetectionMetric {
            classes: JUDGED.map(|(name, ..)| rule(name)).to_vec(),
            distances_m: DISTANCES_M.to_vec(),
            ..DetectionMetric::detection_cvpr_2019()
        };
        Self { classes, area, frames: Vec::new(), centers: Evaluation::new(metric) }
    }

    /// Adds a frame whose boxes stand in the lidar frame and whose source is its number. Boxes that the camera does not see are
    /// left out: nobody labelled what is there. Where centres are compared, so are boxes on objects that do not count or are of
    /// a neighbouring class (a Van found as a Car), and boxes in `DontCare` regions: the benchmark holds them neither right nor wrong.
    ///
    /// # Errors
    /// A number that the folder does not have, labels or a calibration that cannot be read.
    pub fn add(&mut self, folder: &KittiFolder, frame: &EvalFrame) -> Result<(), DatasetError> {
        let index = folder.index_of(&frame.source)?;
        let (calibration, image_size) = (folder.calibration(index)?, folder.image_size(index));
        let labels = folder.labels(index)?;
        let [low, high] = self.area;
        let counts = |t: &TruthBox| t.points >= Some(MIN_POINTS) && (0..2).all(|i| (low[i]..high[i]).contains(&t.bbox.center[i]));
        let of_judged = frame.truth.iter().filter_map(|t| self.judged(t.label).map(|label| TruthBox { label, ..*t }));
        let (truth, not_counted): (Vec<TruthBox>, Vec<TruthBox>) = of_judged.partition(counts);
        let neighbours: Vec<(&str, Box3)> = labels
            .iter()
            .filter(|l| l.has_box())
            .flat_map(|l| JUDGED.iter().filter(|(class, ..)| is_neighbour(class, &l.class)).map(move |(class, ..)| (*class, l)))
            .map(|(class, l)| (class, calibration.lidar_box(&l.camera_box())))
            .collect();
        // Neither right nor wrong, as in the benchmark's own metric.
        let ignored = |found: &ScoredBox, seen: &KittiObject| {
            let (class, _, _) = JUDGED[found.label];
            let (own, others) = (not_counted.iter().filter(|t| t.label == found.label), neighbours.iter().filter(|(of, _)| *of == class));
            let mut places = own.map(|t| &t.bbox).chain(others.map(|(_, bbox)| bbox));
            let [x, y, _] = found.bbox.center;
            places.any(|place| place.contains([x, y, place.center[2]]))
                || labels.iter().any(|l| l.class == DONT_CARE && image_share(seen, l, false) > DONT_CARE_SHARE)
        };
        let mut detections = Vec::with_capacity(frame.predictions.len());
        let mut predictions = Vec::with_capacity(frame.predictions.len());
        for found in &frame.predictions {
            let camera_box = calibration.camera_box(&found.bbox);
            let class = self.classes.get(found.label);
            if let (Some(class), Some(image_box)) = (class, calibration.image_box(&camera_box, image_size)) {
                let seen = KittiObject::detection(class.clone(), &camera_box, image_box, found.score);
                let of_judged = self.judged(found.label).map(|label| ScoredBox { label, ..*found });
                predictions.extend(of_judged.filter(|found| !ignored(found, &seen)));
                detections.push(seen);
            }
        }
        self.frames.push(KittiFrame { labels, detections });
        self.centers.add(EvalFrame { source: frame.source.clone(), time_s: 0.0, ego: [0.0; 2], predictions, truth });
        Ok(())
    }

    /// Position of a class among the judged ones.
    fn judged(&self, label: usize) -> Option<usize> {
        let class = self.classes.get(label)?;
        JUDGED.iter().position(|(judged, ..)| judged.eq_ignore_ascii_case(class))
    }

    /// The benchmark's average precisions, of classes that the model has.
    pub fn rows(&self) -> Vec<KittiRow> {
        let mut rows = evaluate(&self.frames);
        rows.retain(|row| self.classes.iter().any(|class| class.eq_ignore_ascii_case(&row.class)));
        rows
    }

    /// By distance of centres, matched as nuScenes matches, of classes that the model has and objects are labelled as.
    pub fn center_rows(&self) -> Vec<CenterRow> {
        let curve = |class: usize, distance: usize| {
            let ranking = self.centers.ranking((class, distance), 0..self.frames.len(), &(0.0..f64::INFINITY));
            let mut right = 0;
            let steps = ranking.best_first().into_iter().enumerate().map(|(rank, judged)| {
                right += usize::from(judged.errors.is_some());
                (right, right as f64 / (rank + 1) as f64)
            });
            KittiCurve::from_steps(&steps.collect::<Vec<_>>(), ranking.objects)
        };
        let row = |class: usize| CenterRow { class: JUDGED[class].0.to_owned(), curves: [0, 1, 2].map(|d| curve(class, d)) };
        (0..JUDGED.len()).map(row).filter(|row| row.curves[0].labels > 0).collect()
    }

    /// `overlap` and `centers`; average precisions are 0 to 1.
    pub fn json(&self) -> Value {
        let overlap = |row: &KittiRow| {
            let [r40, r11] = [KittiCurve::r40, KittiCurve::r11].map(|ap| row.curves.each_ref().map(ap));
            let labels = row.curves.each_ref().map(|c| c.labels);
            json!({"class": row.class, "overlap": row.overlap, "above": row.min_overlap, "R40": r40, "R11": r11, "labels": labels})
        };
        let center = |row: &CenterRow| {
            let labels = row.curves[0].labels;
            json!({"class": row.class, "distances_m": DISTANCES_M, "AP": row.curves.each_ref().map(KittiCurve::r40), "labels": labels})
        };
        json!({
            "overlap": self.rows().iter().map(overlap).collect::<Vec<_>>(),
            "centers": self.center_rows().iter().map(center).collect::<Vec<_>>(),
        })
    }

    /// Two tables for people, in percent.
    pub fn tables(&self) -> [Table; 2] {
        let percent = |ap: f64| format!("{:.1}", 100.0 * ap);
        let mut by_center = Table::new(["AP by centre distance", "0.5 m", "1 m", "2 m", "labels"]);
        for CenterRow { class, curves } in self.center_rows() {
            let figures = curves.each_ref().map(|c| percent(c.r40()));
            by_center.row([class].into_iter().chain(figures).chain([curves[0].labels.to_string()]));
        }
        let mut by_overlap =
            Table::new(["AP by overlap", "of", "above", "R40 easy", "mod.", "hard", "R11 easy", "mod.", "hard", "labels"]).left(2);
        for KittiRow { class, overlap, min_overlap, curves } in self.rows() {
            let [r40, r11] = [KittiCurve::r40, KittiCurve::r11].map(|ap| curves.each_ref().map(|c| percent(ap(c))));
            let labels = curves.map(|c| c.labels.to_string()).join("/");
            let start = [class, overlap.name().to_owned(), format!("{min_overlap:.2}")];
            by_overlap.row(start.into_iter().chain(r40).chain(r11).chain([labels]));
        }
        [by_center, by_overlap]
    }
}

impl Overlap {
    /// `image`, `bird's eye`, `3D`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::BirdsEye => "bird's eye",
            Self::Volume => "3D",
        }
    }
}
