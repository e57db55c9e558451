//! Parameters of a node: their values, and the YAML files that set them (`/**: ros__parameters: ...`).

use super::names::NodeName;
use serde_norway::Value;
use std::collections::BTreeMap;
use std::fmt;

#[derive(Clone, Debug, PartialEq)]
pub enum ParameterValue {
    Bool(bool),
    Integer(i64),
    Double(f64),
    String(String),
    StringArray(Vec<String>),
    /// Of types that no parameter here has; kept for the message that says so.
    Other(String),
}

/// Values by name; groups are parts of the name, with dots between.
pub type Parameters = BTreeMap<String, ParameterValue>;

#[derive(Debug, thiserror::Error)]
pub enum ParameterError {
    #[error("not YAML: {0}")]
    Yaml(#[from] serde_norway::Error),
    #[error("`{at}` is {found}, expected {expected}")]
    Shape { at: String, found: &'static str, expected: &'static str },
}

impl ParameterValue {
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Bool(_) => "bool",
            Self::Integer(_) => "integer",
            Self::Double(_) => "double",
            Self::String(_) => "string",
            Self::StringArray(_) => "array of strings",
            Self::Other(_) => "something else",
        }
    }

    /// As on a command line: YAML.
    ///
    /// # Errors
    /// Text that is no YAML.
    pub fn parse(text: &str) -> Result<Self, ParameterError> {
        Ok(serde_norway::from_str::<Value>(text)?.into())
    }
}

impl fmt::Display for ParameterValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => write!(f, "{value}"),
            Self::Integer(value) => write!(f, "{value}"),
            Self::Double(value) => write!(f, "{value:?}"),
            Self::String(value) => write!(f, "`{value}`"),
            Self::StringArray(values) => write!(f, "{values:?}"),
            Self::Other(text) => write!(f, "{text}"),
        }
    }
}

impl From<Value> for ParameterValue {
    fn from(value: Value) -> Self {
        match value {
            Value::Bool(value) => Self::Bool(value),
            Value::Number(number) => match number.as_i64() {
                Some(value) => Self::Integer(value),
                None => Self::Double(number.as_f64().unwrap_or(f64::NAN)),
            },
            Value::String(value) => Self::String(value),
            Value::Sequence(values) => {
                let strings: Option<Vec<String>> = values.iter().map(|v| v.as_str().map(str::to_owned)).collect();
                strings.map_or_else(|| Self::Other(format!("{values:?}")), Self::StringArray)
            }
            Value::Null => Self::Other("null".into()),
            Value::Mapping(_) => Self::Other("a mapping".into()),
            Value::Tagged(tagged) => Self::Other(tagged.tag.to_string()),
        }
    }
}

/// The parameters that a file has for a node; later entries of the file win.
///
/// # Errors
/// A file of another shape.
pub fn parse_parameter_file(text: &str, node: &NodeName) -> Result<Parameters, ParameterError> {
    let mut found = Parameters::new();
    let root: Value = serde_norway::from_str(text)?;
    if root.is_null() {
        return Ok(found);
    }
    for (key, value) in mapping(&root, "the file")? {
        take_nodes(&name_of(key)?, value, node, &mut found)?;
    }
    Ok(found)
}

/// Walks through namespaces down to `ros__parameters`.
fn take_nodes(path: &str, value: &Value, node: &NodeName, found: &mut Parameters) -> Result<(), ParameterError> {
    for (key, value) in mapping(value, path)? {
        let key = name_of(key)?;
        if key != "ros__parameters" {
            take_nodes(&format!("{}/{key}", path.trim_end_matches('/')), value, node, found)?;
        } else if names(path, node) {
            for (key, value) in mapping(value, "ros__parameters")? {
                take_values(name_of(key)?, value, found)?;
            }
        }
    }
    Ok(())
}

/// Whether a node's name, or a pattern of names, is this node's. `*` is one part of a name, `**` any number.
fn names(pattern: &str, node: &NodeName) -> bool {
    fn fits(pattern: &[&str], name: &[&str]) -> bool {
        match (pattern.split_first(), name.split_first()) {
            (None, None) => true,
            (Some((&"**", rest)), _) => (0..=name.len()).any(|skip| fits(rest, &name[skip..])),
            (Some((&"*", rest)), Some((_, left))) => fits(rest, left),
            (Some((part, rest)), Some((first, left))) => part == first && fits(rest, left),
            _ => false,
        }
    }
    let parts = |text: &str| text.split('/').filter(|p| !p.is_empty()).map(str::to_owned).collect::<Vec<_>>();
    let (pattern, name) = (parts(pattern), parts(&node.to_string()));
    fits(&pattern.iter().map(String::as_str).collect::<Vec<_>>(), &name.iter().map(String::as_str).collect::<Vec<_>>())
}

fn take_values(name: String, value: &Value, found: &mut Parameters) -> Result<(), ParameterError> {
    let Value::Mapping(group) = value else {
        found.insert(name, value.clone().into());
        return Ok(());
    };
    group.iter().try_for_each(|(key, value)| take_values(format!("{name}.{}", name_of(key)?), value, found))
}

fn mapping<'v>(value: &'v Value, at: &str) -> Result<impl Iterator<Item = (&'v Value, &'v Value)> + use<'v>, ParameterError> {
    let expected = "names with `ros__parameters` below";
    let wrong = || ParameterError::Shape { at: at.to_owned(), found: kind(value), expected };
    Ok(value.as_mapping().ok_or_else(wrong)?.iter())
}

fn name_of(key: &Value) -> Result<String, ParameterError> {
    let wrong = || ParameterError::Shape { at: format!("{key:?}"), found: kind(key), expected: "a name" };
    key.as_str().map(str::to_owned).ok_or_else(wrong)
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "empty",
        Value::Bool(_) => "a bool",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Sequence(_) => "a sequence",
        Value::Mapping(_) => "a mapping",
        Value::Tagged(_) => "a tagged value",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Parameters {
        parse_parameter_file(text, &NodeName::new("/front", "detect").unwrap()).unwrap()
    }

    #[test]
    fn groups_become_dotted_names_and_later_entries_win() {
        let text = "/**:\n  ros__parameters:\n    a: 1\n    group: {b: 2.5, deep: {c: [x, y]}}\n    d: yes it is\n\
                    /front/detect:\n  ros__parameters: {a: true}\n/other:\n  ros__parameters: {a: 3}\n";
        let expected = [
            ("a", ParameterValue::Bool(true)),
            ("d", ParameterValue::String("yes it is".into())),
            ("group.b", ParameterValue::Double(2.5)),
            ("group.deep.c", ParameterValue::StringArray(vec!["x".into(), "y".into()])),
        ];
        assert_eq!(parse(text), expected.map(|(n, v)| (n.to_owned(), v)).into());
    }

    #[test]
    fn nodes_are_named_in_every_way_that_ros_has() {
        for own in ["/**", "/*/detect", "/front/*", "/**/detect", "front:\n  detect", "/front/detect", "/front:\n  detect"] {
            assert_eq!(parse(&format!("{own}: {{ros__parameters: {{a: 1}}}}")).len(), 1, "{own}");
        }
        for other in ["/*", "detect", "/rear/detect", "/front/detect/x"] {
            assert_eq!(parse(&format!("{other}: {{ros__parameters: {{a: 1}}}}")).len(), 0, "{other}");
        }
    }

    #[test]
    fn files_of_another_shape_are_refused_by_name() {
        let node = NodeName::new("", "detect").unwrap();
        assert!(parse_parameter_file("", &node).unwrap().is_empty());
        for (text, expected) in
            [("[1]", "a sequence"), ("/**: 3", "`/**` is a number"), ("/**: {ros__parameters: 1}", "ros__parameters"), ("a: b: c", "YAML")]
        {
            let error = parse_parameter_file(text, &node).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
