//! Anti-aliased lines, discs and areas on an RGB image. Pixel coordinates are continuous: the centre of pixel (0, 0) is
//! (0.5, 0.5). Anything outside the image is clipped; a shape with a coordinate that is not finite is not drawn.

use crate::sensor::RgbImage;

/// sRGB.
pub(super) type Color = [u8; 3];

pub(super) struct Canvas {
    image: RgbImage,
}

impl Canvas {
    pub(super) fn new(width: u32, height: u32, background: Color) -> Self {
        Self { image: RgbImage::from_pixel(width, height, background) }
    }

    pub(super) fn into_image(self) -> RgbImage {
        self.image
    }

    /// A straight line with round ends.
    pub(super) fn line(&mut self, a: [f32; 2], b: [f32; 2], width: f32, color: Color, opacity: f32) {
        let along = [b[0] - a[0], b[1] - a[1]];
        let squared = along[0] * along[0] + along[1] * along[1];
        let low = [a[0].min(b[0]), a[1].min(b[1])];
        let high = [a[0].max(b[0]), a[1].max(b[1])];
        self.cover(low, high, 0.5 * width, color, opacity, |p| {
            let from_a = [p[0] - a[0], p[1] - a[1]];
            let t = if squared > 0.0 { ((from_a[0] * along[0] + from_a[1] * along[1]) / squared).clamp(0.0, 1.0) } else { 0.0 };
            (from_a[0] - t * along[0]).hypot(from_a[1] - t * along[1])
        });
    }

    /// A line of dashes and gaps of equal length.
    pub(super) fn dashed_line(&mut self, a: [f32; 2], b: [f32; 2], dash: f32, width: f32, color: Color) {
        const MOST_DASHES: f32 = 1e4; // a box far larger than the picture must not take forever
        let count = ((b[0] - a[0]).hypot(b[1] - a[1]) / (2.0 * dash)).ceil();
        if !count.is_finite() || count > MOST_DASHES {
            return;
        }
        let at = |t: f32| [a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t];
        for i in 0..count as u32 {
            self.line(at(i as f32 / count), at((i as f32 + 0.5) / count), width, color, 1.0);
        }
    }

    pub(super) fn disc(&mut self, center: [f32; 2], radius: f32, color: Color, opacity: f32) {
        self.cover(center, center, radius, color, opacity, |p| (p[0] - center[0]).hypot(p[1] - center[1]));
    }

    pub(super) fn circle(&mut self, center: [f32; 2], radius: f32, width: f32, color: Color, opacity: f32) {
        let low = center.map(|c| c - radius);
        let high = center.map(|c| c + radius);
        self.cover(low, high, 0.5 * width, color, opacity, |p| ((p[0] - center[0]).hypot(p[1] - center[1]) - radius).abs());
    }

    /// A convex polygon whose corners go round in either direction.
    pub(super) fn fill_convex(&mut self, corners: &[[f32; 2]], color: Color, opacity: f32) {
        let fold = |k: usize, f: fn(f32, f32) -> f32, start: f32| corners.iter().map(|c| c[k]).fold(start, f);
        let low = [fold(0, f32::min, f32::INFINITY), fold(1, f32::min, f32::INFINITY)];
        let high = [fold(0, f32::max, f32::NEG_INFINITY), fold(1, f32::max, f32::NEG_INFINITY)];
        let edges = || corners.iter().zip(corners.iter().cycle().skip(1));
        let turn: f32 = edges().map(|(a, b)| a[0] * b[1] - a[1] * b[0]).sum();
        // Corner and outward normal of each edge.
        let sides: Vec<([f32; 2], [f32; 2])> = edges()
            .map(|(a, b)| {
                let edge = [b[0] - a[0], b[1] - a[1]];
                let scale = turn.signum() / edge[0].hypot(edge[1]).max(1e-6);
                (*a, [edge[1] * scale, -edge[0] * scale])
            })
            .collect();
        // Distance outside the farthest edge line: exact along edges, and that is all that can be seen of it.
        self.cover(low, high, 0.0, color, opacity, |p| {
            let outside = |(a, n): &([f32; 2], [f32; 2])| n[0] * (p[0] - a[0]) + n[1] * (p[1] - a[1]);
            sides.iter().map(outside).fold(f32::NEG_INFINITY, f32::max)
        });
    }

    pub(super) fn fill_rect(&mut self, [x, y]: [f32; 2], [width, height]: [f32; 2], color: Color, opacity: f32) {
        self.fill_convex(&[[x, y], [x + width, y], [x + width, y + height], [x, y + height]], color, opacity);
    }

    /// Blends `color` over every pixel whose centre is nearer than `reach` to the shape. `distance` is that of a point to
    /// the shape; `low` and `high` bound the shape. The rim is one pixel wide.
    fn cover(&mut self, low: [f32; 2], high: [f32; 2], reach: f32, color: Color, opacity: f32, distance: impl Fn([f32; 2]) -> f32) {
        if !low.iter().chain(&high).all(|v| v.is_finite()) {
            return;
        }
        let (width, height) = self.image.dimensions();
        let first = |v: f32| (v - reach - 1.0).max(0.0) as u32;
        let last = |v: f32, limit: u32| ((v + reach + 1.0).max(0.0) as u32).saturating_add(1).min(limit);
        for row in first(low[1])..last(high[1], height) {
            for column in first(low[0])..last(high[0], width) {
                let covered = (reach + 0.5 - distance([column as f32 + 0.5, row as f32 + 0.5])).clamp(0.0, 1.0) * opacity;
                if covered > 0.0 {
                    let pixel = self.image.pixel_mut(column, row);
                    for (channel, ink) in pixel.iter_mut().zip(color) {
                        *channel = (*channel as f32 + covered * (ink as f32 - *channel as f32)).round() as u8;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ink on the canvas in units of fully covered pixels.
    fn ink(canvas: Canvas) -> f32 {
        canvas.into_image().pixels().map(|p| p[0] as f32 / 255.0).sum()
    }

    #[test]
    fn shapes_cover_their_area() {
        let mut canvas = Canvas::new(64, 64, [0; 3]);
        canvas.disc([30.3, 31.7], 12.0, [255; 3], 1.0);
        assert!((ink(canvas) - 452.4).abs() < 5.0);

        let mut canvas = Canvas::new(64, 64, [0; 3]);
        canvas.fill_convex(&[[10.0, 20.0], [30.0, 5.0], [45.0, 25.0], [25.0, 40.0]], [255; 3], 1.0);
        assert!((ink(canvas) - 625.0).abs() < 10.0);

        let mut canvas = Canvas::new(64, 64, [0; 3]);
        canvas.line([10.0, 10.0], [40.0, 50.0], 3.0, [255; 3], 1.0); // 50 long, and two half discs
        assert!((ink(canvas) - (150.0 + 7.07)).abs() < 3.0);

        let mut canvas = Canvas::new(64, 64, [0; 3]);
        canvas.circle([32.0, 32.0], 20.0, 2.0, [255; 3], 1.0);
        assert!((ink(canvas) - 251.3).abs() < 3.0);
    }

    #[test]
    fn shapes_outside_or_not_finite_leave_the_canvas_alone() {
        let mut canvas = Canvas::new(8, 8, [0; 3]);
        canvas.line([f32::NAN, 0.0], [4.0, 4.0], 2.0, [255; 3], 1.0);
        canvas.disc([f32::INFINITY, 0.0], 2.0, [255; 3], 1.0);
        canvas.disc([-1e30, 1e30], 2.0, [255; 3], 1.0);
        canvas.dashed_line([0.0, 0.0], [1e30, 0.0], 2.0, 1.0, [255; 3]);
        canvas.fill_convex(&[], [255; 3], 1.0);
        assert_eq!(ink(canvas), 0.0);
    }
}
