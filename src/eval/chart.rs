//! Line charts as SVG: loss over steps, precision over recall, time over occupancy.

use plotters::prelude::*;
use std::ops::Range;

/// A chart of lines over common axes.
///
/// ```
/// use lidar_ptq::eval::chart::Chart;
/// let mut chart = Chart::new("Loss", "step", "loss");
/// chart.line("heat map", [(0.0, 3.0), (1.0, 2.0)]);
/// assert!(chart.to_svg().unwrap().starts_with("<svg"));
/// ```
#[derive(Clone, Debug)]
pub struct Chart {
    title: String,
    x_label: String,
    y_label: String,
    x_range: Option<Range<f64>>,
    y_range: Option<Range<f64>>,
    legend: SeriesLabelPosition,
    lines: Vec<Line>,
}

#[derive(Clone, Debug)]
struct Line {
    name: String,
    color: RGBColor,
    points: Vec<(f64, f64)>,
}

#[derive(Debug, thiserror::Error)]
#[error("drawing chart `{title}`: {what}")]
pub struct ChartError {
    title: String,
    what: String,
}

const SIZE: (u32, u32) = (720, 420);

/// Okabe and Ito (2008), without the yellow that white paper swallows.
const LINE_COLORS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(80, 80, 80),
];

impl Chart {
    pub fn new(title: &str, x_label: &str, y_label: &str) -> Self {
        let [title, x_label, y_label] = [title, x_label, y_label].map(str::to_owned);
        Self { title, x_label, y_label, x_range: None, y_range: None, legend: SeriesLabelPosition::MiddleRight, lines: Vec::new() }
    }

    /// Fixes the axes; without it they cover what is drawn.
    pub fn ranges(mut self, x: Range<f64>, y: Range<f64>) -> Self {
        (self.x_range, self.y_range) = (Some(x), Some(y));
        self
    }

    /// Names the lines in the lower left corner instead of on the right: for lines that fall from a full height.
    pub fn legend_low(mut self) -> Self {
        self.legend = SeriesLabelPosition::LowerLeft;
        self
    }

    /// Adds a line; points that are not finite interrupt nothing, they are left out.
    pub fn line(&mut self, name: &str, points: impl IntoIterator<Item = (f64, f64)>) {
        let color = LINE_COLORS[self.lines.len() % LINE_COLORS.len()];
        let points = points.into_iter().filter(|(x, y)| x.is_finite() && y.is_finite()).collect();
        self.lines.push(Line { name: name.to_owned(), color, points });
    }

    /// The chart as the text of an SVG file.
    ///
    /// # Errors
    /// What the drawing library refuses.
    pub fn to_svg(&self) -> Result<String, ChartError> {
        let mut svg = String::new();
        self.draw(&mut svg).map_err(|e| ChartError { title: self.title.clone(), what: e.to_string() })?;
        Ok(svg)
    }

    fn draw(&self, svg: &mut String) -> Result<(), Box<dyn std::error::Error>> {
        let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let x = self.x_range.clone().unwrap_or_else(|| self.extent(|p| p.0));
        let y = self.y_range.clone().unwrap_or_else(|| self.extent(|p| p.1));
        let mut builder = ChartBuilder::on(&area);
        builder.caption(&self.title, ("sans-serif", 18)).margin(12).x_label_area_size(40).y_label_area_size(56);
        let mut chart = builder.build_cartesian_2d(x, y)?;
        chart.configure_mesh().x_desc(&self.x_label).y_desc(&self.y_label).light_line_style(TRANSPARENT).draw()?;
        for Line { name, color, points } in &self.lines {
            let color = *color;
            chart
                .draw_series(LineSeries::new(points.iter().copied(), color.stroke_width(2)))?
                .label(name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color.stroke_width(2)));
        }
        if self.lines.len() > 1 {
            let mut names = chart.configure_series_labels();
            names.position(self.legend.clone()).background_style(WHITE.mix(0.8)).border_style(BLACK.mix(0.3)).draw()?;
        }
        drop(chart);
        area.present()?;
        Ok(())
    }

    /// What a coordinate covers, widened to something that has a length.
    fn extent(&self, of: impl Fn(&(f64, f64)) -> f64) -> Range<f64> {
        let values = self.lines.iter().flat_map(|l| l.points.iter().map(&of));
        let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
        match (low.is_finite(), high > low) {
            (false, _) => 0.0..1.0,
            (true, false) => low - 0.5..low + 0.5,
            (true, true) => low..high,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The y pixels of the vertices of each line that is two pixels wide.
    fn heights(svg: &str) -> Vec<Vec<f64>> {
        let lines = svg.lines().filter(|l| l.starts_with("<polyline") && l.contains("stroke-width=\"2\""));
        let points = lines.filter_map(|l| l.split("points=\"").nth(1)?.split('"').next());
        points.map(|p| p.split_whitespace().filter_map(|xy| xy.split(',').nth(1)?.parse().ok()).collect()).collect()
    }

    #[test]
    fn lines_go_where_their_numbers_say() {
        let mut chart = Chart::new("a < b & c", "x", "y").ranges(0.0..1.0, 0.0..1.0);
        chart.line("rising", [(0.0, 0.0), (0.5, 0.5), (f64::NAN, 3.0), (1.0, 1.0)]);
        chart.line("flat", [(0.0, 0.5), (1.0, 0.5)]);
        let svg = chart.to_svg().unwrap();
        assert!(svg.contains("a &lt; b &amp; c") && svg.contains("rising") && svg.contains("flat"));
        let lines = heights(&svg);
        assert_eq!(lines[0].len(), 3);
        // Higher values are nearer the top, and the middle of one line lies on the other.
        assert!(lines[0][0] > lines[0][1] && lines[0][1] > lines[0][2]);
        assert!(lines.iter().flatten().filter(|&&y| (y - lines[0][1]).abs() < 1.5).count() >= 3);
    }

    #[test]
    fn nothing_to_draw_is_an_empty_chart() {
        let mut chart = Chart::new("", "", "");
        assert!(chart.to_svg().is_ok());
        chart.line("one point", [(2.0, 2.0)]);
        assert!(chart.to_svg().is_ok());
    }
}
