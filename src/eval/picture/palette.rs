//! Colours that stay apart for colour-blind eyes and on a dark ground.

use super::canvas::Color;

pub(super) const BACKGROUND: Color = [13, 15, 20];
pub(super) const PANEL: Color = [24, 27, 34];
pub(super) const GRID: Color = [70, 76, 90];
pub(super) const TEXT: Color = [214, 218, 226];
pub(super) const TEXT_FAINT: Color = [132, 139, 155];
pub(super) const TRUTH: Color = [255, 255, 255];
pub(super) const FALSE_ALARM: Color = [255, 70, 70];

/// Colour of a class: fixed for the names of nuScenes, KITTI, Waymo and Argoverse, so that pictures of different models compare;
/// other names take a colour by their place in the list of classes.
pub fn class_color(name: &str, index: usize) -> [u8; 3] {
    let name = name.to_ascii_lowercase();
    let known = match name.as_str() {
        "car" | "vehicle" | "regular_vehicle" => Some(0),
        "pedestrian" | "person" | "person_sitting" => Some(1),
        "bicycle" | "cyclist" => Some(2),
        "truck" => Some(3),
        "bus" => Some(4),
        "motorcycle" => Some(5),
        "traffic_cone" | "construction_cone" => Some(6),
        "barrier" => Some(7),
        "trailer" => Some(8),
        "construction_vehicle" | "van" => Some(9),
        _ => None,
    };
    CLASS_COLORS[known.unwrap_or(index) % CLASS_COLORS.len()]
}

/// After Okabe and Ito (2008), "Color universal design"; the darkest are lifted to show on the dark ground, and three lighter
/// ones follow. Ten colours cannot all stay apart for everybody: rare classes share a hue with a common one at another lightness.
const CLASS_COLORS: [Color; 10] = [
    [255, 165, 20],  // orange
    [244, 114, 182], // reddish purple, lifted
    [80, 200, 120],  // bluish green, lifted
    [240, 84, 40],   // vermillion, lifted
    [245, 232, 80],  // yellow
    [120, 220, 255], // sky blue, lifted
    [255, 196, 150], // pale orange
    [170, 170, 255], // periwinkle
    [190, 80, 30],   // brown
    [200, 215, 130], // pale olive
];

/// Perceptually even ramp from dark blue over teal to pale green for `t` in 0..=1 (values outside are clamped). Its lightness grows
/// with `t`, and none of its colours is a class's.
pub(super) fn ramp(t: f32) -> Color {
    const STOPS: [[f32; 3]; 6] =
        [[52.0, 48.0, 92.0], [64.0, 72.0, 138.0], [55.0, 104.0, 160.0], [52.0, 146.0, 168.0], [80.0, 188.0, 176.0], [200.0, 238.0, 214.0]];
    let t = if t.is_finite() { t.clamp(0.0, 1.0) } else { 0.0 } * (STOPS.len() - 1) as f32;
    let i = (t as usize).min(STOPS.len() - 2);
    [0, 1, 2].map(|c| (STOPS[i][c] + (t - i as f32) * (STOPS[i + 1][c] - STOPS[i][c])).round() as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn luma(c: Color) -> f32 {
        0.2126 * c[0] as f32 + 0.7152 * c[1] as f32 + 0.0722 * c[2] as f32
    }

    #[test]
    fn the_ramp_grows_lighter_all_the_way() {
        let lightness: Vec<f32> = (0..=100).map(|i| luma(ramp(i as f32 / 100.0))).collect();
        assert!(lightness.windows(2).all(|w| w[1] >= w[0]), "{lightness:?}");
        assert_eq!(ramp(f32::NAN), ramp(-3.0));
        assert_eq!(ramp(7.0), ramp(1.0));
    }

    #[test]
    fn every_class_shows_on_the_dark_ground() {
        for color in CLASS_COLORS {
            assert!(luma(color) - luma(BACKGROUND) > 70.0, "{color:?}");
        }
        assert_eq!(class_color("Car", 5), class_color("car", 0));
        assert_eq!(class_color("zebra", 12), CLASS_COLORS[2]);
    }
}
