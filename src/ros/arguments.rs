//! The command line of a ROS 2 node: what stands between `--ros-args` and `--`.

use super::names::{NameError, NodeName};
use super::parameters::{ParameterError, ParameterValue, Parameters, parse_parameter_file};
use std::path::PathBuf;

/// What a node was told at its start.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RosArguments {
    /// `-r from:=to`, in order.
    pub remaps: Vec<(String, String)>,
    /// `-r __node:=NAME`.
    pub node: Option<String>,
    /// `-r __ns:=NAMESPACE`.
    pub namespace: Option<String>,
    /// `--log-level LEVEL`, in ROS' words.
    pub log_level: Option<String>,
    /// `--disable-rosout-logs`: the log shall not be sent to other nodes.
    pub rosout_disabled: bool,
    parameters: Vec<ParameterSource>,
}

#[derive(Clone, Debug, PartialEq)]
enum ParameterSource {
    File(PathBuf),
    Value(String, ParameterValue),
}

#[derive(Debug, thiserror::Error)]
pub enum ArgumentError {
    #[error("{option}: a value is missing")]
    ValueMissing { option: String },
    #[error("{option} {value}: expected {expected}")]
    Value { option: String, value: String, expected: &'static str },
    #[error("{0}: no option of --ros-args")]
    Unknown(String),
    #[error(transparent)]
    Name(#[from] NameError),
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error("{}: {source}", path.display())]
    Parameters { path: PathBuf, source: ParameterError },
}

impl RosArguments {
    /// Takes ROS' part out of a command line; returns it with the rest.
    ///
    /// # Errors
    /// Options that ROS does not have, or without their value.
    pub fn take(arguments: impl IntoIterator<Item = String>) -> Result<(Self, Vec<String>), ArgumentError> {
        let (mut ros, mut rest) = (Self::default(), Vec::new());
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            if argument != "--ros-args" {
                rest.push(argument);
                continue;
            }
            while let Some(option) = arguments.next().filter(|a| a != "--") {
                ros.option(&option, &mut arguments)?;
            }
        }
        Ok((ros, rest))
    }

    fn option(&mut self, option: &str, arguments: &mut impl Iterator<Item = String>) -> Result<(), ArgumentError> {
        let mut value = || arguments.next().ok_or_else(|| ArgumentError::ValueMissing { option: option.to_owned() });
        match option {
            // Several groups of ROS' arguments may follow each other.
            "--ros-args" => {}
            "-r" | "--remap" => {
                let (from, to) = assignment(option, value()?)?;
                match from.as_str() {
                    "__node" | "__name" => self.node = Some(to),
                    "__ns" => self.namespace = Some(to),
                    _ => self.remaps.push((from, to)),
                }
            }
            "-p" | "--param" => {
                let (name, text) = assignment(option, value()?)?;
                let parsed = ParameterValue::parse(&text);
                let wrong = |_| ArgumentError::Value { option: option.to_owned(), value: text.clone(), expected: "a value in YAML" };
                self.parameters.push(ParameterSource::Value(name, parsed.map_err(wrong)?));
            }
            "--params-file" => self.parameters.push(ParameterSource::File(value()?.into())),
            "--log-level" => self.log_level = Some(value()?),
            "-e" | "--enclave" | "--log-config-file" | "--log-file-name" => _ = value()?,
            "--enable-rosout-logs" => self.rosout_disabled = false,
            "--disable-rosout-logs" => self.rosout_disabled = true,
            _ if option.starts_with("--enable-") || option.starts_with("--disable-") => {}
            _ => return Err(ArgumentError::Unknown(option.to_owned())),
        }
        Ok(())
    }

    /// The node's name, `default` unless it was given another.
    ///
    /// # Errors
    /// A name that ROS does not allow.
    pub fn node_name(&self, default: &str) -> Result<NodeName, ArgumentError> {
        Ok(NodeName::new(self.namespace.as_deref().unwrap_or(""), self.node.as_deref().unwrap_or(default))?)
    }

    /// What was set, files and single values in their order.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn parameters(&self, node: &NodeName) -> Result<Parameters, ArgumentError> {
        let mut all = Parameters::new();
        for source in &self.parameters {
            match source {
                ParameterSource::Value(name, value) => _ = all.insert(name.clone(), value.clone()),
                ParameterSource::File(path) => {
                    let text = std::fs::read_to_string(path).map_err(|source| ArgumentError::File { path: path.clone(), source })?;
                    let parsed = parse_parameter_file(&text, node);
                    all.extend(parsed.map_err(|source| ArgumentError::Parameters { path: path.clone(), source })?);
                }
            }
        }
        Ok(all)
    }
}

/// `name:=value`. A node's name in front (`node:name:=value`) is left out: there is one node in the process.
fn assignment(option: &str, text: String) -> Result<(String, String), ArgumentError> {
    match text.split_once(":=") {
        Some((name, value)) if !name.is_empty() => {
            let name = name.rsplit_once(':').map_or(name, |(_, name)| name);
            Ok((name.to_owned(), value.to_owned()))
        }
        _ => Err(ArgumentError::Value { option: option.to_owned(), value: text, expected: "NAME:=VALUE" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(line: &str) -> Result<(RosArguments, Vec<String>), ArgumentError> {
        RosArguments::take(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn what_launch_passes_is_understood() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("params.yaml");
        std::fs::write(&file, "/**: {ros__parameters: {a: 1, b: file}}").unwrap();
        let line = format!(
            "--check --ros-args -r __node:=detect -r __ns:=/front -p a:=0 --params-file {} -p detect:b:=2.5 \
             -r ~/input/pointcloud:=/points --log-level info --disable-rosout-logs -- model",
            file.display()
        );
        let (ros, rest) = take(&line).unwrap();
        assert_eq!(rest, ["--check", "model"]);
        let node = ros.node_name("other").unwrap();
        assert_eq!((node.to_string().as_str(), ros.log_level.as_deref()), ("/front/detect", Some("info")));
        assert!(ros.rosout_disabled);
        assert_eq!(ros.remaps, [("~/input/pointcloud".to_owned(), "/points".to_owned())]);
        let parameters = ros.parameters(&node).unwrap();
        assert_eq!(parameters["a"], ParameterValue::Integer(1), "what comes later wins");
        assert_eq!(parameters["b"], ParameterValue::Double(2.5));
    }

    #[test]
    fn mistakes_are_named() {
        for (line, expected) in [
            ("--ros-args -r", "-r: a value is missing"),
            ("--ros-args -r a", "expected NAME:=VALUE"),
            ("--ros-args -p a:=[", "expected a value in YAML"),
            ("--ros-args --remapp a:=b", "--remapp: no option"),
        ] {
            let error = take(line).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        let (ros, _) = take("--ros-args --params-file nowhere.yaml -r __node:=a-b").unwrap();
        assert!(ros.node_name("detect").unwrap_err().to_string().contains("a-b"));
        let node = NodeName::new("", "detect").unwrap();
        assert!(ros.parameters(&node).unwrap_err().to_string().contains("nowhere.yaml"));
    }
}
