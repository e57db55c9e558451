//! What the labelled objects are made of: a handful of convex parts for each, in a frame that stands on the ground below the
//! middle of the object's box, x forward.
//!
//! Sizes are drawn around the class means of nuScenes; a pickup is a truck there, and so it is here.

mod heavy;
mod people;
mod road;
mod street;

use super::solid::{Part, Vec3};

pub(crate) use heavy::{bus, construction_vehicle, tractor, trailer, truck};
pub(crate) use people::{Gait, Person, pedestrian};
pub(crate) use road::{bicycle, car, ego, motorcycle};
pub(crate) use street::{barrier, traffic_cone};

/// The ten classes of nuScenes detection, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ObjectClass {
    Car,
    Truck,
    ConstructionVehicle,
    Bus,
    Trailer,
    Barrier,
    Motorcycle,
    Bicycle,
    Pedestrian,
    TrafficCone,
}

impl ObjectClass {
    pub const ALL: [Self; 10] = [
        Self::Car,
        Self::Truck,
        Self::ConstructionVehicle,
        Self::Bus,
        Self::Trailer,
        Self::Barrier,
        Self::Motorcycle,
        Self::Bicycle,
        Self::Pedestrian,
        Self::TrafficCone,
    ];

    /// The name that nuScenes uses.
    pub fn name(self) -> &'static str {
        match self {
            Self::Car => "car",
            Self::Truck => "truck",
            Self::ConstructionVehicle => "construction_vehicle",
            Self::Bus => "bus",
            Self::Trailer => "trailer",
            Self::Barrier => "barrier",
            Self::Motorcycle => "motorcycle",
            Self::Bicycle => "bicycle",
            Self::Pedestrian => "pedestrian",
            Self::TrafficCone => "traffic_cone",
        }
    }
}

/// An object's shape.
#[derive(Clone, Debug)]
pub(crate) struct Body {
    pub class: ObjectClass,
    /// Length, width, height of the tight box, which stands on the origin's plane and is centred over it.
    pub size: [f32; 3],
    pub parts: Vec<Part>,
}

impl Body {
    /// Shifts the parts so that their box is centred, and takes the box from them: it is tight by construction.
    fn new(class: ObjectClass, mut parts: Vec<Part>) -> Self {
        let (mut low, mut high) = (Vec3::repeat(f32::INFINITY), Vec3::repeat(f32::NEG_INFINITY));
        for part in &parts {
            let extent = part.extent();
            low = low.inf(&(part.center - extent));
            high = high.sup(&(part.center + extent));
        }
        let shift = Vec3::new(0.5 * (low.x + high.x), 0.5 * (low.y + high.y), low.z);
        for part in &mut parts {
            part.center -= shift;
        }
        Self { class, size: (high - low).into(), parts }
    }

    /// From the middle of the body to the corner of its box, seen from above.
    pub fn radius(&self) -> f32 {
        0.5 * self.size[0].hypot(self.size[1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Rng;

    type Maker = fn(&mut Rng) -> Body;

    /// nuScenes' mean heights are over ridden and parked ones.
    fn mixed(rng: &mut Rng, make: fn(&mut Rng, bool) -> Body) -> Body {
        let ridden = rng.chance(0.4);
        make(rng, ridden)
    }

    #[test]
    fn class_means_are_those_of_nuscenes() {
        let expected: [(Maker, [f32; 3]); 10] = [
            (car, [4.63, 1.97, 1.74]),
            (truck, [6.93, 2.51, 2.84]),
            (construction_vehicle, [6.37, 2.85, 3.19]),
            (bus, [10.5, 2.94, 3.47]),
            (trailer, [12.29, 2.90, 3.87]),
            (barrier, [0.50, 2.53, 0.98]),
            (|rng| mixed(rng, motorcycle), [2.11, 0.77, 1.47]),
            (|rng| mixed(rng, bicycle), [1.70, 0.60, 1.28]),
            (|rng| pedestrian(&Person::draw(rng), Gait::Standing), [0.73, 0.67, 1.77]),
            (traffic_cone, [0.41, 0.41, 1.07]),
        ];
        for ((make, size), class) in expected.into_iter().zip(ObjectClass::ALL) {
            let mut rng = Rng::new(5, "sizes");
            let bodies: Vec<Body> = (0..400).map(|_| make(&mut rng)).collect();
            for (axis, wanted) in size.into_iter().enumerate() {
                let mean = bodies.iter().map(|b| b.size[axis]).sum::<f32>() / bodies.len() as f32;
                assert!((mean / wanted - 1.0).abs() < 0.13, "{class:?} axis {axis}: mean {mean}, nuScenes {wanted}");
            }
            assert!(bodies.iter().all(|b| b.class == class));
        }
    }

    #[test]
    fn boxes_are_tight_and_stand_on_the_ground() {
        let mut rng = Rng::new(6, "tight");
        for body in [car(&mut rng), truck(&mut rng), construction_vehicle(&mut rng), traffic_cone(&mut rng)] {
            let high = body.parts.iter().fold(Vec3::zeros(), |m, p| m.sup(&(p.center + p.extent())));
            let low = body.parts.iter().fold(Vec3::repeat(9.0), |m, p| m.inf(&(p.center - p.extent())));
            let half = Vec3::new(0.5 * body.size[0], 0.5 * body.size[1], body.size[2]);
            assert!((high - half).norm() < 1e-4 && (low + Vec3::new(half.x, half.y, 0.0)).norm() < 1e-4);
        }
    }
}
