//! What a picture points at: objects that were missed, boxes where nothing is.

use super::canvas::{Canvas, Color};
use super::layout::Layout;
use super::palette::{FALSE_ALARM, TRUTH};
use crate::geometry::Box3;

/// Something about a box that a picture points at.
#[derive(Clone, Debug, PartialEq)]
pub struct Mark {
    pub bbox: Box3,
    pub kind: MarkKind,
    /// Stands beside it.
    pub text: String,
}

/// Told apart by shape, so that colour is not needed for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MarkKind {
    /// An object that was not found: a ring around it.
    Missed,
    /// A box where no object is: a cross over it.
    FalseAlarm,
}

impl MarkKind {
    pub const ALL: [Self; 2] = [Self::Missed, Self::FalseAlarm];

    pub fn name(self) -> &'static str {
        match self {
            Self::Missed => "missed",
            Self::FalseAlarm => "false alarm",
        }
    }

    /// Rings belong to the labelled outlines, and have their colour.
    pub(super) fn color(self) -> Color {
        match self {
            Self::Missed => TRUTH,
            Self::FalseAlarm => FALSE_ALARM,
        }
    }

    /// Around a pixel; `unit` as in the layout.
    pub(super) fn draw(self, canvas: &mut Canvas, [x, y]: [f32; 2], radius: f32, unit: f32) {
        let (width, color) = (2.2 * unit, self.color());
        match self {
            Self::Missed => canvas.circle([x, y], radius, width, color, 1.0),
            Self::FalseAlarm => {
                let r = radius * std::f32::consts::FRAC_1_SQRT_2;
                canvas.line([x - r, y - r], [x + r, y + r], width, color, 1.0);
                canvas.line([x - r, y + r], [x + r, y - r], width, color, 1.0);
            }
        }
    }
}

impl Mark {
    /// Large enough to be seen from afar, and to let the box inside be seen.
    pub(super) fn draw(&self, canvas: &mut Canvas, layout: &Layout) {
        const SMALLEST: f32 = 9.0;
        const MARGIN: f32 = 4.0;
        let [length, width, _] = self.bbox.size;
        let half_diagonal = 0.5 * length.hypot(width) * layout.pixels_per_metre();
        let radius = (half_diagonal + MARGIN * layout.unit).max(SMALLEST * layout.unit);
        // A ring far larger than the picture shows nothing, and would take long.
        if layout.shows(&self.bbox) && radius < layout.map_size {
            self.kind.draw(canvas, layout.pixel([self.bbox.center[0], self.bbox.center[1]]), radius, layout.unit);
        }
    }
}
