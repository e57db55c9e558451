//! What each contender lost, and how sure that is.

use super::{LadderOutcome, Noise, Standing};
use crate::eval::agreement::AgreementFigures;
use crate::eval::nuscenes::{Evaluation, Metrics, figure};
use crate::eval::paired::{Bootstrap, Difference, Drawn, deviation};
use crate::eval::table::Table;
use crate::eval::{RANGE_BINS, range_name};
use serde::Serialize;
use serde_json::{Value, json};

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
    /// By range ([`RANGE_BINS`]): the difference of `ap`.
    pub ap_difference_by_range: Vec<f64>,
    /// With the float model.
    pub agreement: AgreementFigures,
    pub agreement_by_range: Vec<AgreementFigures>,
    /// Of the heat maps where the float model's score is above 0.1.
    pub heat_map_db: Option<f64>,
    pub heat_map_db_by_range: Vec<Option<f64>>,
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
    ap_name: String,
}

/// AP and NDS.
type Figures = [f64; 2];

impl LadderReport {
    /// `None` if there are no contenders or no frames.
    pub fn new(outcome: &LadderOutcome, options: &ReportOptions) -> Self {
        let float = &outcome.float;
        let class = options.class;
        let whole = |evaluation: &Evaluation| figures(&evaluation.metrics(), class);
        let resampled = |evaluation: &Evaluation, frames: &[usize]| {
            figures(&evaluation.metrics_of(frames.iter().copied(), &(0.0..f64::INFINITY)), class)
        };
        let by_range = |evaluation: &Evaluation| RANGE_BINS.map(|range| figures(&evaluation.metrics_in(&range), class)[0]);
        let bootstrap = Bootstrap::new(float, options.resamples, options.seed);
        let float_resampled = bootstrap.figures(float, resampled);
        let (float_figures, float_by_range) = (whole(float), by_range(float));

        let mut groups: Vec<Vec<&Standing>> = Vec::new();
        for standing in &outcome.standings {
            match groups.iter_mut().find(|g| g[0].bits == standing.bits && g[0].method == standing.method) {
                Some(group) => group.push(standing),
                None => groups.push(vec![standing]),
            }
        }
        let row = |group: Vec<&Standing>| {
            let n = group.len() as f64;
            let each: Vec<Figures> = group.iter().map(|s| whole(&s.evaluation)).collect();
            let resamples: Vec<Vec<Figures>> = group.iter().map(|s| bootstrap.figures(&s.evaluation, resampled)).collect();
            let mean = |k: usize| each.iter().map(|f| f[k]).sum::<f64>() / n;
            let difference = |k: usize| {
                let choices = float_resampled.iter().enumerate();
                Difference::new(
                    mean(k) - float_figures[k],
                    choices.map(|(i, float)| resamples.iter().map(|r| r[i][k]).sum::<f64>() / n - float[k]),
                )
            };
            let ranges: Vec<[f64; RANGE_BINS.len()]> = group.iter().map(|s| by_range(&s.evaluation)).collect();
            let noise = |bins: &[usize]| {
                let mut sum = Noise::default();
                group.iter().flat_map(|s| bins.iter().map(|&bin| s.noise[bin])).for_each(|part| sum += part);
                sum.decibels()
            };
            let bins: Vec<usize> = (0..RANGE_BINS.len()).collect();
            let agreement = merged(&group);
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
                ap_difference_by_range: bins.iter().map(|&b| ranges.iter().map(|r| r[b]).sum::<f64>() / n - float_by_range[b]).collect(),
                agreement: agreement.overall(),
                agreement_by_range: agreement.by_range().into_iter().map(|(_, figures)| figures).collect(),
                heat_map_db: noise(&bins),
                heat_map_db_by_range: bins.iter().map(|&bin| noise(&[bin])).collect(),
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
        headers.extend(
            ["recall >.1", "prec. >.1", "recall >.3", "prec. >.3", "boxes >.3", "shift cm", "score bias", "heat dB"].map(String::from),
        );
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
            for at in &row.agreement.thresholds {
                cells.extend([figure(at.recall), figure(at.precision)]);
            }
            let last = row.agreement.thresholds.last();
            let kept = last.filter(|t| t.teacher_boxes > 0).map(|t| t.student_boxes as f64 / t.teacher_boxes as f64);
            cells.push(kept.map_or("-".into(), |share| format!("{share:.3}")));
            cells.push(row.agreement.center_shift_m.map_or("-".into(), |m| format!("{:.1}", 100.0 * m)));
            cells.push(row.agreement.score_bias.map_or("-".into(), |bias| format!("{bias:+.4}")));
            cells.push(decibels(row.heat_map_db));
            table.row(cells);
        }
        table
    }

    fn by_range(&self) -> Table {
        let mut headers = vec!["bits".to_owned(), "method".into()];
        let names: Vec<String> = RANGE_BINS.iter().map(range_name).collect();
        if self.labelled {
            headers.extend(names.iter().map(|n| format!("{} - float, {n}", self.ap_name)));
        }
        for what in ["recall >.3", "prec. >.3", "shift cm", "heat dB"] {
            headers.extend(names.iter().map(|n| format!("{what}, {n}")));
        }
        let mut table = Table::new(headers).left(2);
        for row in &self.rows {
            let mut cells = vec![row.bits.clone(), row.method.clone()];
            if self.labelled {
                cells.extend(row.ap_difference_by_range.iter().map(|&d| signed(d)));
            }
            let last = || row.agreement_by_range.iter().map(|figures| figures.thresholds.last());
            cells.extend(last().map(|t| figure(t.and_then(|t| t.recall))));
            cells.extend(last().map(|t| figure(t.and_then(|t| t.precision))));
            cells.extend(row.agreement_by_range.iter().map(|f| f.center_shift_m.map_or("-".into(), |m| format!("{:.1}", 100.0 * m))));
            cells.extend(row.heat_map_db_by_range.iter().map(|&db| decibels(db)));
            table.row(cells);
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

fn figures(metrics: &Metrics, class: Option<usize>) -> Figures {
    let ap = match class {
        Some(class) => metrics.classes.get(class).map_or(0.0, |c| c.mean_ap(&metrics.metric)),
        None => metrics.mean_ap_of_present().unwrap_or(0.0),
    };
    [ap, metrics.nds_without_attributes()]
}

/// In points of a hundred.
fn points(share: f64) -> String {
    format!("{:.2}", 100.0 * share)
}

fn signed(share: f64) -> String {
    format!("{:+.2}", 100.0 * share)
}

fn decibels(db: Option<f64>) -> String {
    db.map_or("-".into(), |db| format!("{db:.1}"))
}
