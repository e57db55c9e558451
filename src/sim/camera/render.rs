//! A picture of the scene from one camera: which part each pixel shows, then its colour in the light.

use super::coat::{Coat, Place};
use super::light::{Finish, Light, ToneCurve, mix};
use super::noise::{hash, split, unit};
use super::pavement::Pavement;
use super::raster::{BAND, DrawList, KERB_FACE, LEVEL, Layer, NOTHING, ROAD, Shape};
use super::shadow::{Contact, Shadows};
use super::view::{Ray, View};
use super::{CameraImage, NO_OBJECT, lens};
use crate::random::mix as scramble;
use crate::sensor::RgbImage;
use crate::sim::solid::{Look, Part, Solid, Vec3};
use crate::sim::town::{Ground, KERB, Paving, Vec2};
use rayon::prelude::*;

/// The ground is seen up to here, metres.
const HORIZON: f32 = 900.0;
/// No hill is steeper than this.
const STEEPEST: f32 = 0.12;

/// What stays the same during a drive.
pub(super) struct Appearance {
    pub light: Light,
    pub pavement: Pavement,
    tone: ToneCurve,
}

impl Appearance {
    pub fn new(light: Light, pavement: Pavement) -> Self {
        Self { tone: light.tone_curve(), light, pavement }
    }
}

/// The scene at one moment.
pub(super) struct Stage<'a> {
    pub look: &'a Appearance,
    pub ground: &'a Ground,
    pub parts: Vec<Part>,
    pub coats: Vec<Coat>,
    /// The object that each part belongs to, or [`NO_OBJECT`].
    pub objects: Vec<u32>,
    pub shadows: Shadows,
    pub contact: Contact,
}

/// The ground as a ray meets it.
struct Foot {
    distance: f32,
    normal: Vec3,
    what: u32,
}

impl Stage<'_> {
    /// `noise` decides the sensor's noise.
    pub fn picture(&self, view: &View, noise: u64) -> CameraImage {
        let [width, height] = view.size;
        let list = DrawList::new(view, &self.parts);
        let mut clean = vec![0u8; 3 * width * height];
        let mut depth = vec![0.0f32; width * height];
        let mut objects = vec![NO_OBJECT; width * height];
        let bands = clean
            .par_chunks_mut(3 * width * BAND)
            .zip(depth.par_chunks_mut(width * BAND))
            .zip(objects.par_chunks_mut(width * BAND))
            .enumerate();
        bands.for_each(|(band, ((colors, depth), objects))| self.band(view, &list, band, colors, depth, objects));
        let seen = lens::expose(&clean, view.size, scramble(noise));
        let image = RgbImage::from_raw(width as u32, height as u32, seen).unwrap_or_else(|_| RgbImage::from_pixel(0, 0, [0; 3]));
        CameraImage { image, depth, objects }
    }

    fn band(&self, view: &View, list: &DrawList, band: usize, colors: &mut [u8], depth: &mut [f32], objects: &mut [u32]) {
        let width = view.size[0];
        let mut solid = Layer::new(width * BAND);
        let mut glass = Layer::new(width * BAND);
        list.draw(view, &self.parts, band, &mut solid, Some(&mut glass));
        let forward = view.rotation.row(2).transpose();
        for row in 0..depth.len() / width {
            let mut guess = 0.0;
            for column in 0..width {
                let at = row * width + column;
                let ray = view.ray(column as f32 + 0.5, (band * BAND + row) as f32 + 0.5);
                let limit = if solid.near[at] > 0.0 { view.distance(&ray, solid.near[at]) } else { HORIZON };
                let (mut color, mut distance, mut object) = match self.ground(&ray, limit, &mut guess) {
                    Some(foot) => (self.ground_color(&ray, &foot, &forward, view), foot.distance, NO_OBJECT),
                    None if solid.what[at] == NOTHING => (self.look.light.sky(&ray.direction), f32::INFINITY, NO_OBJECT),
                    None => {
                        let (finish, normal, index) = self.surface(view, list, solid.what[at], &ray, limit);
                        (self.lit(&ray, limit, &finish, &normal, 1.0), limit, self.objects[index])
                    }
                };
                if glass.what[at] != NOTHING {
                    let before = view.distance(&ray, glass.near[at]);
                    if before < distance {
                        let (finish, normal, index) = self.surface(view, list, glass.what[at], &ray, before);
                        color = mix(color, self.lit(&ray, before, &finish, &normal, 1.0), finish.opacity);
                        if finish.opacity > 0.5 {
                            (distance, object) = (before, self.objects[index]);
                        }
                    }
                }
                colors[3 * at..3 * at + 3].copy_from_slice(&self.look.tone.develop(&color));
                depth[at] = distance / ray.stretch;
                objects[at] = object;
            }
        }
    }

    /// Where the ray meets the ground, if nearer than `limit`. `guess` is the distance of the pixel before, or 0.
    fn ground(&self, ray: &Ray, limit: f32, guess: &mut f32) -> Option<Foot> {
        if ray.direction.z > STEEPEST {
            *guess = 0.0;
            return None;
        }
        let level = |start: f32| self.ground.level(&ray.origin, &ray.direction, start, HORIZON);
        let mut hit = level(*guess);
        // A jump means that a crest came between; only a search from the start finds the nearer side.
        if *guess > 0.0 && hit.is_none_or(|h| (h.distance - *guess).abs() > 0.1 * *guess) {
            hit = level(0.0);
        }
        *guess = hit.map_or(0.0, |h| h.distance);
        let hit = hit.filter(|h| h.distance < limit)?;
        let normal = Vec3::new(-hit.slope.x, -hit.slope.y, 1.0).normalize();
        let kerbs = &self.look.pavement.kerbs;
        let mut off = kerbs.at(hit.foot);
        if off > 0.0 {
            return Some(Foot { distance: hit.distance, normal, what: LEVEL });
        }
        // Down to the road, unless a kerb comes first.
        let bottom = hit.distance - KERB / hit.rate;
        let mut distance = hit.distance;
        let run = ray.direction.xy().norm().max(0.05);
        loop {
            distance += (-0.9 * off).max(0.02) / run;
            if distance >= bottom {
                return (bottom < limit).then_some(Foot { distance: bottom, normal, what: ROAD });
            }
            off = kerbs.at((ray.origin + distance * ray.direction).xy());
            if off > 0.0 {
                let against = -ray.direction.xy() / run;
                let normal = Vec3::new(against.x, against.y, 0.25).normalize();
                return (distance < limit).then_some(Foot { distance, normal, what: KERB_FACE });
            }
        }
    }

    fn ground_color(&self, ray: &Ray, foot: &Foot, forward: &Vec3, view: &View) -> Vec3 {
        let p = ray.origin + foot.distance * ray.direction;
        let pixel = view.pixel_width(foot.distance * ray.direction.dot(forward));
        // Seen obliquely a pixel covers more of the ground; halfway is a compromise between blur and flicker.
        let pixel = pixel * (0.5 + 0.5 / (ray.direction.dot(&foot.normal).abs() + 0.05)).min(4.0);
        let place = p.xy();
        let finish = match foot.what {
            KERB_FACE => self.look.pavement.kerb_face(place),
            what => {
                // Borders between pavings are not as straight as their cells.
                let blur = 0.09 * Vec2::new(unit(hash(split(23.0 * place.x).0, split(23.0 * place.y).0, 1)) - 0.5, 0.0);
                let paving = if what == LEVEL { self.ground.paving(place + blur) } else { Paving::Road };
                self.look.pavement.finish(place, what == LEVEL, paving, pixel)
            }
        };
        self.lit(ray, foot.distance, &finish, &foot.normal, self.contact.open(place))
    }

    /// Material, normal and index of the part that a primitive shows at this distance.
    fn surface(&self, view: &View, list: &DrawList, primitive: u32, ray: &Ray, distance: f32) -> (Finish, Vec3, usize) {
        let primitive = &list.primitives[primitive as usize];
        let index = primitive.part as usize;
        let part = &self.parts[index];
        let point = part.rotation.tr_mul(&(ray.origin + distance * ray.direction - part.center));
        let (normal, town_normal) = match primitive.shape {
            Shape::Face { normal, .. } => (part.rotation.tr_mul(&normal), normal),
            Shape::Curved => {
                let normal = curved_normal(part, &point);
                (normal, part.rotation * normal)
            }
        };
        let place = Place { point, normal, pixel: view.pixel_width(distance / ray.stretch) };
        (self.coats[index].finish(part, &place), town_normal, index)
    }

    fn lit(&self, ray: &Ray, distance: f32, finish: &Finish, normal: &Vec3, open: f32) -> Vec3 {
        let light = &self.look.light;
        let turned = finish.soft || normal.dot(&light.toward_sun) > 0.0;
        let sunlit = if turned { self.shadows.sunlit(&(ray.origin + distance * ray.direction), normal) } else { 0.0 };
        light.through_air(light.on(finish, normal, &ray.direction, sunlit, open), distance)
    }
}

/// Outward at a place on a curved solid or in a cloud of leaves, in the part's axes.
fn curved_normal(part: &Part, p: &Vec3) -> Vec3 {
    let half = &part.half;
    if part.surface.look == Look::Leaves {
        // Leaves point all ways, on the whole outwards.
        let cell = |v: f32, salt: i32| unit(hash(split(12.0 * v).0, split(12.0 * (p.x + p.y + p.z)).0, salt)) - 0.5;
        let outward = p.component_div(&half.component_mul(half)).try_normalize(1e-6).unwrap_or(Vec3::z());
        return (outward + 1.1 * Vec3::new(cell(p.x, 1), cell(p.y, 2), cell(p.z, 3))).try_normalize(1e-6).unwrap_or(outward);
    }
    match part.solid {
        Solid::Round { bottom, top } => {
            if p.z.abs() > half.z - 1e-3 {
                return Vec3::new(0.0, 0.0, p.z.signum());
            }
            let slope = (top - bottom) / (2.0 * half.z);
            Vec3::new(p.x, p.y, -slope * p.xy().norm()).try_normalize(1e-6).unwrap_or(Vec3::z())
        }
        _ => p.component_div(&half.component_mul(half)).try_normalize(1e-6).unwrap_or(Vec3::z()),
    }
}
