//! Parameter tensors by name.

use super::op::Graph;
use ndarray::{ArrayD, ArrayViewD};
use std::collections::BTreeMap;

/// Float parameters of a network, by the names that its graph gives them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Params(pub BTreeMap<String, ArrayD<f32>>);

/// Everything that does not fit between a graph and a set of tensors, at once: a user mends a checkpoint in one go, not in
/// twenty.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{}", self.describe())]
pub struct ParamError {
    pub missing: Vec<String>,
    pub extra: Vec<String>,
    /// Name, expected shape, found shape.
    pub misshapen: Vec<(String, Vec<usize>, Vec<usize>)>,
}

impl Params {
    pub fn get(&self, name: &str) -> Option<ArrayViewD<'_, f32>> {
        self.0.get(name).map(|a| a.view())
    }

    /// Whether these are exactly the tensors that `graph` asks for.
    ///
    /// # Errors
    /// Lists every missing, extra and misshapen tensor.
    pub fn check(&self, graph: &Graph) -> Result<(), ParamError> {
        let specs = graph.params();
        let mut error = ParamError { missing: vec![], extra: vec![], misshapen: vec![] };
        for spec in &specs {
            match self.0.get(&spec.name) {
                None => error.missing.push(spec.name.clone()),
                Some(a) if a.shape() != spec.shape => error.misshapen.push((spec.name.clone(), spec.shape.clone(), a.shape().to_vec())),
                Some(_) => {}
            }
        }
        let known: std::collections::HashSet<&str> = specs.iter().map(|s| s.name.as_str()).collect();
        error.extra.extend(self.0.keys().filter(|k| !known.contains(k.as_str())).cloned());
        if error.missing.is_empty() && error.extra.is_empty() && error.misshapen.is_empty() { Ok(()) } else { Err(error) }
    }
}

impl ParamError {
    fn describe(&self) -> String {
        let mut text = String::from("the tensors do not fit the network");
        for name in &self.missing {
            text += &format!("\n  missing: {name}");
        }
        for (name, expected, found) in &self.misshapen {
            text += &format!("\n  shape: {name}: expected {expected:?}, found {found:?}");
        }
        for name in &self.extra {
            text += &format!("\n  not part of this network: {name}");
        }
        text
    }
}
