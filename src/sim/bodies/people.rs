//! People on foot and on two wheels.

use super::{Body, ObjectClass};
use crate::random::Rng;
use crate::sim::solid::{Look, Part, Surface, Vec3};

/// What a person looks like.
#[derive(Clone, Debug)]
pub(crate) struct Person {
    pub height: f32,
    /// Across the shoulders, arms included.
    pub width: f32,
    /// From heel to toe in mid stride.
    pub stride: f32,
    pub luggage: Luggage,
    clothes: [Surface; 2],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Luggage {
    None,
    Backpack,
    Bag,
    /// A reflecting vest.
    Vest,
}

/// What the legs do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Gait {
    Standing,
    /// Phase of the stride, radians; a full turn is two steps.
    Walking(f32),
}

impl Person {
    pub fn draw(rng: &mut Rng) -> Self {
        let child = rng.chance(0.07);
        let height = if child { rng.around(1.28, 0.12) } else { rng.around(1.77, 0.10) };
        let cloth = |rng: &mut Rng| Surface::matt(rng.range(0.12, 0.75)).looking(Look::Cloth);
        let luggage = [Luggage::None, Luggage::Backpack, Luggage::Bag][rng.weighted(&[0.6, 0.2, 0.2])];
        let clothes = [cloth(rng), cloth(rng)];
        Self { height, width: 0.37 * height * rng.around(1.0, 0.06), stride: 0.42 * height * rng.around(1.0, 0.06), luggage, clothes }
    }

    pub fn worker(rng: &mut Rng) -> Self {
        Self { luggage: Luggage::Vest, ..Self::draw(rng) }
    }
}

/// The box does not change with the phase of the stride, as an annotator's does not.
pub(crate) fn pedestrian(person: &Person, gait: Gait) -> Body {
    let (h, [trousers, jacket]) = (person.height, person.clothes);
    let (hip, shoulder) = (0.52 * h, 0.82 * h);
    let (reach, across) = (0.5 * person.stride, 0.5 * person.width);
    let swing = match gait {
        Gait::Standing => 0.0,
        Gait::Walking(phase) => phase.sin(),
    };
    let v = Vec3::new;
    let mut parts = Vec::with_capacity(12);
    for side in [-1.0, 1.0] {
        let y = side * 0.075 * h / 1.77 * 1.3;
        // The foot that comes forward is lifted; the arm on the same side goes back.
        let foot = side * swing * (reach - 0.14);
        let lift = if let Gait::Walking(phase) = gait { (0.06 * side * phase.cos()).max(0.0) } else { 0.0 };
        parts.push(Part::bar(v(0.0, y, hip + 0.02), v(0.6 * foot + 0.02, y, 0.5 * hip + lift), [0.15, 0.15], true, trousers));
        parts.push(Part::bar(v(0.6 * foot + 0.02, y, 0.5 * hip + lift), v(foot, y, 0.06 + lift), [0.12, 0.12], true, trousers));
        parts.push(Part::cuboid([foot + 0.02, y, 0.05 + lift], [0.25, 0.10, 0.10], Surface::DARK));
        let arm = across - 0.05;
        let hand = -side * swing * (reach - 0.12);
        parts.push(Part::bar(v(0.0, side * arm, shoulder - 0.02), v(0.45 * hand, side * arm, 0.62 * h), [0.10, 0.10], true, jacket));
        parts.push(Part::bar(
            v(0.45 * hand, side * arm, 0.62 * h),
            v(hand + 0.06, side * arm, 0.49 * h),
            [0.085, 0.085],
            true,
            Surface::SKIN,
        ));
    }
    let torso_width = 2.0 * across - 0.14;
    parts.push(Part::ellipsoid([0.0, 0.0, 0.5 * (hip + shoulder) + 0.02], [0.30, torso_width, shoulder - hip + 0.16], jacket));
    parts.push(Part::upright([0.0, 0.0], [shoulder - 0.02, 0.89 * h], [0.065, 0.06], Surface::SKIN));
    parts.push(Part::ellipsoid([0.01, 0.0, 0.93 * h], [0.20, 0.16, 0.14 * h], Surface::SKIN.looking(Look::Head)));
    match person.luggage {
        Luggage::None => {}
        Luggage::Backpack => parts.push(Part::cuboid([-0.2, 0.0, 0.69 * h], [0.2, 0.3, 0.42], Surface::matt(0.2).looking(Look::Coloured))),
        Luggage::Bag => {
            parts.push(Part::cuboid([0.0, across - 0.08, 0.38 * h], [0.3, 0.12, 0.3], Surface::matt(0.2).looking(Look::Coloured)))
        }
        Luggage::Vest => {
            parts.push(Part::cuboid([0.0, 0.0, 0.68 * h], [0.302, 0.7 * torso_width, 0.06], Surface::RETRO.looking(Look::HiVis)))
        }
    }
    Body { class: ObjectClass::Pedestrian, size: [2.0 * reach, 2.0 * across, h], parts }
}

/// Somebody who sits at `seat` and holds on to `hands`, both given as x and z, with the elbows `width` apart.
pub(super) fn rider(person: &Person, seat: [f32; 2], hands: [f32; 2], width: f32) -> Vec<Part> {
    let scale = person.height / 1.77;
    let [trousers, jacket] = person.clothes;
    let v = Vec3::new;
    let shoulder = v(seat[0] + 0.18, 0.0, seat[1] + 0.50 * scale);
    let mut parts = vec![
        Part::bar(v(seat[0], 0.0, seat[1]), shoulder, [0.26, 0.36 * scale], false, jacket),
        Part::ellipsoid([shoulder.x + 0.05, 0.0, shoulder.z + 0.17], [0.26, 0.22, 0.28], Surface::matt(0.4).looking(Look::Helmet)),
    ];
    for side in [-1.0, 1.0] {
        let y = side * 0.13;
        let knee = v(seat[0] + 0.38, side * 0.16, seat[1] - 0.18);
        let elbow = v(shoulder.x + 0.12, side * (0.5 * width - 0.05), shoulder.z - 0.25);
        parts.push(Part::bar(v(seat[0], y, seat[1]), knee, [0.15, 0.15], true, trousers));
        parts.push(Part::bar(knee, v(seat[0] + 0.2, y, (seat[1] - 0.62).max(0.12)), [0.11, 0.11], true, trousers));
        parts.push(Part::bar(v(shoulder.x, side * 0.17 * scale, shoulder.z - 0.04), elbow, [0.10, 0.10], true, jacket));
        parts.push(Part::bar(elbow, v(hands[0], side * 0.4 * width, hands[1]), [0.08, 0.08], true, Surface::SKIN));
    }
    parts
}
