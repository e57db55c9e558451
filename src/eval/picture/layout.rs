//! Where the map, the title and the legend of a picture stand.

use super::canvas::Canvas;
use super::font::{CAP_HEIGHT, draw_text, text_width};
use super::palette::TEXT;
use crate::geometry::Box3;

/// Height of a line of the legend, units.
const LEGEND_LINE: f32 = 18.0;

/// Where things are, in pixels.
pub(super) struct Layout {
    pub size: [u32; 2],
    pub range_m: f32,
    pub map_size: f32,
    pub title_height: f32,
    pub legend_height: f32,
    /// One pixel of a picture 800 wide: everything drawn scales with it.
    pub unit: f32,
}

impl Layout {
    /// `legend_lines`: what the legend has room for.
    pub fn new(pixels: u32, range_m: f32, legend_lines: u32) -> Self {
        let pixels = pixels.clamp(200, 4000);
        let unit = pixels as f32 / 800.0;
        let title_height = (28.0 * unit).round();
        let legend_height = ((8.0 + LEGEND_LINE * legend_lines as f32) * unit).round();
        let range_m = if range_m.is_finite() { range_m.clamp(1.0, 1000.0) } else { 50.0 };
        Self {
            size: [pixels, pixels + title_height as u32 + legend_height as u32],
            range_m,
            map_size: pixels as f32,
            title_height,
            legend_height,
            unit,
        }
    }

    pub fn pixels_per_metre(&self) -> f32 {
        0.5 * self.map_size / self.range_m
    }

    /// Of a place in the ground plane, metres.
    pub fn pixel(&self, [x, y]: [f32; 2]) -> [f32; 2] {
        let middle = 0.5 * self.map_size;
        [middle - y * self.pixels_per_metre(), self.title_height + middle - x * self.pixels_per_metre()]
    }

    pub fn shows(&self, bbox: &Box3) -> bool {
        bbox.center[0].abs() <= self.range_m && bbox.center[1].abs() <= self.range_m
    }

    pub fn map_contains(&self, [x0, y0, x1, y1]: [f32; 4]) -> bool {
        x0 >= 0.0 && x1 <= self.map_size && y0 >= self.title_height && y1 <= self.title_height + self.map_size
    }
}

/// Places legend entries from left to right and breaks lines.
pub(super) struct LegendFlow {
    unit: f32,
    margin: f32,
    width: f32,
    /// Left end and middle of the line.
    at: [f32; 2],
    line_height: f32,
}

impl LegendFlow {
    pub fn new(layout: &Layout, top: f32) -> Self {
        let margin = 12.0 * layout.unit;
        let line_height = LEGEND_LINE * layout.unit;
        Self {
            unit: layout.unit,
            margin,
            width: layout.size[0] as f32,
            at: [margin, top + 4.0 * layout.unit + 0.5 * line_height],
            line_height,
        }
    }

    /// `symbol` draws 16 units wide from the point that it is given.
    pub fn entry(&mut self, canvas: &mut Canvas, text: &str, symbol: impl Fn(&mut Canvas, [f32; 2], f32)) {
        let scale = 1.2 * self.unit;
        let text_at = 22.0 * self.unit;
        let width = text_at + text_width(text, scale);
        if self.at[0] + width + self.margin > self.width {
            self.at = [self.margin, self.at[1] + self.line_height];
        }
        symbol(canvas, self.at, self.unit);
        draw_text(canvas, text, [self.at[0] + text_at, self.at[1] - 0.5 * CAP_HEIGHT * scale], scale, TEXT);
        self.at[0] += width + 18.0 * self.unit;
    }
}
