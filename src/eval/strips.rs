//! Figures of many things beside each other: a line for each thing, a strip for each figure, as SVG.

use super::page::escaped;
use std::fmt::Write as _;
use std::ops::Range;

/// Rows with common names at their left.
///
/// ```
/// use lidar_ptq::eval::strips::{Reading, Strip, Strips};
/// let mut strips = Strips::new(["first layer", "second layer"]);
/// strips.add(Strip::bars("SNR, dB", [Reading::new(31.2, "31.2"), Reading::missing("-")]));
/// assert!(strips.to_svg("layers").starts_with("<svg"));
/// ```
#[derive(Clone, Debug)]
pub struct Strips {
    rows: Vec<String>,
    /// Which color a row has.
    tones: Vec<usize>,
    strips: Vec<Strip>,
}

/// One figure of every row.
#[derive(Clone, Debug)]
pub struct Strip {
    title: String,
    kind: Kind,
    readings: Vec<Reading>,
    range: Option<Range<f64>>,
    width: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Bars,
    Dots,
    Text,
}

/// A value, and how it is written.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// `None` where there is nothing to draw.
    value: Option<f64>,
    /// Half the length of its whisker.
    error: f64,
    text: String,
}

const ROW: f64 = 20.0;
/// Above the rows, for the titles; below them, for the axes.
const HEAD: f64 = 30.0;
const FOOT: f64 = 24.0;
/// Between strips.
const GAP: f64 = 22.0;
const BAR: f64 = 11.0;
const DOT: f64 = 4.0;
/// Of a letter at the size of these texts, more than most take.
const LETTER: f64 = 7.2;
/// Room for ends of axes, beyond the strip.
const MARGIN: f64 = 8.0;

/// Okabe and Ito (2008), as the charts of lines have them.
const TONES: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#505050"];

impl Reading {
    /// A value that is not finite is only written.
    pub fn new(value: f64, text: impl Into<String>) -> Self {
        Self::with_error(value, 0.0, text)
    }

    /// With a whisker so far to both sides.
    pub fn with_error(value: f64, error: f64, text: impl Into<String>) -> Self {
        Self { value: Some(value).filter(|v| v.is_finite()), error: if error.is_finite() { error } else { 0.0 }, text: text.into() }
    }

    pub fn missing(text: impl Into<String>) -> Self {
        Self { value: None, error: 0.0, text: text.into() }
    }
}

impl Strip {
    /// Bars from zero on.
    pub fn bars(title: &str, readings: impl IntoIterator<Item = Reading>) -> Self {
        Self { title: title.to_owned(), kind: Kind::Bars, readings: readings.into_iter().collect(), range: None, width: 130.0 }
    }

    /// Points with whiskers.
    pub fn dots(title: &str, readings: impl IntoIterator<Item = Reading>) -> Self {
        Self { kind: Kind::Dots, width: 300.0, ..Self::bars(title, readings) }
    }

    /// Nothing drawn.
    pub fn text(title: &str, texts: impl IntoIterator<Item = String>) -> Self {
        Self { kind: Kind::Text, width: 0.0, ..Self::bars(title, texts.into_iter().map(Reading::missing)) }
    }

    /// Fixes the axis; without it, it covers zero and what is drawn.
    pub fn range(self, range: Range<f64>) -> Self {
        Self { range: Some(range), ..self }
    }

    /// Of what is drawn, in pixels.
    pub fn width(self, width: f64) -> Self {
        Self { width, ..self }
    }

    fn text_width(&self) -> f64 {
        let longest = self.readings.iter().map(|r| r.text.chars().count()).max().unwrap_or(0);
        longest as f64 * LETTER + 1.5 * MARGIN
    }

    /// With its texts, and as wide as its title.
    fn whole_width(&self) -> f64 {
        (self.width + self.text_width()).max(self.title.chars().count() as f64 * LETTER)
    }

    fn extent(&self) -> Range<f64> {
        if let Some(range) = &self.range {
            return range.clone();
        }
        let ends = self.readings.iter().filter_map(|r| Some((r.value? - r.error, r.value? + r.error)));
        let (low, high) = ends.fold((0.0f64, 0.0f64), |(low, high), (a, b)| (low.min(a), high.max(b)));
        if high - low < 1e-12 { 0.0..1.0 } else { low..high }
    }
}

impl Strips {
    pub fn new<S: Into<String>>(rows: impl IntoIterator<Item = S>) -> Self {
        let rows: Vec<String> = rows.into_iter().map(Into::into).collect();
        Self { tones: vec![0; rows.len()], rows, strips: Vec::new() }
    }

    /// Gives each row the color of this number; rows of the same number belong together.
    pub fn tones(mut self, tones: impl IntoIterator<Item = usize>) -> Self {
        self.tones.iter_mut().zip(tones).for_each(|(to, tone)| *to = tone);
        self
    }

    /// Readings are by row; what is beyond the rows is left out.
    pub fn add(&mut self, strip: Strip) {
        self.strips.push(strip);
    }

    /// The text of an SVG element; `description` is for those who cannot see it.
    pub fn to_svg(&self, description: &str) -> String {
        let names = self.rows.iter().map(|r| r.chars().count()).max().unwrap_or(0) as f64 * LETTER + 2.5 * MARGIN;
        let width = names + self.strips.iter().map(|s| s.whole_width() + GAP).sum::<f64>() + MARGIN;
        let height = HEAD + ROW * self.rows.len() as f64 + FOOT;
        let mut svg = Svg(String::new());
        svg.put(format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" viewBox=\"0 0 {width:.0} {height:.0}\" \
             role=\"img\" aria-label=\"{}\" font-size=\"12\" font-family=\"system-ui, sans-serif\" fill=\"#1c1f26\">\n",
            escaped(description)
        ));
        for (i, name) in self.rows.iter().enumerate() {
            let top = HEAD + ROW * i as f64;
            if i % 2 == 0 {
                svg.put(format_args!("<rect x=\"0\" y=\"{top}\" width=\"{width:.0}\" height=\"{ROW}\" fill=\"#f3f4f8\"/>\n"));
            }
            svg.text((names - MARGIN, middle(i)), "end", name);
        }
        let mut left = names + GAP / 2.0;
        for strip in &self.strips {
            self.draw(strip, left, &mut svg);
            left += strip.whole_width() + GAP;
        }
        svg.0 += "</svg>";
        svg.0
    }

    fn draw(&self, strip: &Strip, left: f64, svg: &mut Svg) {
        svg.put(format_args!("<text x=\"{left:.1}\" y=\"18\" font-weight=\"600\">{}</text>\n", escaped(&strip.title)));
        let bottom = HEAD + ROW * self.rows.len() as f64;
        let extent = strip.extent();
        let x = |value: f64| left + (value.clamp(extent.start, extent.end) - extent.start) / (extent.end - extent.start) * strip.width;
        if strip.kind != Kind::Text {
            for tick in ticks(&extent, (strip.width / 75.0).clamp(1.5, 6.0)) {
                let (at, color) = (x(tick), if tick == 0.0 { "#889" } else { "#dde" });
                svg.put(format_args!("<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{HEAD}\" y2=\"{bottom}\" stroke=\"{color}\"/>\n"));
                svg.put(format_args!(
                    "<text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\" font-size=\"10\" fill=\"#667\">{}</text>\n",
                    bottom + 14.0,
                    short(tick)
                ));
            }
        }
        for (i, reading) in strip.readings.iter().take(self.rows.len()).enumerate() {
            let (y, tone) = (middle(i), TONES[self.tones[i] % TONES.len()]);
            svg.put(format_args!("<g><title>{}: {} {}</title>", escaped(&self.rows[i]), escaped(&strip.title), escaped(&reading.text)));
            if let (Some(value), true) = (reading.value, strip.kind != Kind::Text) {
                let zero = x(0.0f64.clamp(extent.start, extent.end));
                match strip.kind {
                    Kind::Bars => svg.bar((zero, x(value)), y, tone),
                    _ => svg.dot(x(value), y, tone),
                }
                if reading.error > 0.0 {
                    svg.whisker(
                        (x(value - reading.error), x(value + reading.error)),
                        y,
                        if strip.kind == Kind::Bars { "#1c1f26" } else { tone },
                    );
                }
            }
            svg.text((left + strip.whole_width(), y), "end", &reading.text);
            svg.0 += "</g>\n";
        }
    }
}

/// Of a row.
fn middle(row: usize) -> f64 {
    HEAD + ROW * (row as f64 + 0.5)
}

/// Round numbers within, so many or up to twice as many.
fn ticks(extent: &Range<f64>, about: f64) -> Vec<f64> {
    let rough = (extent.end - extent.start) / about;
    let decade = 10f64.powf(rough.log10().floor());
    let step = [5.0, 2.0, 1.0].into_iter().map(|s| s * decade).find(|s| *s <= rough).unwrap_or(rough);
    let [first, last] = [(extent.start / step - 1e-9).ceil() as i64, (extent.end / step + 1e-9).floor() as i64];
    (first..=last).map(|i| i as f64 * step).collect()
}

/// A round number.
fn short(tick: f64) -> String {
    match tick.abs() {
        0.0 => "0".into(),
        size if size >= 1e6 => format!("{}M", rounded(tick / 1e6)),
        size if size >= 1e3 => format!("{}k", rounded(tick / 1e3)),
        size if size < 1e-3 => format!("{tick:.0e}"),
        _ => rounded(tick),
    }
}

fn rounded(value: f64) -> String {
    let text = format!("{value:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

struct Svg(String);

impl Svg {
    fn put(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = self.0.write_fmt(text);
    }

    /// At the height of a row's middle.
    fn text(&mut self, (x, y): (f64, f64), anchor: &str, text: &str) {
        self.put(format_args!("<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{}</text>\n", y + 4.0, escaped(text)));
    }

    fn bar(&mut self, (from, to): (f64, f64), y: f64, tone: &str) {
        let (left, width, top) = (from.min(to), (to - from).abs().max(0.5), y - BAR / 2.0);
        self.put(format_args!("<rect x=\"{left:.1}\" y=\"{top}\" width=\"{width:.1}\" height=\"{BAR}\" rx=\"1.5\" fill=\"{tone}\"/>"));
    }

    fn dot(&mut self, x: f64, y: f64, tone: &str) {
        self.put(format_args!("<circle cx=\"{x:.1}\" cy=\"{y}\" r=\"{DOT}\" fill=\"{tone}\"/>"));
    }

    fn whisker(&mut self, (from, to): (f64, f64), y: f64, tone: &str) {
        let (above, below) = (y - 4.0, y + 4.0);
        self.put(format_args!(
            "<path d=\"M{from:.1} {y}H{to:.1}M{from:.1} {above}V{below}M{to:.1} {above}V{below}\" stroke=\"{tone}\" stroke-width=\"1.5\" fill=\"none\"/>"
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers of an attribute of all elements of a kind.
    fn numbers(svg: &str, element: &str, attribute: &str) -> Vec<f64> {
        let elements = svg.split('<').filter(|part| part.starts_with(&format!("{element} ")));
        let values = elements.filter_map(|part| part.split(&format!(" {attribute}=\"")).nth(1)?.split('"').next()?.parse().ok());
        values.collect()
    }

    #[test]
    fn bars_are_as_long_as_their_values() {
        let mut strips = Strips::new(["a", "b", "c"]);
        let readings = [Reading::new(2.0, "two"), Reading::new(-1.0, "minus one"), Reading::missing("none")];
        strips.add(Strip::bars("x", readings).width(300.0));
        let svg = strips.to_svg("test");
        let bars: Vec<&str> = svg.split('<').filter(|part| part.starts_with("rect") && part.contains("rx=")).collect();
        let widths: Vec<f64> = numbers(&svg, "rect", "width").into_iter().filter(|w| *w < 299.0).collect();
        assert_eq!((bars.len(), widths), (2, vec![200.0, 100.0]));
        // The second ends where the first begins.
        let left = numbers(&bars.join("<").replace("rect", "<rect"), "rect", "x");
        assert!((left[0] - left[1] - 100.0).abs() < 0.2, "{left:?}");
        assert!(svg.contains(">none</text>") && svg.contains("b: x minus one"));
    }

    #[test]
    fn dots_stand_in_the_middle_of_their_whiskers() {
        let mut strips = Strips::new(["a", "b"]).tones([0, 1]);
        strips.add(
            Strip::dots("x", [Reading::with_error(0.5, 0.25, ""), Reading::with_error(f64::NAN, f64::NAN, "?")])
                .range(0.0..1.0)
                .width(400.0),
        );
        let svg = strips.to_svg("test");
        let path = svg.split(" d=\"M").nth(1).and_then(|d| d.split('"').next()).expect("a whisker");
        let ends: Vec<f64> = [path.split(' ').next(), path.split('H').nth(1).and_then(|d| d.split('M').next())]
            .into_iter()
            .map(|end| end.and_then(|e| e.parse().ok()).expect("a number"))
            .collect();
        let dots = numbers(&svg, "circle", "cx");
        assert_eq!(dots.len(), 1);
        assert!((ends[1] - ends[0] - 200.0).abs() < 0.2 && (dots[0] - (ends[0] + ends[1]) / 2.0).abs() < 0.11, "{ends:?} {dots:?}");
    }

    #[test]
    fn ticks_are_round_numbers() {
        assert_eq!(ticks(&(0.0..10.0), 4.0), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!(ticks(&(-7.0..3.0), 4.0), [-6.0, -4.0, -2.0, 0.0, 2.0]);
        assert_eq!(ticks(&(0.0..42_000.0), 2.0), [0.0, 20_000.0, 40_000.0]);
        assert_eq!([0.0, 0.25, -12.0, 1500.0, 2e6, 2e-5].map(short), ["0", "0.25", "-12", "1.5k", "2M", "2e-5"]);
    }

    #[test]
    fn no_name_can_leave_its_element() {
        let hostile = "</svg><script>alert(1)</script>";
        let mut strips = Strips::new([hostile]);
        strips.add(Strip::text(hostile, [hostile.to_owned()]));
        let svg = strips.to_svg(hostile);
        assert!(!svg.contains("<script") && svg.matches("</svg>").count() == 1, "{svg}");
    }
}
