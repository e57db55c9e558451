//! A frame seen from above, as a picture for people.

mod canvas;
mod font;
mod layout;
mod mark;
mod palette;

use super::{ScoredBox, TruthBox};
use crate::geometry::Box3;
use crate::sensor::RgbImage;
use canvas::{Canvas, Color};
use font::{CAP_HEIGHT, draw_text, draw_text_outlined, text_width};
use layout::{Layout, LegendFlow};
pub use mark::{Mark, MarkKind};
use ndarray::ArrayView2;
pub use palette::class_color;
use palette::{BACKGROUND, GRID, PANEL, TEXT, TEXT_FAINT, TRUTH, ramp};

/// Bird's-eye picture of one frame: points, detections, and ground truth where there is some. x (forward) is up, y (left)
/// is left, the sensor is in the middle.
///
/// ```
/// use lidar_ptq::eval::picture::BevPicture;
/// let classes = ["car".to_string()];
/// let points = ndarray::arr2(&[[10.0f32, 2.0, -1.5], [12.0, -3.0, 0.2]]);
/// let picture = BevPicture { title: "frame 0".into(), ..BevPicture::new(&classes) };
/// let image = picture.draw(points.view(), &[], None);
/// assert_eq!(image.width(), 1000);
/// ```
#[derive(Clone, Debug)]
pub struct BevPicture<'a> {
    pub title: String,
    /// From the middle to each edge, metres; 1 to 1000, values outside are clamped.
    pub range_m: f32,
    /// Width, and height of the square map, which a title line and a legend are added to; 200 to 4000, values outside are clamped.
    pub pixels: u32,
    /// Names that the boxes' labels index.
    pub classes: &'a [String],
    pub point_color: PointColor,
    /// Whether to write class and score beside the detections.
    pub labels: bool,
}

/// What the colour of a point tells. The ramp goes from the 2nd to the 98th percentile of the points in view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PointColor {
    Height,
    /// Another column of the points, such as intensity, by its index. Points that lack it are drawn as the lowest.
    Column(usize),
}

impl<'a> BevPicture<'a> {
    /// 50 m around the sensor, 1000 pixels wide, points coloured by height.
    pub fn new(classes: &'a [String]) -> Self {
        Self { title: String::new(), range_m: 50.0, pixels: 1000, classes, point_color: PointColor::Height, labels: true }
    }

    /// * `points`: `[n, >= 3]` with x, y, z in the first columns, metres. With fewer columns no point is drawn.
    /// * `detections`, `truth`: boxes in the frame of the points. Truth is drawn in dashed white, below the detections.
    pub fn draw(&self, points: ArrayView2<f32>, detections: &[ScoredBox], truth: Option<&[TruthBox]>) -> RgbImage {
        self.draw_marked(points, detections, truth, &[])
    }

    /// As [`BevPicture::draw`], and marks above all of it.
    pub fn draw_marked(&self, points: ArrayView2<f32>, detections: &[ScoredBox], truth: Option<&[TruthBox]>, marks: &[Mark]) -> RgbImage {
        let legend_lines = if marks.is_empty() { 2 } else { 3 };
        let layout = Layout::new(self.pixels, self.range_m, legend_lines);
        let mut canvas = Canvas::new(layout.size[0], layout.size[1], BACKGROUND);

        draw_rings(&mut canvas, &layout);
        let colored_span = self.draw_points(&mut canvas, &layout, points);
        for object in truth.unwrap_or_default() {
            draw_truth(&mut canvas, &layout, &object.bbox);
        }
        let mut by_score: Vec<&ScoredBox> = detections.iter().collect();
        by_score.sort_by(|a, b| b.score.total_cmp(&a.score));
        for detection in by_score.iter().rev() {
            draw_detection(&mut canvas, &layout, &detection.bbox, self.color_of(detection.label));
        }
        marks.iter().for_each(|mark| mark.draw(&mut canvas, &layout));
        let mut labels: Vec<Label> = marks.iter().map(|m| Label { bbox: &m.bbox, text: m.text.clone(), color: m.kind.color() }).collect();
        if self.labels {
            labels.extend(by_score.iter().map(|d| Label {
                bbox: &d.bbox,
                text: format!("{} {:.2}", self.name_of(d.label), d.score),
                color: self.color_of(d.label),
            }));
        }
        draw_labels(&mut canvas, &layout, &labels);
        draw_sensor(&mut canvas, &layout);

        self.draw_title(&mut canvas, &layout, points.nrows(), detections.len(), truth.map(<[_]>::len));
        self.draw_legend(&mut canvas, &layout, detections, truth.is_some(), marks, colored_span);
        canvas.into_image()
    }

    fn color_of(&self, label: usize) -> Color {
        class_color(self.name_of(label), label)
    }

    fn name_of(&self, label: usize) -> &str {
        self.classes.get(label).map_or("unknown", String::as_str)
    }

    /// Draws low points first, so that what stands out of the ground stays visible. Returns the values at both ends of
    /// the colour ramp.
    fn draw_points(&self, canvas: &mut Canvas, layout: &Layout, points: ArrayView2<f32>) -> Option<[f32; 2]> {
        if points.ncols() < 3 {
            return None;
        }
        let column = match self.point_color {
            PointColor::Height => 2,
            PointColor::Column(column) => column,
        };
        let mut visible: Vec<([f32; 2], f32)> = points
            .rows()
            .into_iter()
            .filter(|p| p[0].abs() <= layout.range_m && p[1].abs() <= layout.range_m)
            .map(|p| (layout.pixel([p[0], p[1]]), p.get(column).copied().unwrap_or(0.0)))
            .collect();
        visible.sort_by(|a, b| a.1.total_cmp(&b.1));
        let percentile = |percent: usize| visible.get((visible.len().saturating_sub(1)) * percent / 100).map(|v| v.1);
        let span = [percentile(2)?, percentile(98)?];
        let radius = 0.85 * layout.unit;
        for (at, value) in &visible {
            let t = (value - span[0]) / (span[1] - span[0]).max(1e-6);
            canvas.disc(*at, radius, ramp(t), 0.9);
        }
        Some(span)
    }

    fn draw_title(&self, canvas: &mut Canvas, layout: &Layout, points: usize, detections: usize, truth: Option<usize>) {
        let scale = 1.5 * layout.unit;
        canvas.fill_rect([0.0, 0.0], [layout.size[0] as f32, layout.title_height], PANEL, 1.0);
        let y = 0.5 * (layout.title_height - CAP_HEIGHT * scale);
        let margin = 12.0 * layout.unit;
        draw_text(canvas, &self.title, [margin, y], scale, TEXT);

        let mut counts = format!("{points} points  {detections} detections");
        if let Some(truth) = truth {
            counts += &format!("  {truth} labelled");
        }
        let small = 1.2 * layout.unit;
        let x = layout.size[0] as f32 - margin - text_width(&counts, small);
        if x > margin + text_width(&self.title, scale) + margin {
            draw_text(canvas, &counts, [x, 0.5 * (layout.title_height - CAP_HEIGHT * small)], small, TEXT_FAINT);
        }
    }

    /// The classes in the picture with their number of detections, the marks, the line styles, the colour ramp. What does not fit
    /// goes on the next line; the layout has reserved the height.
    fn draw_legend(
        &self,
        canvas: &mut Canvas,
        layout: &Layout,
        detections: &[ScoredBox],
        has_truth: bool,
        marks: &[Mark],
        span: Option<[f32; 2]>,
    ) {
        let top = layout.title_height + layout.map_size;
        canvas.fill_rect([0.0, top], [layout.size[0] as f32, layout.legend_height], PANEL, 1.0);
        let mut flow = LegendFlow::new(layout, top);

        let mut labels: Vec<usize> = detections.iter().map(|d| d.label).collect();
        labels.sort_unstable();
        labels.dedup();
        for label in labels {
            let count = detections.iter().filter(|d| d.label == label).count();
            let color = self.color_of(label);
            flow.entry(canvas, &format!("{} {count}", self.name_of(label)), |canvas, [x, y], u| {
                canvas.fill_rect([x, y - 4.0 * u], [16.0 * u, 8.0 * u], color, 0.25);
                for (a, b) in [([x, y - 4.0 * u], [x + 16.0 * u, y - 4.0 * u]), ([x, y + 4.0 * u], [x + 16.0 * u, y + 4.0 * u])] {
                    canvas.line(a, b, 1.6 * u, color, 1.0);
                }
                canvas.line([x, y - 4.0 * u], [x, y + 4.0 * u], 1.6 * u, color, 1.0);
                canvas.line([x + 16.0 * u, y - 4.0 * u], [x + 16.0 * u, y + 4.0 * u], 1.6 * u, color, 1.0);
            });
        }
        for kind in MarkKind::ALL {
            let count = marks.iter().filter(|m| m.kind == kind).count();
            if count > 0 {
                flow.entry(canvas, &format!("{} {count}", kind.name()), |canvas, [x, y], u| {
                    kind.draw(canvas, [x + 8.0 * u, y], 6.0 * u, u)
                });
            }
        }
        if has_truth {
            flow.entry(canvas, "ground truth", |canvas, [x, y], u| {
                canvas.dashed_line([x, y], [x + 17.0 * u, y], DASH * u, TRUTH_WIDTH * u, TRUTH);
            });
        }
        flow.entry(canvas, "velocity, 1 s", |canvas, [x, y], u| {
            draw_arrow(canvas, [x, y], [x + 16.0 * u, y], u, TEXT);
        });
        if let Some([low, high]) = span {
            let text = match self.point_color {
                PointColor::Height => format!("height {low:.1} to {high:.1} m"),
                PointColor::Column(column) => format!("column {column}: {low:.3} to {high:.3}"),
            };
            flow.entry(canvas, &text, |canvas, [x, y], u| {
                for i in 0..16 {
                    let t = i as f32 / 15.0;
                    canvas.fill_rect([x + i as f32 * u, y - 3.5 * u], [1.2 * u, 7.0 * u], ramp(t), 1.0);
                }
            });
        }
    }
}

/// Several pictures in rows of `columns` (at least one), in order, on the pictures' own background. Each cell has the size of the largest
/// picture; smaller ones stand in its middle. No pictures give an empty image.
pub fn contact_sheet(pictures: &[RgbImage], columns: usize) -> RgbImage {
    const GAP: u32 = 8;
    let columns = columns.clamp(1, pictures.len().max(1)) as u32;
    let rows = (pictures.len() as u32).div_ceil(columns);
    let width = pictures.iter().map(RgbImage::width).max().unwrap_or(0);
    let height = pictures.iter().map(RgbImage::height).max().unwrap_or(0);
    if width == 0 || height == 0 {
        return RgbImage::from_pixel(0, 0, BACKGROUND);
    }
    let mut sheet = RgbImage::from_pixel(columns * (width + GAP) - GAP, rows * (height + GAP) - GAP, BACKGROUND);
    for (i, picture) in (0u32..).zip(pictures) {
        let x = (i % columns) * (width + GAP) + (width - picture.width()) / 2;
        let y = (i / columns) * (height + GAP) + (height - picture.height()) / 2;
        sheet.paste(picture, x, y);
    }
    sheet
}

const DASH: f32 = 3.5;
const TRUTH_WIDTH: f32 = 1.2;
/// Slower than this an arrow would be a dot (and the heading of a standing object's velocity is noise), m/s.
const SLOWEST_ARROW: f32 = 0.3;

/// Text beside a box.
struct Label<'a> {
    bbox: &'a Box3,
    text: String,
    color: Color,
}

/// In their order; a label that finds no free place is left out rather than drawn over another.
fn draw_labels(canvas: &mut Canvas, layout: &Layout, labels: &[Label<'_>]) {
    let scale = 1.15 * layout.unit;
    let mut taken: Vec<[f32; 4]> = Vec::new();
    for Label { bbox, text, color } in labels.iter().filter(|l| layout.shows(l.bbox)) {
        let size = [text_width(text, scale) + 3.0 * scale, (CAP_HEIGHT + 3.0) * scale];
        let corners = bbox.bev_corners().map(|c| layout.pixel(c));
        let low = [0, 1].map(|k| corners.iter().map(|c| c[k]).fold(f32::INFINITY, f32::min));
        let high = [0, 1].map(|k| corners.iter().map(|c| c[k]).fold(f32::NEG_INFINITY, f32::max));
        let middle = [0, 1].map(|k| 0.5 * (low[k] + high[k] - size[k]));
        let gap = 3.0 * layout.unit;
        let places = [
            [high[0] + gap, middle[1]],
            [low[0] - gap - size[0], middle[1]],
            [middle[0], low[1] - gap - size[1]],
            [middle[0], high[1] + gap],
        ];
        let free = places.into_iter().find(|at| {
            let area = [at[0], at[1], at[0] + size[0], at[1] + size[1]];
            layout.map_contains(area) && taken.iter().all(|other| !overlap(area, *other))
        });
        if let Some(at) = free {
            taken.push([at[0], at[1], at[0] + size[0], at[1] + size[1]]);
            draw_text_outlined(canvas, text, [at[0] + 1.5 * scale, at[1] + 1.5 * scale], scale, *color, BACKGROUND);
        }
    }
}

/// Range rings every 10 m, or as much farther apart as keeps them under eight, each with its radius.
fn draw_rings(canvas: &mut Canvas, layout: &Layout) {
    let step = [10.0, 20.0, 50.0, 100.0, 200.0].into_iter().find(|step| layout.range_m / step <= 7.5).unwrap_or(200.0);
    let step = if layout.range_m < 10.0 { 1.0 } else { step };
    let center = layout.pixel([0.0, 0.0]);
    let u = layout.unit;
    let count = (layout.range_m * std::f32::consts::SQRT_2 / step) as u32;
    for i in 1..=count {
        let radius = i as f32 * step;
        canvas.circle(center, radius * layout.pixels_per_metre(), u, GRID, 0.55);
        if radius <= layout.range_m {
            let [x, y] = layout.pixel([radius, 0.0]);
            draw_text_outlined(canvas, &format!("{radius} m"), [x + 4.0 * u, y + 4.0 * u], u, TEXT_FAINT, BACKGROUND);
        }
    }
    for (a, b) in [([-1.0, 0.0], [1.0, 0.0]), ([0.0, -1.0], [0.0, 1.0])] {
        let end = |[x, y]: [f32; 2]| layout.pixel([x * layout.range_m, y * layout.range_m]);
        canvas.line(end(a), end(b), u, GRID, 0.3);
    }
}

/// Outline, a light fill, a tick from the middle of the front along the heading, and the way of the next second.
fn draw_detection(canvas: &mut Canvas, layout: &Layout, bbox: &Box3, color: Color) {
    let u = layout.unit;
    let corners = bbox.bev_corners().map(|c| layout.pixel(c));
    canvas.fill_convex(&corners, color, 0.18);
    for i in 0..4 {
        canvas.line(corners[i], corners[(i + 1) % 4], 1.8 * u, color, 1.0);
    }
    let tick = (0.35 * bbox.size[0]).clamp(0.6, 2.0);
    let front = heading_point(bbox, 0.5 * bbox.size[0]);
    let end = heading_point(bbox, 0.5 * bbox.size[0] + tick);
    canvas.line(layout.pixel(front), layout.pixel(end), 1.8 * u, color, 1.0);

    let [vx, vy] = bbox.velocity;
    if vx.hypot(vy) >= SLOWEST_ARROW {
        let [x, y, _] = bbox.center;
        draw_arrow(canvas, layout.pixel([x, y]), layout.pixel([x + vx, y + vy]), u, TEXT);
    }
}

fn draw_truth(canvas: &mut Canvas, layout: &Layout, bbox: &Box3) {
    let u = layout.unit;
    let corners = bbox.bev_corners().map(|c| layout.pixel(c));
    for i in 0..4 {
        canvas.dashed_line(corners[i], corners[(i + 1) % 4], DASH * u, TRUTH_WIDTH * u, TRUTH);
    }
    let front = layout.pixel(heading_point(bbox, 0.5 * bbox.size[0]));
    canvas.line(layout.pixel([bbox.center[0], bbox.center[1]]), front, TRUTH_WIDTH * u, TRUTH, 0.8);
}

/// The point `along` metres before the centre, in the direction of the heading.
fn heading_point(bbox: &Box3, along: f32) -> [f32; 2] {
    let (sin, cos) = bbox.yaw.sin_cos();
    [bbox.center[0] + along * cos, bbox.center[1] + along * sin]
}

fn draw_arrow(canvas: &mut Canvas, from: [f32; 2], to: [f32; 2], unit: f32, color: Color) {
    let along = [to[0] - from[0], to[1] - from[1]];
    let length = along[0].hypot(along[1]).max(1e-6);
    let [ux, uy] = along.map(|v| v / length);
    let head = (5.0 * unit).min(0.6 * length);
    canvas.line(from, to, 1.2 * unit, color, 0.95);
    for side in [0.6, -0.6] {
        canvas.line(to, [to[0] - head * (ux - side * uy), to[1] - head * (uy + side * ux)], 1.2 * unit, color, 0.95);
    }
}

/// An arrowhead in the middle that points forward.
fn draw_sensor(canvas: &mut Canvas, layout: &Layout) {
    let [x, y] = layout.pixel([0.0, 0.0]);
    let u = layout.unit;
    canvas.fill_convex(&[[x, y - 9.0 * u], [x + 6.0 * u, y + 7.0 * u], [x - 6.0 * u, y + 7.0 * u]], BACKGROUND, 0.8);
    canvas.fill_convex(&[[x, y - 7.0 * u], [x + 4.5 * u, y + 5.5 * u], [x - 4.5 * u, y + 5.5 * u]], TEXT, 1.0);
}

fn overlap(a: [f32; 4], b: [f32; 4]) -> bool {
    a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn car(x: f32, y: f32) -> ScoredBox {
        let bbox = Box3 { center: [x, y, 0.0], size: [4.0, 2.0, 1.6], yaw: 0.0, velocity: [5.0, 0.0] };
        ScoredBox { bbox, label: 0, score: 0.9 }
    }

    fn draw(points: &[[f32; 3]], detections: &[ScoredBox]) -> RgbImage {
        let classes = ["car".to_string()];
        let picture = BevPicture { pixels: 400, range_m: 20.0, labels: false, ..BevPicture::new(&classes) };
        picture.draw(ndarray::arr2(points).view(), detections, None)
    }

    /// Mean row and column of the pixels by which two pictures differ inside the map.
    fn changed(a: &RgbImage, b: &RgbImage) -> [f32; 2] {
        let pixels = (14..414).flat_map(|y| (0..a.width()).map(move |x| (x, y)));
        let differs: Vec<_> = pixels.filter(|&(x, y)| a.pixel(x, y) != b.pixel(x, y)).collect();
        assert!(!differs.is_empty());
        [0, 1].map(|k| differs.iter().map(|(x, y)| [*x, *y][k] as f32 + 0.5).sum::<f32>() / differs.len() as f32)
    }

    #[test]
    fn forward_is_up_and_left_is_left() {
        let empty = draw(&[], &[]);
        let scale = 400.0 / 40.0;
        for point in [[12.0f32, 0.0, 0.0], [0.0, 13.0, 0.0], [-7.0, -11.0, 1.0]] {
            let [x, y] = changed(&empty, &draw(&[point], &[]));
            assert!((x - (200.0 - point[1] * scale)).abs() < 1.0, "{point:?} at column {x}");
            assert!((y - (14.0 + 200.0 - point[0] * scale)).abs() < 1.0, "{point:?} at row {y}");
        }
        let [x, y] = changed(&empty, &draw(&[], &[car(10.0, 5.0)]));
        assert!((x - 150.0).abs() < 1.0, "column {x}");
        assert!(y < 14.0 + 100.0, "heading tick and velocity arrow point up: row {y}");
    }

    #[test]
    fn a_missed_object_has_a_ring_and_a_false_alarm_a_cross() {
        let classes = ["car".to_string()];
        let picture = BevPicture { pixels: 400, range_m: 20.0, labels: false, ..BevPicture::new(&classes) };
        let (missed, wrong) = (car(10.0, 5.0).bbox, car(-10.0, -5.0).bbox);
        let mark = |bbox, kind| Mark { bbox, kind, text: String::new() };
        let marks = [mark(missed, MarkKind::Missed), mark(wrong, MarkKind::FalseAlarm)];
        let image = picture.draw_marked(ndarray::arr2(&[[0.0f32; 3]; 0]).view(), &[], Some(&[]), &marks);
        // Ten pixels a metre; the ring goes 2 px (4 units) outside the corners of a box of 4 by 2 m.
        let radius = 10.0 * 0.5 * 4.0f32.hypot(2.0) + 2.0;
        let at = |center: [f32; 2], angle: f32, share: f32| {
            let (sin, cos) = angle.sin_cos();
            image.pixel((center[0] + share * radius * cos) as u32, (center[1] + share * radius * sin) as u32)
        };
        let is = |pixel: [u8; 3], color: [u8; 3]| pixel.iter().zip(color).all(|(a, b)| a.abs_diff(b) < 90);
        let (ring, cross) = ([150.0, 114.0], [250.0, 314.0]);
        for eighth in 0..8 {
            let angle = eighth as f32 * std::f32::consts::FRAC_PI_4;
            assert!(is(at(ring, angle, 1.0), [255; 3]), "ring at {angle}");
            assert!(!is(at(ring, angle, 0.7), [255; 3]), "inside of the ring at {angle}");
            assert_eq!(is(at(cross, angle, 0.7), palette::FALSE_ALARM), eighth % 2 == 1, "cross at {angle}");
        }
    }

    #[test]
    fn hostile_numbers_are_drawn_or_left_out() {
        let classes = [];
        let mut wild = car(f32::NAN, f32::INFINITY);
        wild.label = usize::MAX;
        wild.bbox.size = [1e30, -1.0, f32::NAN];
        wild.bbox.velocity = [f32::INFINITY, 1e38];
        let mut huge = car(0.0, 0.0);
        huge.bbox.size = [1e20, 1e-20, 0.0];
        let truth = [wild, huge].map(|d| TruthBox { bbox: d.bbox, label: d.label, points: None });
        let points = ndarray::arr2(&[[f32::NAN, 0.0, 0.0], [1.0, f32::INFINITY, 0.0], [1.0, 1.0, f32::NAN]]);
        for (pixels, range_m) in [(0, f32::NAN), (300, -1.0), (300, 1e30)] {
            let picture = BevPicture { title: "\u{1F600} \n".repeat(40), pixels, range_m, ..BevPicture::new(&classes) };
            let marks = [wild, huge].map(|d| Mark { bbox: d.bbox, kind: MarkKind::Missed, text: "\u{1F600}".repeat(99) });
            let image = picture.draw_marked(points.view(), &[wild, huge], Some(&truth), &marks);
            assert!(image.width() >= 200);
        }
    }

    #[test]
    fn a_contact_sheet_keeps_order_and_holds_every_picture() {
        let colors = [[200, 0, 0], [0, 200, 0], [0, 0, 200]];
        let pictures: Vec<_> = colors.iter().map(|c| RgbImage::from_pixel(10, 20, *c)).collect();
        let sheet = contact_sheet(&pictures, 2);
        assert_eq!(sheet.dimensions(), (28, 48));
        assert_eq!([sheet.pixel(5, 5), sheet.pixel(23, 5), sheet.pixel(5, 40)], colors);
        assert_eq!(contact_sheet(&[], 3).dimensions(), (0, 0));
    }
}
