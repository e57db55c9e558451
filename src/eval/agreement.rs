//! How well one model's boxes agree with another's: what a quantized model or a student lost, told without labels.

use super::frame::ground_distance;
use super::nuscenes::{ClassRule, MatchErrors, Orientation};
use super::table::Table;
use super::{RANGE_BINS, ScoredBox, range_name};
use serde::Serialize;
use serde_json::{Value, json};
use std::ops::{AddAssign, Range};

/// What counts as the same box, and which boxes count.
#[derive(Clone, Debug, PartialEq)]
pub struct AgreementRules {
    /// Labels of boxes are positions in this list.
    pub classes: Vec<ClassRule>,
    /// Boxes whose centres are closer than this in the ground plane can be the same, metres.
    pub distance_m: f64,
    /// At each of these scores: which boxes above it does the other model have above it too? Rising.
    pub thresholds: Vec<f64>,
    pub ranges_m: Vec<Range<f64>>,
}

impl AgreementRules {
    /// Within 1 m, at scores of 0.1 and 0.3, from 0 to 20, 20 to 40 and beyond 40 m.
    pub fn for_classes(classes: Vec<ClassRule>) -> Self {
        Self { classes, distance_m: 1.0, thresholds: vec![0.1, 0.3], ranges_m: RANGE_BINS.to_vec() }
    }
}

/// The agreement of a student's boxes with a teacher's over frames.
///
/// At each threshold the student's boxes above it, best score first, take the nearest teacher's box above it of their class
/// that is still free. Shifts and scores are told of pairs among **all** boxes that were handed in, as far as at least one
/// of the two reaches the lowest threshold: pairs in which both had to reach it would hide a student that is less sure.
#[derive(Clone, Debug)]
pub struct Agreement {
    rules: AgreementRules,
    frames: usize,
    /// By class, then by range.
    cells: Vec<Vec<Tally>>,
}

/// Sums over boxes; those of other classes, ranges or frames add up.
#[derive(Clone, Debug, Default, PartialEq)]
struct Tally {
    /// By threshold.
    counts: Vec<Counts>,
    pairs: Vec<Pair>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Counts {
    teacher: usize,
    student: usize,
    /// Teacher's boxes that the student has.
    recalled: usize,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Pair {
    errors: MatchErrors,
    /// Between the centres in space, metres.
    shift_m: f64,
    student_score: f64,
    teacher_score: f64,
}

/// How two models agree on the boxes of a class, a range, or all.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AgreementFigures {
    pub thresholds: Vec<ThresholdFigures>,
    /// Pairs of boxes that the following figures are means over; `None` without any.
    pub pairs: usize,
    /// Between the centres in space, metres.
    pub center_shift_m: Option<f64>,
    /// One minus the overlap of the boxes if they stood on each other.
    pub size_error: Option<f64>,
    /// Radians, over a full turn; without classes that have no heading.
    pub yaw_error_rad: Option<f64>,
    pub velocity_error_m_s: Option<f64>,
    /// Student's score minus teacher's.
    pub score_bias: Option<f64>,
    /// Pearson's; `None` with fewer than two pairs or scores that are all the same.
    pub score_correlation: Option<f64>,
}

/// Agreement on what is above a score.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ThresholdFigures {
    pub score: f64,
    pub teacher_boxes: usize,
    pub student_boxes: usize,
    /// Share of the teacher's boxes that the student has.
    pub recall: Option<f64>,
    /// Share of the student's boxes that the teacher has.
    pub precision: Option<f64>,
}

impl Agreement {
    pub fn new(rules: AgreementRules) -> Self {
        let empty = Tally { counts: vec![Counts::default(); rules.thresholds.len()], pairs: Vec::new() };
        let cells = vec![vec![empty; rules.ranges_m.len()]; rules.classes.len()];
        Self { rules, frames: 0, cells }
    }

    pub fn frames(&self) -> usize {
        self.frames
    }

    /// Takes in a frame: the vehicle's x and y in the frame of the boxes, and what each model found. Boxes of other labels
    /// than those of the rules, or outside all ranges, are ignored.
    ///
    /// A pair lies in the range in which the teacher's box lies.
    pub fn add(&mut self, ego: [f32; 2], student: &[ScoredBox], teacher: &[ScoredBox]) {
        self.frames += 1;
        for (k, threshold) in self.rules.thresholds.clone().into_iter().enumerate() {
            let partners = partners(student, teacher, threshold, self.rules.distance_m);
            let mut recalled = vec![false; teacher.len()];
            for (i, s) in student.iter().enumerate().filter(|(_, s)| f64::from(s.score) >= threshold) {
                let partner = partners[i];
                if let Some(j) = partner {
                    recalled[j] = true;
                }
                let place = partner.map_or(s, |j| &teacher[j]);
                if let Some(tally) = self.cell(ego, place) {
                    tally.counts[k].student += 1;
                }
            }
            for (t, recalled) in teacher.iter().zip(recalled).filter(|(t, _)| f64::from(t.score) >= threshold) {
                if let Some(tally) = self.cell(ego, t) {
                    tally.counts[k].teacher += 1;
                    tally.counts[k].recalled += usize::from(recalled);
                }
            }
        }
        let lowest = self.rules.thresholds.first().copied().unwrap_or(0.0);
        for (i, partner) in partners(student, teacher, f64::NEG_INFINITY, self.rules.distance_m).into_iter().enumerate() {
            let (s, Some(t)) = (&student[i], partner.map(|j| &teacher[j])) else { continue };
            if f64::from(s.score.max(t.score)) < lowest {
                continue;
            }
            let Some(rule) = self.rules.classes.get(t.label) else { continue };
            // A barrier that is turned round is another box, though the metric would not mind.
            let orientation = if rule.orientation == Orientation::None { Orientation::None } else { Orientation::FullTurn };
            let height = f64::from(s.bbox.center[2]) - f64::from(t.bbox.center[2]);
            let errors = MatchErrors::between(&s.bbox, &t.bbox, orientation);
            let pair =
                Pair { errors, shift_m: errors.translation.hypot(height), student_score: s.score.into(), teacher_score: t.score.into() };
            if let Some(tally) = self.cell(ego, t) {
                tally.pairs.push(pair);
            }
        }
    }

    fn cell(&mut self, ego: [f32; 2], scored: &ScoredBox) -> Option<&mut Tally> {
        let range = ground_distance(scored.bbox.center, ego);
        let bin = self.rules.ranges_m.iter().position(|r| r.contains(&range))?;
        self.cells.get_mut(scored.label)?.get_mut(bin)
    }

    /// Over everything.
    pub fn overall(&self) -> AgreementFigures {
        self.figures(self.cells.iter().flatten())
    }

    /// By class, in the order of the rules.
    pub fn by_class(&self) -> Vec<(&str, AgreementFigures)> {
        self.rules.classes.iter().zip(&self.cells).map(|(c, cells)| (c.name.as_str(), self.figures(cells.iter()))).collect()
    }

    /// By range, in the order of the rules.
    pub fn by_range(&self) -> Vec<(Range<f64>, AgreementFigures)> {
        let figures = |bin: usize| self.figures(self.cells.iter().map(|ranges| &ranges[bin]));
        self.rules.ranges_m.iter().cloned().enumerate().map(|(bin, range)| (range, figures(bin))).collect()
    }

    fn figures<'a>(&self, tallies: impl Iterator<Item = &'a Tally>) -> AgreementFigures {
        let mut sum = Tally { counts: vec![Counts::default(); self.rules.thresholds.len()], pairs: Vec::new() };
        tallies.for_each(|tally| sum += tally);
        let share = |part: usize, whole: usize| (whole > 0).then(|| part as f64 / whole as f64);
        let thresholds = self.rules.thresholds.iter().zip(&sum.counts).map(|(&score, c)| ThresholdFigures {
            score,
            teacher_boxes: c.teacher,
            student_boxes: c.student,
            recall: share(c.recalled, c.teacher),
            // One to one: as many of the student's boxes are shared as of the teacher's.
            precision: share(c.recalled, c.student),
        });
        let mean_of = |value: fn(&Pair) -> f64| mean(sum.pairs.iter().map(value));
        AgreementFigures {
            thresholds: thresholds.collect(),
            pairs: sum.pairs.len(),
            center_shift_m: mean_of(|p| p.shift_m),
            size_error: mean_of(|p| p.errors.scale),
            yaw_error_rad: mean_of(|p| p.errors.orientation),
            velocity_error_m_s: mean_of(|p| p.errors.velocity),
            score_bias: mean_of(|p| p.student_score - p.teacher_score),
            score_correlation: correlation(&sum.pairs),
        }
    }

    /// One line overall, then by class and by range.
    pub fn table(&self) -> Table {
        let mut headers = vec!["agreement".to_owned()];
        for t in &self.rules.thresholds {
            headers.extend([format!("teacher >{t}"), "student".into(), "recall".into(), "precision".into()]);
        }
        headers.extend(["pairs", "shift m", "size 1-IoU", "yaw rad", "vel m/s", "score bias", "corr"].map(String::from));
        let mut table = Table::new(headers);
        let mut line = |name: String, figures: AgreementFigures| {
            let mut row = vec![name];
            for t in &figures.thresholds {
                row.extend([t.teacher_boxes.to_string(), t.student_boxes.to_string(), cell(t.recall), cell(t.precision)]);
            }
            row.push(figures.pairs.to_string());
            row.extend(
                [
                    figures.center_shift_m,
                    figures.size_error,
                    figures.yaw_error_rad,
                    figures.velocity_error_m_s,
                    figures.score_bias,
                    figures.score_correlation,
                ]
                .map(cell),
            );
            table.row(row);
        };
        line("all".into(), self.overall());
        self.by_class().into_iter().for_each(|(name, figures)| line(name.into(), figures));
        self.by_range().into_iter().for_each(|(range, figures)| line(range_name(&range), figures));
        table
    }

    /// `all`, `classes`, `ranges`, and the rules.
    pub fn json(&self) -> Value {
        let classes = self.by_class().into_iter().map(|(name, figures)| (name.to_owned(), json!(figures)));
        let ranges = self
            .by_range()
            .into_iter()
            .map(|(r, figures)| json!({"from": r.start, "to": r.end.is_finite().then_some(r.end), "figures": figures}));
        json!({
            "frames": self.frames,
            "distance_m": self.rules.distance_m,
            "all": self.overall(),
            "classes": classes.collect::<serde_json::Map<_, _>>(),
            "ranges": ranges.collect::<Vec<_>>(),
        })
    }
}

/// Of other frames, or of another student of the same teacher; the rules must be the same.
impl AddAssign<&Agreement> for Agreement {
    fn add_assign(&mut self, other: &Agreement) {
        self.frames += other.frames;
        for (mine, theirs) in self.cells.iter_mut().flatten().zip(other.cells.iter().flatten()) {
            *mine += theirs;
        }
    }
}

impl AddAssign<&Tally> for Tally {
    fn add_assign(&mut self, other: &Tally) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            mine.teacher += theirs.teacher;
            mine.student += theirs.student;
            mine.recalled += theirs.recalled;
        }
        self.pairs.extend(&other.pairs);
    }
}

/// For each of the student's boxes of at least this score, best first, the nearest free one of the teacher's.
fn partners(student: &[ScoredBox], teacher: &[ScoredBox], threshold: f64, distance_m: f64) -> Vec<Option<usize>> {
    let mut free: Vec<bool> = teacher.iter().map(|t| f64::from(t.score) >= threshold).collect();
    let mut order: Vec<usize> = (0..student.len()).filter(|&i| f64::from(student[i].score) >= threshold).collect();
    order.sort_by(|&a, &b| student[b].score.total_cmp(&student[a].score));
    let mut partners = vec![None; student.len()];
    for i in order {
        let mut nearest_m = distance_m;
        for (j, t) in teacher.iter().enumerate().filter(|(j, t)| free[*j] && t.label == student[i].label) {
            let apart_m = ground_distance(student[i].bbox.center, t.bbox.center);
            if apart_m < nearest_m {
                (partners[i], nearest_m) = (Some(j), apart_m);
            }
        }
        if let Some(j) = partners[i] {
            free[j] = false;
        }
    }
    partners
}

/// Without values that are NaN: what is not known is not counted.
fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.filter(|v| !v.is_nan()).fold((0.0, 0usize), |(sum, count), v| (sum + v, count + 1));
    (count > 0).then(|| sum / count as f64)
}

fn correlation(pairs: &[Pair]) -> Option<f64> {
    let (student, teacher) = (mean(pairs.iter().map(|p| p.student_score))?, mean(pairs.iter().map(|p| p.teacher_score))?);
    let (mut both, mut student_square, mut teacher_square) = (0.0, 0.0, 0.0);
    for p in pairs {
        let (s, t) = (p.student_score - student, p.teacher_score - teacher);
        both += s * t;
        student_square += s * s;
        teacher_square += t * t;
    }
    let scale = (student_square * teacher_square).sqrt();
    (scale > 0.0).then(|| both / scale)
}

fn cell(value: Option<f64>) -> String {
    super::nuscenes::figure(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::nuscenes::DetectionMetric;
    use crate::geometry::Box3;

    fn agreement() -> Agreement {
        Agreement::new(AgreementRules::for_classes(DetectionMetric::for_classes(&["car", "traffic_cone"]).classes))
    }

    fn scored(center: [f32; 3], label: usize, score: f32) -> ScoredBox {
        ScoredBox { bbox: Box3 { center, size: [4.0, 2.0, 1.5], yaw: 0.3, velocity: [3.0, 4.0] }, label, score }
    }

    /// Shares of twelfths and the like are not exact in single precision.
    #[track_caller]
    fn close(got: Option<f64>, want: f64) {
        assert!((got.unwrap() - want).abs() < 1e-6, "{got:?}, not {want}");
    }

    #[test]
    fn a_model_agrees_with_itself() {
        let boxes = [scored([5.0, 1.0, 0.0], 0, 0.9), scored([30.0, 1.0, 0.0], 0, 0.2), scored([50.0, 0.0, 0.0], 1, 0.4)];
        let mut agreement = agreement();
        agreement.add([0.0; 2], &boxes, &boxes);
        let all = agreement.overall();
        assert_eq!(all.thresholds.iter().map(|t| (t.teacher_boxes, t.student_boxes)).collect::<Vec<_>>(), [(3, 3), (2, 2)]);
        for share in all.thresholds.iter().flat_map(|t| [t.recall, t.precision]).chain([all.score_correlation]) {
            close(share, 1.0);
        }
        for error in [all.center_shift_m, all.size_error, all.yaw_error_rad, all.velocity_error_m_s, all.score_bias] {
            close(error, 0.0);
        }
        assert_eq!(agreement.by_range().iter().map(|(_, f)| f.pairs).collect::<Vec<_>>(), [1, 1, 1]);
        // Cones have no heading.
        assert_eq!(agreement.by_class()[1].1.yaw_error_rad, None);
    }

    #[test]
    fn shifts_and_scores_in_closed_form() {
        let teacher = [scored([5.0, 0.0, 0.0], 0, 0.4), scored([15.0, 0.0, 0.0], 0, 0.6), scored([25.0, 0.0, 0.0], 0, 0.8)];
        let mut student = teacher;
        for (s, score) in student.iter_mut().zip([0.3, 0.4, 0.8]) {
            s.bbox.center = [s.bbox.center[0] + 0.3, 0.0, 0.4];
            s.bbox.size[0] = 2.0;
            s.bbox.yaw -= 0.5;
            s.bbox.velocity = [0.0, 0.0];
            s.score = score;
        }
        let mut agreement = agreement();
        agreement.add([0.0; 2], &student, &teacher);
        let all = agreement.overall();
        close(all.center_shift_m, 0.5);
        close(all.size_error, 0.5);
        close(all.yaw_error_rad, 0.5);
        close(all.velocity_error_m_s, 5.0);
        close(all.score_bias, -0.1);
        // Deviations (-0.2, 0, 0.2) and (-0.2, -0.1, 0.3).
        close(all.score_correlation, 0.1 / (0.08f64 * 0.14).sqrt());
        // The first range has two of the three.
        close(agreement.by_range()[0].1.score_bias, -0.15);
    }

    #[test]
    fn thresholds_count_boxes_that_both_have_above_them() {
        // Both see the first; the second falls below 0.3 for the student, the third is the student's alone, the fourth is too
        // far off, the fifth of another class, the sixth too unsure for anyone.
        let teacher = [
            scored([5.0, 0.0, 0.0], 0, 0.9),
            scored([10.0, 0.0, 0.0], 0, 0.35),
            scored([30.0, 0.0, 0.0], 0, 0.5),
            scored([35.0, 0.0, 0.0], 0, 0.5),
            scored([60.0, 0.0, 0.0], 0, 0.06),
        ];
        let student = [
            scored([5.0, 0.5, 0.0], 0, 0.8),
            scored([10.0, 0.0, 0.0], 0, 0.25),
            scored([15.0, 0.0, 0.0], 0, 0.4),
            scored([30.0, 1.5, 0.0], 0, 0.5),
            scored([35.0, 0.0, 0.0], 1, 0.5),
            scored([60.0, 0.0, 0.0], 0, 0.05),
        ];
        let mut agreement = agreement();
        agreement.add([0.0; 2], &student, &teacher);
        let [low, high] = [0, 1].map(|k| agreement.overall().thresholds[k]);
        assert_eq!((low.teacher_boxes, low.student_boxes, low.recall, low.precision), (4, 5, Some(0.5), Some(0.4)));
        assert_eq!((high.teacher_boxes, high.student_boxes, high.recall, high.precision), (4, 4, Some(0.25), Some(0.25)));
        assert_eq!(agreement.overall().pairs, 2);
        let cones = &agreement.by_class()[1].1.thresholds[0];
        assert_eq!((cones.recall, cones.precision), (None, Some(0.0)));
    }

    #[test]
    fn each_box_has_one_partner_and_the_surest_chooses_first() {
        let teacher = [scored([5.0, 0.0, 0.0], 0, 0.9)];
        let student = [scored([5.1, 0.0, 0.0], 0, 0.5), scored([5.6, 0.0, 0.0], 0, 0.7)];
        let mut agreement = agreement();
        agreement.add([0.0; 2], &student, &teacher);
        let all = agreement.overall();
        assert_eq!((all.thresholds[0].recall, all.thresholds[0].precision, all.pairs), (Some(1.0), Some(0.5), 1));
        close(all.center_shift_m, 0.6);
    }

    #[test]
    fn nothing_in_common_is_no_number() {
        let mut agreement = agreement();
        agreement.add([0.0; 2], &[], &[]);
        let all = agreement.overall();
        assert_eq!((all.pairs, all.center_shift_m, all.score_correlation, all.thresholds[0].recall), (0, None, None, None));
        assert!(agreement.table().to_string().contains("traffic_cone"));
    }
}
