//! Convex solids, where a ray enters and leaves them, what their surface does with a laser, and what it looks like.

use nalgebra::{Matrix3, Vector3};

pub(crate) type Vec3 = Vector3<f32>;
pub(crate) type Mat3 = Matrix3<f32>;

/// A convex shape in its own frame, centred on the origin, within `+-half` of its [`Part`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Solid {
    Cuboid,
    /// A cuboid whose upper face is smaller: from `top_x[0]` to `top_x[1]` along x and `+-top_y` across. Wedges, cabins
    /// with slanted windscreens, gables.
    Prismoid {
        top_x: [f32; 2],
        top_y: f32,
    },
    /// A truncated cone about z with these radii; a cylinder if they are equal.
    Round {
        bottom: f32,
        top: f32,
    },
    Ellipsoid,
}

/// What a surface does with a laser beam.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Surface {
    /// Diffuse reflectance at 905 nm, 0 to 1.
    pub reflectance: f32,
    /// Share of beams that go through without a return (glass, the gaps of a fence).
    pub passes: f32,
    /// Mean number of returns per metre inside a cloud of leaves; 0 for a solid body.
    pub density: f32,
    /// 0 for a matt surface; a glossy one sends oblique beams away.
    pub gloss: f32,
    /// A retroreflector: number plates, traffic signs, the collars of cones.
    pub retro: bool,
    /// For cameras; the laser does not know it.
    pub look: Look,
}

/// What a surface is made of, as far as a camera can tell. Colours that differ from object to object are drawn from the
/// object's identity when it is rendered, so that they take no random number from the town or the traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// Concrete, stone, plastic: grey by its reflectance.
    Plain,
    /// Something man-made with a colour of its own.
    Coloured,
    /// Vehicle paint, and the lower body of a car with lamps, grille and doors on it.
    Paint,
    CarBody,
    Cab,
    Coach,
    /// The walls of a box body or container.
    Cargo,
    Glass,
    Tyre,
    Spokes,
    Dark,
    Steel,
    Plate,
    TailLamp,
    Skin,
    Head,
    Helmet,
    Cloth,
    HiVis,
    /// Paint of construction machines.
    Machine,
    Orange,
    Collar,
    /// Red and white boards, and the plastic or concrete of a barrier.
    Board,
    Barrier,
    Facade,
    Roof,
    Masonry,
    Bark,
    Leaves,
    Mesh,
    Wood,
    Soil,
    Sign,
    Signal,
}

impl Surface {
    pub const fn matt(reflectance: f32) -> Self {
        Self { reflectance, passes: 0.0, density: 0.0, gloss: 0.0, retro: false, look: Look::Plain }
    }
    pub const fn glossy(reflectance: f32) -> Self {
        Self { gloss: 1.0, look: Look::Paint, ..Self::matt(reflectance) }
    }
    pub const fn porous(reflectance: f32, passes: f32) -> Self {
        Self { passes, look: Look::Mesh, ..Self::matt(reflectance) }
    }
    pub const fn leaves(reflectance: f32, density: f32) -> Self {
        Self { density, look: Look::Leaves, ..Self::matt(reflectance) }
    }
    pub const fn looking(self, look: Look) -> Self {
        Self { look, ..self }
    }
    pub const GLASS: Self = Self { passes: 0.62, gloss: 1.0, look: Look::Glass, ..Self::matt(0.06) };
    pub const RUBBER: Self = Self::matt(0.05).looking(Look::Tyre);
    pub const DARK: Self = Self::matt(0.09).looking(Look::Dark);
    pub const STEEL: Self = Self { gloss: 0.5, look: Look::Steel, ..Self::matt(0.35) };
    pub const RETRO: Self = Self { retro: true, look: Look::Plate, ..Self::matt(0.9) };
    pub const SKIN: Self = Self::matt(0.45).looking(Look::Skin);
}

/// A solid somewhere, in the frame of whatever it is a part of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Part {
    pub solid: Solid,
    pub center: Vec3,
    /// Takes the solid's own axes to those of the frame.
    pub rotation: Mat3,
    pub half: Vec3,
    pub surface: Surface,
}

/// Where a ray is inside a solid.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Span {
    pub near: f32,
    pub far: f32,
    /// Outward, at the entrance, in the solid's own axes, of unit length.
    pub normal: Vec3,
}

impl Part {
    pub fn cuboid(center: [f32; 3], size: [f32; 3], surface: Surface) -> Self {
        Self::new(Solid::Cuboid, center, size, surface)
    }

    pub fn ellipsoid(center: [f32; 3], size: [f32; 3], surface: Surface) -> Self {
        Self::new(Solid::Ellipsoid, center, size, surface)
    }

    /// Upright, from height `z[0]` to `z[1]`, with the radius at each end.
    pub fn upright(xy: [f32; 2], z: [f32; 2], radius: [f32; 2], surface: Surface) -> Self {
        let widest = 2.0 * radius[0].max(radius[1]);
        let solid = Solid::Round { bottom: radius[0], top: radius[1] };
        Self::new(solid, [xy[0], xy[1], 0.5 * (z[0] + z[1])], [widest, widest, z[1] - z[0]], surface)
    }

    /// A disc with its axle along y.
    pub fn wheel(center: [f32; 3], radius: f32, width: f32, surface: Surface) -> Self {
        let solid = Solid::Round { bottom: radius, top: radius };
        let axle = Mat3::new(1.0, 0.0, 0.0, 0.0, 0.0, -1.0, 0.0, 1.0, 0.0);
        Self { rotation: axle, ..Self::new(solid, center, [2.0 * radius, 2.0 * radius, width], surface) }
    }

    /// A bottom face `x` by `+-y` at height `z[0]` and a top face `top_x` by `+-top_y`, inside the bottom one, at `z[1]`.
    pub fn prismoid(x: [f32; 2], y: f32, z: [f32; 2], top_x: [f32; 2], top_y: f32, surface: Surface) -> Self {
        let middle = 0.5 * (x[0] + x[1]);
        let solid = Solid::Prismoid { top_x: top_x.map(|t| t - middle), top_y };
        Self::new(solid, [middle, 0.0, 0.5 * (z[0] + z[1])], [x[1] - x[0], 2.0 * y, z[1] - z[0]], surface)
    }

    /// A round or square bar between two points.
    pub fn bar(from: Vec3, to: Vec3, width: [f32; 2], round: bool, surface: Surface) -> Self {
        let along = to - from;
        let z = along.normalize();
        let helper = if z.y.abs() < 0.9 { Vec3::y() } else { Vec3::x() };
        let x = helper.cross(&z).normalize();
        let rotation = Mat3::from_columns(&[x, z.cross(&x), z]);
        let solid = if round { Solid::Round { bottom: 0.5 * width[0], top: 0.5 * width[0] } } else { Solid::Cuboid };
        let size = [width[0], if round { width[0] } else { width[1] }, along.norm()];
        Self { rotation, ..Self::new(solid, (0.5 * (from + to)).into(), size, surface) }
    }

    fn new(solid: Solid, center: [f32; 3], size: [f32; 3], surface: Surface) -> Self {
        Self { solid, center: center.into(), rotation: Mat3::identity(), half: 0.5 * Vec3::from(size), surface }
    }

    /// The part as its owner stands at `position` with heading `yaw`.
    pub fn placed(&self, position: Vec3, yaw: f32) -> Self {
        let turn = turn_about_z(yaw);
        Self { center: position + turn * self.center, rotation: turn * self.rotation, ..*self }
    }

    /// The part of a model of another scale.
    pub fn scaled(&self, by: f32) -> Self {
        let solid = match self.solid {
            Solid::Round { bottom, top } => Solid::Round { bottom: bottom * by, top: top * by },
            Solid::Prismoid { top_x, top_y } => Solid::Prismoid { top_x: top_x.map(|x| x * by), top_y: top_y * by },
            unchanged => unchanged,
        };
        Self { solid, center: self.center * by, half: self.half * by, ..*self }
    }

    pub fn turned(mut self, yaw: f32) -> Self {
        self.rotation = turn_about_z(yaw) * self.rotation;
        self
    }

    /// Half of the extent along each axis of the frame; exact.
    pub fn extent(&self) -> Vec3 {
        let r = &self.rotation;
        match self.solid {
            Solid::Cuboid | Solid::Prismoid { .. } => r.abs() * self.half,
            Solid::Ellipsoid => Vec3::from_fn(|i, _| (0..3).map(|j| (r[(i, j)] * self.half[j]).powi(2)).sum::<f32>().sqrt()),
            Solid::Round { bottom, top } => {
                Vec3::from_fn(|i, _| r[(i, 2)].abs() * self.half.z + bottom.max(top) * (1.0 - r[(i, 2)].powi(2)).max(0.0).sqrt())
            }
        }
    }
}

pub(crate) fn turn_about_z(yaw: f32) -> Mat3 {
    let (sin, cos) = yaw.sin_cos();
    Mat3::new(cos, -sin, 0.0, sin, cos, 0.0, 0.0, 0.0, 1.0)
}

impl Solid {
    /// Where the ray `origin + t * direction` is inside, for any real t. `direction` has unit length.
    pub fn span(&self, half: &Vec3, origin: &Vec3, direction: &Vec3) -> Option<Span> {
        match *self {
            Solid::Cuboid => Clip::everything().slabs(half, origin, direction)?.finish(),
            Solid::Prismoid { top_x, top_y } => {
                let mut clip = Clip::everything();
                clip.half_space(Vec3::z(), half.z, origin, direction)?;
                clip.half_space(-Vec3::z(), half.z, origin, direction)?;
                // At height z the solid ends at x = middle + slope * z, and likewise on the other three sides.
                for (bottom, top, axis) in [
                    (half.x, top_x[1], Vec3::x()),
                    (half.x, -top_x[0], -Vec3::x()),
                    (half.y, top_y, Vec3::y()),
                    (half.y, top_y, -Vec3::y()),
                ] {
                    let slope = (top - bottom) / (2.0 * half.z);
                    clip.half_space(axis - slope * Vec3::z(), 0.5 * (top + bottom), origin, direction)?;
                }
                clip.finish()
            }
            Solid::Round { bottom, top } => round_span(bottom, top, half.z, origin, direction),
            Solid::Ellipsoid => ellipsoid_span(half, origin, direction),
        }
    }
}

/// The part of a ray that half spaces have left over.
struct Clip {
    near: f32,
    far: f32,
    normal: Vec3,
}

impl Clip {
    fn everything() -> Self {
        Self { near: f32::NEG_INFINITY, far: f32::INFINITY, normal: Vec3::zeros() }
    }

    /// Keeps `normal . p <= offset`; `None` when nothing is left.
    fn half_space(&mut self, normal: Vec3, offset: f32, origin: &Vec3, direction: &Vec3) -> Option<()> {
        let outside = normal.dot(origin) - offset;
        let speed = normal.dot(direction);
        if speed < 0.0 {
            let t = -outside / speed;
            if t > self.near {
                (self.near, self.normal) = (t, normal);
            }
        } else if speed > 0.0 {
            self.far = self.far.min(-outside / speed);
        } else if outside > 0.0 {
            return None;
        }
        (self.near <= self.far).then_some(())
    }

    fn slabs(mut self, half: &Vec3, origin: &Vec3, direction: &Vec3) -> Option<Self> {
        for axis in 0..3 {
            let (o, d, h) = (origin[axis], direction[axis], half[axis]);
            if d == 0.0 {
                if o.abs() > h {
                    return None;
                }
                continue;
            }
            let enter = (-h * d.signum() - o) / d;
            let leave = (h * d.signum() - o) / d;
            if enter > self.near {
                self.near = enter;
                self.normal = Vec3::zeros();
                self.normal[axis] = -d.signum();
            }
            self.far = self.far.min(leave);
            if self.near > self.far {
                return None;
            }
        }
        Some(self)
    }

    fn finish(self) -> Option<Span> {
        Some(Span { near: self.near, far: self.far, normal: self.normal.try_normalize(1e-9).unwrap_or_default() })
    }
}

fn round_span(bottom: f32, top: f32, half_height: f32, o: &Vec3, d: &Vec3) -> Option<Span> {
    let mut clip = Clip::everything();
    clip.half_space(Vec3::z(), half_height, o, d)?;
    clip.half_space(-Vec3::z(), half_height, o, d)?;
    let slope = (top - bottom) / (2.0 * half_height);
    let radius = |z: f32| 0.5 * (top + bottom) + slope * z;
    // x^2 + y^2 - radius(z)^2 along the ray: a t^2 + 2 b t + c.
    let a = d.x * d.x + d.y * d.y - slope * slope * d.z * d.z;
    let b = o.x * d.x + o.y * d.y - slope * d.z * radius(o.z);
    let c = o.x * o.x + o.y * o.y - radius(o.z).powi(2);
    if a <= 1e-9 {
        // Along the axle of a wheel. (A ray steeper than a cone's own side does not occur in a lidar's field of view.)
        return if c > 0.0 { None } else { clip.finish() };
    }
    let discriminant = b * b - a * c;
    if discriminant < 0.0 {
        return None;
    }
    let root = discriminant.sqrt();
    let (enter, leave) = ((-b - root) / a, (-b + root) / a);
    if enter > clip.near {
        let p = o + enter * d;
        clip.near = enter;
        clip.normal = Vec3::new(p.x, p.y, -slope * radius(p.z));
    }
    clip.far = clip.far.min(leave);
    if clip.near > clip.far { None } else { clip.finish() }
}

fn ellipsoid_span(half: &Vec3, origin: &Vec3, direction: &Vec3) -> Option<Span> {
    let o = origin.component_div(half);
    let d = direction.component_div(half);
    let (a, b, c) = (d.dot(&d), o.dot(&d), o.dot(&o) - 1.0);
    let discriminant = b * b - a * c;
    if discriminant < 0.0 {
        return None;
    }
    let root = discriminant.sqrt();
    let near = (-b - root) / a;
    let normal = (o + near * d).component_div(half);
    Some(Span { near, far: (-b + root) / a, normal: normal.try_normalize(1e-9)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(part: &Part, o: [f32; 3], d: [f32; 3]) -> Option<Span> {
        let inverse = part.rotation.transpose();
        let origin = inverse * (Vec3::from(o) - part.center);
        part.solid.span(&part.half, &origin, &(inverse * Vec3::from(d).normalize()))
    }

    #[test]
    fn a_cuboid_is_entered_and_left_at_its_faces() {
        let part = Part::cuboid([10.0, 0.0, 1.0], [2.0, 4.0, 2.0], Surface::DARK);
        let s = span(&part, [0.0, 0.5, 1.0], [1.0, 0.0, 0.0]).unwrap();
        assert!((s.near - 9.0).abs() < 1e-5 && (s.far - 11.0).abs() < 1e-5 && s.normal == -Vec3::x());
        assert!(span(&part, [0.0, 2.1, 1.0], [1.0, 0.0, 0.0]).is_none());
        // A quarter turn swaps length and width.
        let turned = Part { rotation: turn_about_z(std::f32::consts::FRAC_PI_2), ..part };
        assert!((span(&turned, [0.0, 0.5, 1.0], [1.0, 0.0, 0.0]).unwrap().near - 8.0).abs() < 1e-5);
    }

    #[test]
    fn a_windscreen_slants() {
        // Bottom face 0..4, top face 0..2, one metre high: at half height the front is at x = 3.
        let part = Part::prismoid([0.0, 4.0], 1.0, [0.0, 1.0], [0.0, 2.0], 1.0, Surface::GLASS);
        let s = span(&part, [10.0, 0.0, 0.5], [-1.0, 0.0, 0.0]).unwrap();
        assert!((s.near - 7.0).abs() < 1e-5 && (s.far - 10.0).abs() < 1e-5);
        let expected = Vec3::new(1.0, 0.0, 2.0).normalize();
        assert!((s.normal - expected).norm() < 1e-5, "{}", s.normal);
    }

    #[test]
    fn cones_wheels_and_ellipsoids_against_closed_forms() {
        let cone = Part::upright([5.0, 0.0], [0.0, 1.0], [0.3, 0.1], Surface::DARK);
        assert!((span(&cone, [0.0, 0.0, 0.5], [1.0, 0.0, 0.0]).unwrap().near - 4.8).abs() < 1e-5);
        assert!(span(&cone, [0.0, 0.21, 0.5], [1.0, 0.0, 0.0]).is_none());
        assert!(span(&cone, [0.0, 0.0, 1.01], [1.0, 0.0, 0.0]).is_none());
        let wheel = Part::wheel([0.0, 3.0, 0.3], 0.3, 0.2, Surface::RUBBER);
        assert!((span(&wheel, [0.0, 0.0, 0.3], [0.0, 1.0, 0.0]).unwrap().near - 2.9).abs() < 1e-5);
        assert!((span(&wheel, [-2.0, 3.0, 0.3], [1.0, 0.0, 0.0]).unwrap().near - 1.7).abs() < 1e-5);
        assert!(span(&wheel, [0.31, 0.0, 0.3], [0.0, 1.0, 0.0]).is_none());
        let egg = Part::ellipsoid([0.0, 0.0, 5.0], [2.0, 2.0, 6.0], Surface::DARK);
        let s = span(&egg, [0.0, 0.0, 0.0], [0.0, 0.0, 1.0]).unwrap();
        assert!((s.near - 2.0).abs() < 1e-5 && (s.far - 8.0).abs() < 1e-5);
    }

    #[test]
    fn a_bar_runs_between_its_ends() {
        let bar = Part::bar(Vec3::new(1.0, 0.0, 0.0), Vec3::new(1.0, 0.0, 4.0), [0.2, 0.4], false, Surface::STEEL);
        assert!((span(&bar, [0.0, 0.0, 3.9], [1.0, 0.0, 0.0]).unwrap().near - 0.9).abs() < 1e-5);
        assert!(span(&bar, [0.0, 0.0, 4.1], [1.0, 0.0, 0.0]).is_none());
    }

    #[test]
    fn extents_are_exact() {
        let wheel = Part::wheel([0.0; 3], 0.3, 0.2, Surface::RUBBER);
        assert!((wheel.extent() - Vec3::new(0.3, 0.1, 0.3)).norm() < 1e-6);
        let turned = Part::cuboid([0.0; 3], [2.0, 1.0, 1.0], Surface::DARK).turned(std::f32::consts::FRAC_PI_2);
        assert!((turned.extent() - Vec3::new(0.5, 1.0, 0.5)).norm() < 1e-6);
    }
}
