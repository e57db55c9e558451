//! Adam with decoupled weight decay, on the one-cycle schedule (fastai's, as det3d and OpenPCDet use it).

use ndarray::{ArrayD, Zip};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdamConfig {
    /// Highest learning rate of the cycle.
    pub lr: f64,
    /// First-moment decay at the ends and in the middle of the cycle.
    pub momentum: [f64; 2],
    pub beta2: f64,
    /// The cycle starts at `lr / division`.
    pub division: f64,
    /// Share of the steps in which the rate rises.
    pub rise: f64,
    /// Not applied to biases and batch norms.
    pub weight_decay: f64,
    /// Norm of all gradients together is clipped to this.
    pub clip_norm: f64,
}

impl Default for AdamConfig {
    fn default() -> Self {
        Self { lr: 1e-3, momentum: [0.95, 0.85], beta2: 0.99, division: 10.0, rise: 0.4, weight_decay: 0.01, clip_norm: 35.0 }
    }
}

/// Learning rate and momentum over a run.
#[derive(Clone, Debug)]
pub struct OneCycle {
    config: AdamConfig,
    steps: usize,
}

impl OneCycle {
    pub fn new(config: AdamConfig, steps: usize) -> Self {
        Self { config, steps }
    }

    /// Learning rate and momentum of a step, both along half cosines.
    pub fn at(&self, step: usize) -> (f64, f64) {
        let c = &self.config;
        let cosine = |from: f64, to: f64, t: f64| to + (from - to) / 2.0 * (1.0 + (std::f64::consts::PI * t).cos());
        let done = step as f64 / self.steps.max(1) as f64;
        let [outer, inner] = c.momentum;
        if done < c.rise {
            let t = done / c.rise;
            (cosine(c.lr / c.division, c.lr, t), cosine(outer, inner, t))
        } else {
            let t = ((done - c.rise) / (1.0 - c.rise)).min(1.0);
            (cosine(c.lr, c.lr / c.division * 1e-4, t), cosine(inner, outer, t))
        }
    }
}

/// Moments of every parameter.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Adam {
    pub first: BTreeMap<String, ArrayD<f32>>,
    pub second: BTreeMap<String, ArrayD<f32>>,
    /// Product of all first-moment decays so far: with a changing momentum, bias correction needs it.
    pub first_decay: f64,
    pub second_decay: f64,
}

impl Adam {
    pub fn new() -> Self {
        Self { first_decay: 1.0, second_decay: 1.0, ..Self::default() }
    }

    /// Moves the parameters one step; gradients are clipped in place. Returns their norm before clipping.
    pub fn step(
        &mut self,
        config: &AdamConfig,
        (lr, momentum): (f64, f64),
        params: &mut BTreeMap<String, ArrayD<f32>>,
        grads: &mut BTreeMap<String, ArrayD<f32>>,
    ) -> f64 {
        let norm = grads.values().flat_map(|g| g.iter()).map(|&g| f64::from(g) * f64::from(g)).sum::<f64>().sqrt();
        let clip = if norm > config.clip_norm { (config.clip_norm / norm) as f32 } else { 1.0 };
        self.first_decay *= momentum;
        self.second_decay *= config.beta2;
        let (b1, b2) = (momentum as f32, config.beta2 as f32);
        let (c1, c2) = (1.0 / (1.0 - self.first_decay) as f32, 1.0 / (1.0 - self.second_decay) as f32);
        for (name, grad) in grads {
            let Some(param) = params.get_mut(name) else { continue };
            let first = self.first.entry(name.clone()).or_insert_with(|| ArrayD::zeros(grad.raw_dim()));
            let second = self.second.entry(name.clone()).or_insert_with(|| ArrayD::zeros(grad.raw_dim()));
            // Vectors are biases and norms.
            let decay = if grad.ndim() > 1 { (lr * config.weight_decay) as f32 } else { 0.0 };
            let lr = lr as f32;
            Zip::from(param).and(first).and(second).and(&*grad).for_each(|p, m, v, &g| {
                let g = g * clip;
                *m = b1 * *m + (1.0 - b1) * g;
                *v = b2 * *v + (1.0 - b2) * g * g;
                *p -= decay * *p + lr * (*m * c1) / ((*v * c2).sqrt() + 1e-8);
            });
        }
        norm
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::arr1;

    #[test]
    fn the_cycle_rises_and_falls_between_its_ends() {
        let cycle = OneCycle::new(AdamConfig::default(), 1000);
        let near = |a: f64, b: f64| (a - b).abs() < 1e-9;
        assert!(near(cycle.at(0).0, 1e-4) && near(cycle.at(400).0, 1e-3) && cycle.at(1000).0 < 1e-7);
        assert!(near(cycle.at(0).1, 0.95) && near(cycle.at(400).1, 0.85) && near(cycle.at(1000).1, 0.95));
    }

    /// The first step of Adam moves every coordinate by the learning rate, against its gradient, whatever its size.
    #[test]
    fn the_first_step_is_the_sign_of_the_gradient() {
        let config = AdamConfig { clip_norm: 1e9, ..AdamConfig::default() };
        let mut params = BTreeMap::from([("p".to_owned(), arr1(&[1.0f32, 1.0, 1.0]).into_dyn())]);
        let mut grads = BTreeMap::from([("p".to_owned(), arr1(&[1e-3f32, -50.0, 0.0]).into_dyn())]);
        Adam::new().step(&config, (0.1, 0.9), &mut params, &mut grads);
        let p = &params["p"];
        assert!((p[0] - 0.9).abs() < 1e-4 && (p[1] - 1.1).abs() < 1e-5 && p[2] == 1.0);
    }
}
