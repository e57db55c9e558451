//! Sun, sky and haze of a drive, and how a surface answers them. Colours are linear; the sun's is about 2.5 on a clear day.

use super::noise::clouds;
use crate::random::Rng;
use crate::sim::solid::Vec3;

#[derive(Clone, Debug)]
pub(super) struct Light {
    /// Unit vector.
    pub toward_sun: Vec3,
    pub sun: Vec3,
    zenith: Vec3,
    horizon: Vec3,
    /// From above onto a level surface, and from below.
    ambient: [Vec3; 2],
    /// Share of the sky under clouds, and where in the clouds' pattern the drive is.
    cover: f32,
    drift: [f32; 2],
    /// Extinction, 1/m.
    haze: f32,
}

/// What a surface does with light.
#[derive(Clone, Copy, Debug)]
pub(super) struct Finish {
    /// Diffuse reflectance.
    pub albedo: Vec3,
    /// How much of a mirror it is when looked at head on; obliquely it is more of one.
    pub mirror: f32,
    /// Light of its own.
    pub glow: Vec3,
    /// Share of what is behind it that it hides; below 1 only for what is seen through.
    pub opacity: f32,
    /// Light gets around and through leaves.
    pub soft: bool,
}

impl Finish {
    pub fn matt(albedo: Vec3) -> Self {
        Self { albedo, mirror: 0.0, glow: Vec3::zeros(), opacity: 1.0, soft: false }
    }

    pub fn polished(albedo: Vec3, mirror: f32) -> Self {
        Self { mirror, ..Self::matt(albedo) }
    }
}

#[inline]
pub(super) fn mix(a: Vec3, b: Vec3, t: f32) -> Vec3 {
    a + t * (b - a)
}

impl Light {
    pub fn draw(seed: u64) -> Self {
        let mut rng = Rng::new(seed, "light");
        let elevation = rng.range(0.33, 1.05);
        let azimuth = rng.range(0.0, std::f32::consts::TAU);
        let toward_sun = Vec3::new(elevation.cos() * azimuth.cos(), elevation.cos() * azimuth.sin(), elevation.sin());
        let overcast = rng.chance(0.28);
        let warm = 1.0 - ((elevation - 0.25) / 0.6).clamp(0.0, 1.0);
        let (sun, zenith, horizon, cover) = if overcast {
            (Vec3::new(0.30, 0.29, 0.28), Vec3::new(0.66, 0.70, 0.76), Vec3::new(0.88, 0.90, 0.93), 0.95)
        } else {
            let sun = Vec3::new(2.65, 2.45 - 0.35 * warm, 2.15 - 0.8 * warm);
            (sun, Vec3::new(0.15, 0.31, 0.68), Vec3::new(0.66, 0.78, 0.95), rng.range(0.1, 0.6))
        };
        let sky = if overcast { 1.0 } else { 0.95 } * mix(zenith, horizon, 0.45);
        let below = 0.22 * (sun * toward_sun.z + sky);
        let haze = 1.0 / rng.range(350.0, 1800.0);
        let drift = [rng.range(0.0, 256.0), rng.range(0.0, 256.0)];
        Self { toward_sun, sun, zenith, horizon, ambient: [sky, below], cover, drift, haze }
    }

    /// The sky without clouds, or for a direction below the horizon the street as a mirror shows it.
    fn plain_sky(&self, direction: &Vec3) -> Vec3 {
        let h = direction.z;
        if h > 0.0 { mix(self.horizon, self.zenith, (h * (2.0 - h)).sqrt()) } else { self.ambient[1] }
    }

    /// The sky that the camera sees.
    pub fn sky(&self, direction: &Vec3) -> Vec3 {
        let h = direction.z.max(0.0);
        let toward = direction.dot(&self.toward_sun).max(0.0);
        let glow = toward * toward;
        let glow = glow * glow * glow;
        let disc = glow * glow;
        let disc = disc * disc * disc * disc;
        let mut color = self.plain_sky(&Vec3::new(direction.x, direction.y, h)) + self.sun * (0.12 * glow + 0.9 * disc * disc);
        let scale = 30.0 / (h + 0.12);
        let pattern = clouds(direction.x * scale + self.drift[0], direction.y * scale + self.drift[1]);
        let finer = clouds(direction.x * scale * 3.1, direction.y * scale * 3.1 + self.drift[1]);
        let thick = ((pattern + 0.35 * finer + 2.4 * (self.cover - 0.5)) * 1.3).clamp(0.0, 1.0);
        let shade = 0.82 + 0.25 * finer.clamp(-0.5, 0.5) - 0.18 * thick;
        let white = mix(self.horizon, Vec3::repeat(1.05), 0.6) * shade + self.sun * 0.04;
        color = mix(color, white, thick * (0.35 + 0.65 * (h * 6.0).min(1.0)));
        if h < 0.075 {
            // Far hills and roofs, too far for the lidar.
            let azimuth = direction.y.atan2(direction.x) * (256.0 / std::f32::consts::TAU);
            let ridge = 0.018 + 0.02 * clouds(azimuth, 3.5) + 0.008 * clouds(azimuth * 7.0, 90.5).signum();
            if h < ridge {
                color = mix(Vec3::new(0.16, 0.2, 0.22).component_mul(&self.ambient[0]), self.horizon, 0.55);
            }
        }
        color
    }

    /// Sunlight and skylight on a surface, towards the eye.
    ///
    /// * `view`: unit vector from the eye to the surface.
    /// * `sunlit`: share of the sun that reaches it; `open`: share of the sky.
    pub fn on(&self, finish: &Finish, normal: &Vec3, view: &Vec3, sunlit: f32, open: f32) -> Vec3 {
        let facing = normal.dot(&self.toward_sun);
        let facing = if finish.soft { 0.25 + 0.6 * facing.max(-0.3) } else { facing.max(0.0) };
        let above = 0.5 + 0.5 * normal.z;
        let ambient = mix(self.ambient[1], self.ambient[0], above) * open;
        let mut color = finish.albedo.component_mul(&(self.sun * (facing * sunlit) + ambient)) + finish.glow;
        if finish.mirror > 0.0 {
            let across = normal.dot(view).abs().min(1.0);
            let reflected = view - 2.0 * normal.dot(view) * normal;
            let oblique = 1.0 - across;
            let oblique = oblique * oblique * oblique * oblique * oblique;
            let share = finish.mirror + (1.0 - finish.mirror) * oblique * (finish.mirror * 8.0).min(0.9);
            // What stands along a street hides the lowest part of the sky.
            let clear = ((reflected.z - 0.06) * 4.0).clamp(0.0, 1.0);
            let seen = mix(self.ambient[1] * 0.9, self.plain_sky(&reflected), clear) * (0.4 + 0.6 * open);
            let spot = reflected.dot(&self.toward_sun).max(0.0);
            let spot = (0..6).fold(spot, |s, _| s * s);
            color = mix(color, seen, share) + self.sun * (spot * sunlit * (2.5 * share).min(1.0));
        }
        color
    }

    /// What is left of a colour after this distance of air.
    #[inline]
    pub fn through_air(&self, color: Vec3, distance: f32) -> Vec3 {
        let x = distance * self.haze;
        mix(self.horizon * 0.92, color, 1.0 / (1.0 + x * (1.0 + 0.5 * x)))
    }
}

/// From linear light to the eight bits that a camera sends: exposure, a shoulder for what is bright, sRGB.
pub(super) struct ToneCurve(Vec<u8>);

/// Brightest light that is told apart, and entries for it; entries are even in its square root.
const BRIGHTEST: f32 = 8.0;
const ENTRIES: usize = 4096;

impl ToneCurve {
    pub fn new(exposure: f32) -> Self {
        let curve = |i: usize| {
            let x = exposure * BRIGHTEST * (i as f32 / (ENTRIES - 1) as f32).powi(2);
            // A fit to the film curve of the Academy's reference (K. Narkowicz, 2016).
            let y = (x * (2.51 * x + 0.03) / (x * (2.43 * x + 0.59) + 0.14)).clamp(0.0, 1.0);
            (255.0 * if y <= 0.003_130_8 { 12.92 * y } else { 1.055 * y.powf(1.0 / 2.4) - 0.055 } + 0.5) as u8
        };
        Self((0..ENTRIES).map(curve).collect())
    }

    #[inline]
    pub fn develop(&self, color: &Vec3) -> [u8; 3] {
        let scale = (ENTRIES - 1) as f32 / BRIGHTEST.sqrt();
        [color.x, color.y, color.z].map(|c| {
            let i = (c.max(0.0).sqrt() * scale) as i32 as usize;
            self.0[i.min(ENTRIES - 1)]
        })
    }
}

impl Light {
    /// So that a middling grey road in the open comes out middling.
    pub fn tone_curve(&self) -> ToneCurve {
        let street = 0.21 * (self.sun.y * self.toward_sun.z * 0.75 + self.ambient[0].y);
        ToneCurve::new(0.205 / street)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_curve_rises_and_a_lit_road_is_neither_black_nor_white() {
        for seed in 0..20 {
            let light = Light::draw(seed);
            let curve = light.tone_curve();
            let greys: Vec<u8> = (0..100).map(|i| curve.develop(&Vec3::repeat(0.02 * i as f32))[0]).collect();
            assert!(greys.windows(2).all(|w| w[0] <= w[1]) && greys[0] < 10 && greys[99] > 180, "{greys:?}");
            let road = light.on(&Finish::matt(Vec3::repeat(0.16)), &Vec3::z(), &-Vec3::z(), 1.0, 1.0);
            assert!((70..190).contains(&curve.develop(&road)[1]), "{seed}: {road}");
        }
    }
}
