//! What each contender lost, and how sure that is.

use super::{LadderOutcome, Noise, Standing};
use crate::eval::agreement::AgreementFigures;
use crate::eval::nuscenes::{Evaluation, Metrics, figure};
use crate::eval::paired::{Bootstrap, Difference, Drawn, deviation};
use crate::eval::table::Table;
use crate::eval::{RANGE_BINS, range_name};
use serde::Serialize;
use serde_json::{Value, json};
use std::ops::Range;

/// What is asked.
#[derive(Clone, Debug, Default)]
pub struct ReportOptions {
    /// Judge by the average precision of this class alone, its position in the model's list.
    pub class: Option<usize>,
    /// Choices of frames for the standard errors.
    pub resamples: usize,
    pub seed: u64,
}

/// Of one method at one number of bits: means over its calibrations.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    pub bits: String,
    pub method: String,
    pub draws: usize,
    /// mAP, or the AP of the class that was asked for.
    pub ap: f64,
    /// Against the float model, with the bootstrap's error.
    pub ap_difference: Difference,
    /// Standard deviation over the calibrations.
    pub ap_spread: f64,
    pub nds: f64,
    pub nds_difference: Difference,
    pub nds_spread: f64,
    /// With the float model.
    pub agreement: AgreementFigures,
    /// Of the heat maps where the float model's score is above 0.1.
    pub heat_map_db: Option<f64>,
    /// The same by range, in the order of [`RANGE_BINS`].
    pub by_range: Vec<RangeFigures>,
}

/// Of a row, for objects at some distance.
#[derive(Clone, Debug, Serialize)]
pub struct RangeFigures {
    /// From the vehicle, metres; the last range has no end.
    pub from_m: f64,
    pub to_m: Option<f64>,
    pub ap_difference: Difference,
    pub agreement: AgreementFigures,
    pub heat_map_db: Option<f64>,
}

/// All rows, in the order of the contenders.
#[derive(Clone, Debug)]
pub struct LadderReport {
    pub float_ap: f64,
    pub float_nds: f64,
    /// Frames that were judged, and of them those with objects.
    pub frames: usize,
    pub labelled: bool,
    pub drawn: Drawn,
    pub rows: Vec<Row>,
    /// Of the class, or "mAP".
    pub ap_name: String,
}

/// AP and NDS of everything, then AP by range.
type Figures = [f64; 2 + RANGE_BINS.len()];

impl LadderReport {
    /// Of a ladder that has ended; no rows if nobody took part.
    pub fn new(outcome: &LadderOutcome, options: &ReportOptions) -> Self {
        let float = &outcome.float;
        let class = options.class;
        let all = |evaluation: &Evaluation| figures(|range| evaluation.metrics_in(range), class);
        let resampled =
            |evaluation: &Evaluation, frames: &[usize]| figures(|range| evaluation.metrics_of(frames.iter().copied(), range), class);
        let bootstrap = Bootstrap::new(float, options.resamples, options.seed);
        let float_resampled = bootstrap.figures(float, resampled);
        let float_figures = all(float);

        let mut groups: Vec<Vec<&Standing>> = Vec::new();
        for standing in &outcome.standings {
            match groups.iter_mut().find(|g| g[0].bits == standing.bits && g[0].method == standing.method) {
                Some(group) => group.push(standing),
                None => groups.push(vec![standing]),
            }
        }
        let row = |group: Vec<&Standing>| {
            let n = group.len() as f64;
            let each: Vec<Figures> = group.iter().map(|s| all(&s.evaluation)).collect();
            let resamples: Vec<Vec<Figures>> = group.iter().map(|s| bootstrap.figures(&s.evaluation, resampled)).collect();
            let mean = |k: usize| each.iter().map(|f| f[k]).sum::<f64>() / n;
            let difference = |k: usize| {
                let choices = float_resampled.iter().enumerate();
                Difference::new(
                    mean(k) - float_figures[k],
                    choices.map(|(i, float)| resamples.iter().map(|r| r[i][k]).sum::<f64>() / n - float[k]),
                )
            };
            let noise = |bins: Range<usize>| {
                let mut sum = Noise::default();
                group.iter().flat_map(|s| &s.noise[bins.clone()]).for_each(|&part| sum += part);
                sum.decibels()
            };
            let agreement = merged(&group);
            let by_range = agreement.by_range().into_iter().enumerate().map(|(bin, (range, agreement))| RangeFigures {
                from_m: range.start,
                to_m: Some(range.end).filter(|end| end.is_finite()),
                ap_difference: difference(2 + bin),
                agreement,
                heat_map_db: noise(bin..bin + 1),
            });
            Row {
                bits: group[0].bits.clone(),
                method: group[0].method.clone(),
                draws: group.len(),
                ap: mean(0),
                ap_difference: difference(0),
                ap_spread: deviation(each.iter().map(|f| f[0])),
                nds: mean(1),
                nds_difference: difference(1),
                nds_spread: deviation(each.iter().map(|f| f[1])),
                by_range: by_range.collect(),
                agreement: agreement.overall(),
                heat_map_db: noise(0..RANGE_BINS.len()),
            }
        };
        let ap_name = class.and_then(|c| float.metric().classes.get(c)).map_or("mAP".into(), |c| format!("AP {}", c.name));
        Self {
            float_ap: float_figures[0],
            float_nds: float_figures[1],
            frames: float.frames().len(),
            labelled: float.frames().iter().any(|(frame, _)| !frame.truth.is_empty()),
            drawn: bootstrap.of,
            rows: groups.into_iter().map(row).collect(),
            ap_name,
        }
    }

    /// Overall, then by range.
    pub fn tables(&self) -> [Table; 2] {
        [self.overall(), self.by_range()]
    }

    fn overall(&self) -> Table {
        let ap = &self.ap_name;
        let mut headers = vec!["bits".to_owned(), "method".into()];
        if self.labelled {
            headers.extend([ap.clone(), "- float".into(), "± SE".into(), "draws ±".into(), "NDS".into(), "- float".into(), "± SE".into()]);
        }
        headers.extend(AGREEMENT_HEADERS.map(String::from));
        let mut table = Table::new(headers).left(2);
        if self.labelled {
            table.row([
                "-".into(),
                "float".into(),
                points(self.float_ap),
                String::new(),
                String::new(),
                String::new(),
                points(self.float_nds),
            ]);
        }
        for row in &self.rows {
            let mut cells = vec![row.bits.clone(), row.method.clone()];
            if self.labelled {
                let Difference { value, standard_error } = row.ap_difference;
                cells.extend([points(row.ap), signed(value), points(standard_error)]);
                cells.push(if row.draws > 1 { points(row.ap_spread) } else { "-".into() });
                cells.extend([points(row.nds), signed(row.nds_difference.value), points(row.nds_difference.standard_error)]);
            }
            cells.extend(agreement_cells(&row.agreement, row.heat_map_db));
            table.row(cells);
        }
        table
    }

    fn by_range(&self) -> Table {
        let mut headers = vec!["bits".to_owned(), "method".into(), "range".into()];
        if self.labelled {
            headers.extend([format!("{} - float", self.ap_name), "± SE".into()]);
        }
        headers.extend(AGREEMENT_HEADERS.map(String::from));
        let mut table = Table::new(headers).left(2);
        for row in &self.rows {
            for (range, figures) in RANGE_BINS.iter().zip(&row.by_range) {
                let mut cells = vec![row.bits.clone(), row.method.clone(), range_name(range)];
                if self.labelled {
                    let Difference { value, standard_error } = figures.ap_difference;
                    cells.extend([signed(value), points(standard_error)]);
                }
                cells.extend(agreement_cells(&figures.agreement, figures.heat_map_db));
                table.row(cells);
            }
        }
        table
    }

    pub fn json(&self) -> Value {
        json!({
            "frames": self.frames,
            "float": {"ap": self.float_ap, "nds": self.float_nds},
            "ap_of": self.ap_name,
            "standard_errors_from": self.drawn,
            "rows": self.rows,
        })
    }
}

/// The agreements of several calibrations as one.
fn merged(group: &[&Standing]) -> crate::eval::agreement::Agreement {
    let mut sum = group[0].agreement.clone();
    group[1..].iter().for_each(|s| sum += &s.agreement);
    sum
}

const AGREEMENT_HEADERS: [&str; 8] =
    ["recall >.1", "prec. >.1", "recall >.3", "prec. >.3", "boxes >.3", "shift cm", "score bias", "heat dB"];

fn agreement_cells(agreement: &AgreementFigures, heat_map_db: Option<f64>) -> Vec<String> {
    let mut cells: Vec<String> = agreement.thresholds.iter().flat_map(|at| [figure(at.recall), figure(at.precision)]).collect();
    cells.push(kept(agreement).map_or("-".into(), |share| format!("{share:.3}")));
    cells.push(agreement.center_shift_m.map_or("-".into(), |m| format!("{:.1}", 100.0 * m)));
    cells.push(agreement.score_bias.map_or("-".into(), |bias| format!("{bias:+.4}")));
    cells.push(decibels(heat_map_db));
    cells
}

/// The model's boxes for each of the float model's, at the highest threshold.
pub(super) fn kept(agreement: &AgreementFigures) -> Option<f64> {
    let last = agreement.thresholds.last().filter(|t| t.teacher_boxes > 0)?;
    Some(last.student_boxes as f64 / last.teacher_boxes as f64)
}

/// `metrics` are of the objects within a range.
fn figures(metrics: impl Fn(&Range<f64>) -> Metrics, class: Option<usize>) -> Figures {
    let ap = |metrics: &Metrics| match class {
        Some(class) => metrics.classes.get(class).map_or(0.0, |c| c.mean_ap(&metrics.metric)),
        None => metrics.mean_ap_of_present().unwrap_or(0.0),
    };
    let all = metrics(&(0.0..f64::INFINITY));
    let mut figures = Figures::default();
    (figures[0], figures[1]) = (ap(&all), all.nds_without_attributes());
    figures[2..].iter_mut().zip(&RANGE_BINS).for_each(|(to, range)| *to = ap(&metrics(range)));
    figures
}

/// In points of a hundred.
pub(super) fn points(share: f64) -> String {
    format!("{:.2}", 100.0 * share)
}

pub(super) fn signed(share: f64) -> String {
    format!("{:+.2}", 100.0 * share)
}

pub(super) fn decibels(db: Option<f64>) -> String {
    db.map_or("-".into(), |db| format!("{db:.1}"))
}
