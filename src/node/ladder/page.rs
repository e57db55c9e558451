//! A ladder as a page: what each method loses, with its error, beside the others.

use super::report::{LadderReport, Row, decibels, points, signed};
use crate::eval::agreement::AgreementFigures;
use crate::eval::page::Page;
use crate::eval::paired::Difference;
use crate::eval::strips::{Reading, Strip, Strips};
use crate::eval::{RANGE_BINS, agreement_strips, range_name};

impl LadderReport {
    /// One file of HTML that needs nothing else. `facts` are what was compared and how; `remarks`, what could not be used.
    pub fn html(&self, title: &str, facts: &[(String, String)], remarks: Vec<String>) -> String {
        let mut page = Page::new(title);
        if self.labelled {
            page.headline(&format!("float: {} {}, NDS {}", self.ap_name, points(self.float_ap), points(self.float_nds)));
        }
        page.facts(facts);
        if self.labelled {
            page.section("Against ground truth");
            page.paragraph(
                "Each model minus the float model, in points of a hundred, with the standard error of that difference over choices of the \
                 same frames (whiskers). Rows of one color have the same bits. Draws ±: standard deviation over calibrations with other frames.",
            );
            page.drawing(&self.differences());
        } else {
            page.paragraph("Nothing was labelled: models are only compared with the float one.");
        }
        page.section("Agreement with the float model");
        page.paragraph(
            "Recall: the share of the float model's boxes above a score that the model has above it too. Precision: the share of the model's \
             boxes that the float model has. Heat dB: signal to noise of the heat maps where the float model's score is above 0.1.",
        );
        page.drawing(&self.agreements());
        page.section("By range");
        page.paragraph("The same for objects and boxes at this distance from the vehicle.");
        page.drawing(&self.agreements_by_range());
        let [overall, by_range] = self.tables();
        page.section("All figures");
        page.table(&overall);
        page.subsection("By range");
        page.table(&by_range);
        if !remarks.is_empty() {
            page.section("Notes");
            page.list(remarks);
        }
        page.finish()
    }

    /// Of each row, the same for rows of the same bits.
    fn tones(&self) -> Vec<usize> {
        let mut known: Vec<&str> = Vec::new();
        let mut tones = Vec::new();
        for row in &self.rows {
            let tone = known.iter().position(|bits| *bits == row.bits).unwrap_or(known.len());
            if tone == known.len() {
                known.push(&row.bits);
            }
            tones.push(tone);
        }
        tones
    }

    fn differences(&self) -> String {
        let mut strips = Strips::new(self.rows.iter().map(name)).tones(self.tones());
        strips
            .add(Strip::dots(&format!("{} - float", self.ap_name), self.rows.iter().map(|row| difference(row.ap_difference))).width(380.0));
        strips.add(Strip::text("draws ±", self.rows.iter().map(|row| spread(row, row.ap_spread))));
        strips.add(Strip::dots("NDS - float", self.rows.iter().map(|row| difference(row.nds_difference))).width(280.0));
        strips.add(Strip::text("draws ±", self.rows.iter().map(|row| spread(row, row.nds_spread))));
        strips.to_svg(&format!("What each method loses of the float model's {} and NDS", self.ap_name))
    }

    fn agreements(&self) -> String {
        let mut strips = Strips::new(self.rows.iter().map(name)).tones(self.tones());
        let figures: Vec<&AgreementFigures> = self.rows.iter().map(|row| &row.agreement).collect();
        agreement_strips(&figures).into_iter().for_each(|strip| strips.add(strip));
        strips.add(heat(self.rows.iter().map(|row| row.heat_map_db)));
        strips.to_svg("Agreement of each method's boxes with the float model's")
    }

    fn agreements_by_range(&self) -> String {
        let ranges = || {
            self.rows.iter().zip(self.tones()).flat_map(|(row, tone)| row.by_range.iter().zip(&RANGE_BINS).map(move |at| (row, tone, at)))
        };
        let mut strips = Strips::new(ranges().map(|(row, _, (_, range))| format!("{}, {}", name(row), range_name(range))));
        strips = strips.tones(ranges().map(|(_, tone, _)| tone));
        if self.labelled {
            let title = format!("{} - float", self.ap_name);
            strips.add(Strip::dots(&title, ranges().map(|(_, _, (figures, _))| difference(figures.ap_difference))).width(200.0));
        }
        let figures: Vec<&AgreementFigures> = ranges().map(|(_, _, (figures, _))| &figures.agreement).collect();
        agreement_strips(&figures).into_iter().for_each(|strip| strips.add(strip));
        strips.add(heat(ranges().map(|(_, _, (figures, _))| figures.heat_map_db)));
        strips.to_svg("The same by range")
    }
}

fn name(row: &Row) -> String {
    format!("{} {}", row.bits, row.method)
}

fn difference(Difference { value, standard_error }: Difference) -> Reading {
    Reading::with_error(100.0 * value, 100.0 * standard_error, format!("{} ± {}", signed(value), points(standard_error)))
}

fn spread(row: &Row, spread: f64) -> String {
    if row.draws > 1 { points(spread) } else { "-".into() }
}

fn heat(values: impl Iterator<Item = Option<f64>>) -> Strip {
    Strip::bars("heat dB", values.map(|db| Reading::new(db.unwrap_or(f64::NAN), decibels(db)))).width(90.0)
}
