//! What an evaluation found, for people and programs: tables, JSON, plots, and one page of HTML with pictures of the worst frames.

mod plots;
mod worst;

#[cfg(test)]
mod tests;

pub use plots::{Plot, kitti_precision_recall, precision_recall, scores};
pub use worst::{Faults, Missed, WorstFrame, WorstFrames, WorstRules};

use super::agreement::Agreement;
use super::chart::ChartError;
use super::kitti::KittiEvaluation;
use super::nuscenes::{self, Evaluation, Metrics};
use super::page::Page;
use super::{EvalFrame, RANGE_BINS, TruthBox};
use serde_json::{Map, Value};
use std::fmt::Write as _;
use std::ops::Range;

/// Everything that is known about how good a model is.
pub struct Report<'a> {
    title: String,
    evaluation: &'a Evaluation,
    /// `None` if nothing was labelled.
    metrics: Option<Metrics>,
    ranges: Vec<(Range<f64>, Metrics)>,
    /// With a second model.
    pub agreement: Option<&'a Agreement>,
    /// Where KITTI's own metric is what counts.
    pub kitti: Option<&'a KittiEvaluation>,
    pub worst: Option<&'a WorstFrames>,
    /// What was judged, and how: names and values.
    pub facts: Vec<(String, String)>,
    /// What could not be used, a sentence each.
    pub remarks: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    #[error(transparent)]
    Chart(#[from] ChartError),
    #[error("encoding a picture: {0}")]
    Picture(#[from] std::io::Error),
}

/// A file of a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportFile {
    pub name: String,
    pub text: String,
}

/// The page; it needs none of the other files.
pub const PAGE: &str = "report.html";

impl<'a> Report<'a> {
    /// Of the labelled frames of an evaluation, if there are any.
    pub fn new(title: &str, evaluation: &'a Evaluation) -> Self {
        let metrics = (!evaluation.frames().is_empty()).then(|| evaluation.metrics());
        let ranges = match metrics {
            Some(_) => RANGE_BINS.iter().map(|r| (r.clone(), evaluation.metrics_in(r))).collect(),
            None => Vec::new(),
        };
        let title = title.to_owned();
        Self { title, evaluation, metrics, ranges, agreement: None, kitti: None, worst: None, facts: Vec::new(), remarks: Vec::new() }
    }

    /// Tables for a terminal.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let mut put = |part: std::fmt::Arguments<'_>| _ = text.write_fmt(part); // a string takes everything
        let agreement = self.agreement.map(Agreement::table);
        match (self.kitti, &self.metrics) {
            (Some(kitti), _) => {
                let [by_center, by_overlap] = kitti.tables();
                put(format_args!("{by_center}\n{by_overlap}"));
                agreement.iter().for_each(|table| put(format_args!("\n{table}")));
            }
            (None, Some(metrics)) => {
                let ranges = nuscenes::ranges_table(&self.ranges);
                put(format_args!("{}\nAP by range (objects)\n{ranges}\n", nuscenes::metrics_table(metrics)));
                agreement.iter().for_each(|table| put(format_args!("{table}\n")));
                nuscenes::summary_lines(metrics).iter().for_each(|line| put(format_args!("{line}\n")));
            }
            (None, None) => agreement.iter().for_each(|table| put(format_args!("{table}\n"))),
        }
        text
    }

    /// `mAP`, `NDS` and `classes`, which are null without ground truth, and everything else that is a figure.
    pub fn json(&self) -> Map<String, Value> {
        let mut all = self.metrics.as_ref().map(nuscenes::metrics_json).unwrap_or_default();
        for key in ["mAP", "NDS", "classes"] {
            all.entry(key).or_insert(Value::Null);
        }
        all.insert("ranges".into(), nuscenes::ranges_json(&self.ranges));
        if let Some(agreement) = self.agreement {
            all.insert("agreement".into(), agreement.json());
        }
        if let Some(kitti) = self.kitti {
            all.insert("kitti".into(), kitti.json());
        }
        all
    }

    /// The page, named [`PAGE`], and each plot as a file of its own.
    ///
    /// # Errors
    /// What the libraries that draw refuse.
    pub fn files(&self) -> Result<Vec<ReportFile>, ReportError> {
        let precision_recall = match (self.kitti, &self.metrics) {
            (Some(kitti), _) => kitti_precision_recall(kitti)?,
            (None, Some(metrics)) => precision_recall(metrics)?,
            (None, None) => Vec::new(),
        };
        let scores = if self.metrics.is_some() { scores(self.evaluation)? } else { Vec::new() };
        let page = ReportFile { name: PAGE.to_owned(), text: self.page(&precision_recall, &scores)? };
        let plots = precision_recall.into_iter().chain(scores);
        let plots = plots.map(|plot| ReportFile { name: format!("{}.svg", plot.file_name), text: plot.svg });
        Ok(std::iter::once(page).chain(plots).collect())
    }

    fn page(&self, precision_recall: &[Plot], scores: &[Plot]) -> Result<String, ReportError> {
        let mut page = Page::new(&self.title);
        if let (None, Some(metrics)) = (self.kitti, &self.metrics) {
            page.headline(&format!("mAP {:.3}, NDS {:.3}", metrics.mean_ap(), metrics.nds_without_attributes()));
        }
        page.facts(&self.facts);
        match (self.kitti, &self.metrics) {
            (Some(kitti), _) => kitti_sections(&mut page, kitti),
            (None, Some(metrics)) => metric_sections(&mut page, metrics, &self.ranges),
            (None, None) => page.paragraph("Nothing was labelled: the models are only compared."),
        }
        if let Some(agreement) = self.agreement {
            page.section("Agreement with the second model");
            page.paragraph("Which boxes of the second model (the teacher) this one (the student) has too, and how far they are off.");
            page.table(&agreement.table());
        }
        if !precision_recall.is_empty() {
            page.section("Precision over recall");
            page.charts(precision_recall.iter().map(|plot| plot.svg.as_str()));
        }
        if let Some(metrics) = &self.metrics {
            page.section("Scores");
            let distance = metrics.metric.error_distance_m;
            page.paragraph(&format!(
                "All classes together. A box is right if it is the one that found an object of its class within {distance} m."
            ));
            page.charts(scores.iter().map(|plot| plot.svg.as_str()));
        }
        if let (Some(worst), Some(_)) = (self.worst, &self.metrics) {
            self.worst_section(&mut page, worst)?;
        }
        if !self.remarks.is_empty() {
            page.section("Notes");
            page.list(self.remarks.iter().cloned());
        }
        Ok(page.finish())
    }

    fn worst_section(&self, page: &mut Page, worst: &WorstFrames) -> Result<(), ReportError> {
        let (rules, metric) = (worst.rules(), self.evaluation.metric());
        let classes: Vec<String> = metric.classes.iter().map(|c| c.name.clone()).collect();
        page.section("Worst frames");
        page.paragraph(&format!(
            "Frames with the most misses and false alarms, which weigh the same, if boxes count from a score of {} on. Missed: an object \
             within the range of its class and with at least {} points that no box of its class found within {} m. False alarm: a box \
             that found none. Frames of one recording less than {} s apart look alike; the worst of them stands for all.",
            rules.score, rules.min_points, metric.error_distance_m, rules.apart_s
        ));
        page.paragraph(
            "Seen from above, forward is up. Dashed white: the labelled objects that take part. Coloured: boxes of the model, by class. \
             White ring: missed. Red cross: false alarm.",
        );
        if self.kitti.is_some() {
            page.paragraph("KITTI's labels leave things out (DontCare, and what is not in the image): a false alarm may be one of these.");
        }
        if worst.kept().is_empty() {
            page.paragraph("None: no frame had a miss or a false alarm.");
        }
        for kept in worst.kept() {
            let (frame, _) = &self.evaluation.frames()[kept.frame];
            let (missed, wrong) = (kept.faults.missed.len(), kept.faults.false_alarms.len());
            let title = format!("{}, {:.2} s: {missed} missed, {wrong} false alarms", frame.source, frame.time_s);
            page.subsection(&title);
            page.list(fault_lines(frame, &kept.faults, &classes));
            page.picture(&worst.picture(kept, self.evaluation, &classes), &title)?;
        }
        Ok(())
    }
}

fn metric_sections(page: &mut Page, metrics: &Metrics, ranges: &[(Range<f64>, Metrics)]) {
    page.section("By class");
    page.table(&nuscenes::metrics_table(metrics));
    // The first line is the headline.
    page.list(nuscenes::summary_lines(metrics).into_iter().skip(1));
    page.section("By range");
    page.paragraph("AP of objects at this distance from the vehicle, and how many they are.");
    page.table(&nuscenes::ranges_table(ranges));
}

fn kitti_sections(page: &mut Page, kitti: &KittiEvaluation) {
    let [by_center, by_overlap] = kitti.tables();
    page.section("By distance of centres");
    page.table(&by_center);
    page.section("By overlap");
    page.table(&by_overlap);
}

/// What was missed, a line each, and what was wrong, in one.
fn fault_lines(frame: &EvalFrame, faults: &Faults, classes: &[String]) -> Vec<String> {
    let name = |label: usize| classes.get(label).map_or("unknown", String::as_str);
    let missed = faults.missed.iter().map(|missed| {
        let TruthBox { bbox, label, points } = &frame.truth[missed.object];
        let points = points.map_or_else(String::new, |n| format!(", {n} points"));
        let unsure = missed.unsure.map_or_else(|| "no box".to_owned(), |score| format!("a box of score {score:.2} only"));
        format!("missed: {} at {:.0} m{points}, {unsure}", name(*label), frame.range(bbox))
    });
    let wrong = faults.false_alarms.iter().map(|&i| {
        let found = &frame.predictions[i];
        format!("{} {:.2} at {:.0} m", name(found.label), found.score, frame.range(&found.bbox))
    });
    let wrong: Vec<String> = wrong.collect();
    missed.chain((!wrong.is_empty()).then(|| format!("false alarms: {}", wrong.join(", ")))).collect()
}
