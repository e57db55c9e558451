//! What parameters a node has: types, bounds, defaults, and which may change while it runs.

use super::parameters::{ParameterValue, Parameters};
use serde::de::DeserializeOwned;

/// A parameter of a node.
#[derive(Debug)]
pub struct Declaration {
    pub name: &'static str,
    pub kind: Kind,
    pub description: &'static str,
    pub change: Change,
}

/// Whether a parameter may be set while the node runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Live,
    /// Set at the start, for this reason.
    AtStart(&'static str),
}

impl Declaration {
    pub const fn flag(name: &'static str, default: bool, description: &'static str, change: Change) -> Self {
        Self { name, kind: Kind::Flag { default }, description, change }
    }

    /// Bounds are least and most.
    pub const fn integer(name: &'static str, default: i64, bounds: [i64; 2], description: &'static str, change: Change) -> Self {
        Self { name, kind: Kind::Integer { default, least: bounds[0], most: bounds[1] }, description, change }
    }

    pub const fn number(name: &'static str, default: Option<f64>, bounds: [f64; 2], description: &'static str, change: Change) -> Self {
        Self { name, kind: Kind::Number { default, least: bounds[0], most: bounds[1] }, description, change }
    }

    pub const fn text(name: &'static str, description: &'static str, change: Change) -> Self {
        Self { name, kind: Kind::Text, description, change }
    }

    pub const fn choice(
        name: &'static str,
        default: &'static str,
        of: &'static [&'static str],
        description: &'static str,
        change: Change,
    ) -> Self {
        Self { name, kind: Kind::Choice { default, of }, description, change }
    }
}

/// Type, bounds (inclusive) and default.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Flag {
        default: bool,
    },
    Integer {
        default: i64,
        least: i64,
        most: i64,
    },
    /// Whole numbers are numbers, too: who writes `1` means it. Without a default it is not set until someone sets it.
    Number {
        default: Option<f64>,
        least: f64,
        most: f64,
    },
    /// An empty text is as good as none: launch files cannot leave an argument out.
    Text,
    /// One of some words, or empty.
    Choice {
        default: &'static str,
        of: &'static [&'static str],
    },
    /// Texts of a certain form; empty ones are passed over, since parameter files cannot write an empty array of texts.
    Texts {
        expected: &'static str,
        is_valid: fn(&str) -> bool,
    },
}

/// Everything that is wrong, a line each.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct ParametersError(pub Vec<String>);

/// A node's parameters with their values, which are valid.
#[derive(Clone, Debug)]
pub struct DeclaredParameters {
    groups: &'static [&'static [Declaration]],
    values: Parameters,
}

impl DeclaredParameters {
    /// With the names of what was given and is not declared: meant for others, or misspelt.
    ///
    /// # Errors
    /// Values of another type or out of bounds.
    pub fn new(groups: &'static [&'static [Declaration]], given: &Parameters) -> Result<(Self, Vec<String>), ParametersError> {
        let (mut values, mut problems) = (Parameters::new(), Vec::new());
        for declaration in groups.iter().copied().flatten() {
            let value = given.get(declaration.name).cloned().or_else(|| declaration.kind.default());
            match value.map(|v| declaration.accept(v)) {
                Some(Ok(value)) => _ = values.insert(declaration.name.to_owned(), value),
                Some(Err(problem)) => problems.push(problem),
                None => {}
            }
        }
        if !problems.is_empty() {
            return Err(ParametersError(problems));
        }
        let declared = Self { groups, values };
        let unknown = given.keys().filter(|name| declared.declaration(name).is_none()).cloned().collect();
        Ok((declared, unknown))
    }

    pub fn declarations(&self) -> impl Iterator<Item = &'static Declaration> {
        self.groups.iter().copied().flatten()
    }

    pub fn declaration(&self, name: &str) -> Option<&'static Declaration> {
        self.declarations().find(|d| d.name == name)
    }

    /// `None`: not set, or not declared.
    pub fn get(&self, name: &str) -> Option<&ParameterValue> {
        self.values.get(name)
    }

    /// With other values, as somebody wants them while the node runs; all or none. `None` takes a value away, which no parameter allows.
    ///
    /// # Errors
    /// The reason, for whoever wants it.
    pub fn changed(&self, changes: &[(String, Option<ParameterValue>)]) -> Result<Self, String> {
        let mut values = self.values.clone();
        for (name, value) in changes {
            let declaration = self.declaration(name).ok_or_else(|| format!("{name}: this node has no such parameter"))?;
            let value = value.clone().ok_or_else(|| format!("{name}: cannot be taken away, only set"))?;
            let value = declaration.accept(value)?;
            // Who sets everything that a file holds sets much that stays as it is.
            if self.values.get(name) == Some(&value) {
                continue;
            }
            if let Change::AtStart(reason) = declaration.change {
                return Err(format!("{name}: read-only, set at start: {reason}"));
            }
            values.insert(name.clone(), value);
        }
        Ok(Self { groups: self.groups, values })
    }

    /// Sets what the node itself has changed.
    pub fn set(&mut self, name: &'static str, value: ParameterValue) {
        self.values.insert(name.to_owned(), value);
    }

    /// # Panics
    /// Like all of these: if no such parameter of this type is declared.
    pub fn flag(&self, name: &str) -> bool {
        match self.declared(name) {
            Some(ParameterValue::Bool(value)) => *value,
            other => panic!("{name} is no flag: {other:?}"),
        }
    }

    pub fn integer(&self, name: &str) -> i64 {
        match self.declared(name) {
            Some(ParameterValue::Integer(value)) => *value,
            other => panic!("{name} is no integer: {other:?}"),
        }
    }

    pub fn number(&self, name: &str) -> f64 {
        self.number_if_set(name).unwrap_or_else(|| panic!("{name} has no default"))
    }

    pub fn number_if_set(&self, name: &str) -> Option<f64> {
        match self.declared(name) {
            Some(ParameterValue::Double(value)) => Some(*value),
            None => None,
            other => panic!("{name} is no number: {other:?}"),
        }
    }

    /// `None` for an empty one.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.declared(name) {
            Some(ParameterValue::String(text)) => Some(text.as_str()).filter(|t| !t.is_empty()),
            other => panic!("{name} is no text: {other:?}"),
        }
    }

    /// Of a type whose variants have the words as names.
    pub fn choice<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        let text = self.text(name)?;
        Some(serde_json::from_value(text.into()).unwrap_or_else(|_| panic!("{name}: `{text}` is declared and means nothing")))
    }

    pub fn texts(&self, name: &str) -> impl Iterator<Item = &str> {
        let texts = match self.declared(name) {
            Some(ParameterValue::StringArray(texts)) => texts,
            other => panic!("{name} are no texts: {other:?}"),
        };
        texts.iter().map(String::as_str).filter(|t| !t.is_empty())
    }

    fn declared(&self, name: &str) -> Option<&ParameterValue> {
        assert!(self.declaration(name).is_some(), "{name} is not declared");
        self.values.get(name)
    }
}

impl Declaration {
    /// The value as it is kept, or what is wrong with it.
    fn accept(&self, value: ParameterValue) -> Result<ParameterValue, String> {
        let is_valid = match (&self.kind, &value) {
            (Kind::Flag { .. }, ParameterValue::Bool(_)) | (Kind::Text, ParameterValue::String(_)) => true,
            (Kind::Integer { least, most, .. }, ParameterValue::Integer(v)) => (*least..=*most).contains(v),
            (Kind::Number { least, most, .. }, ParameterValue::Double(v)) => (*least..=*most).contains(v),
            (Kind::Number { .. }, ParameterValue::Integer(v)) => return self.accept(ParameterValue::Double(*v as f64)),
            (Kind::Choice { of, .. }, ParameterValue::String(text)) => text.is_empty() || of.contains(&text.as_str()),
            (Kind::Texts { is_valid, .. }, ParameterValue::StringArray(texts)) => texts.iter().all(|t| t.is_empty() || is_valid(t)),
            _ => false,
        };
        if is_valid {
            Ok(value)
        } else {
            Err(format!("{}: is {value} ({}), expected {}", self.name, value.type_name(), self.kind.expected()))
        }
    }
}

impl Kind {
    fn default(&self) -> Option<ParameterValue> {
        Some(match self {
            Self::Flag { default } => ParameterValue::Bool(*default),
            Self::Integer { default, .. } => ParameterValue::Integer(*default),
            Self::Number { default, .. } => ParameterValue::Double((*default)?),
            Self::Text => ParameterValue::String(String::new()),
            Self::Choice { default, .. } => ParameterValue::String((*default).to_owned()),
            Self::Texts { .. } => ParameterValue::StringArray(vec![String::new()]),
        })
    }

    /// What a valid value is.
    pub fn expected(&self) -> String {
        match self {
            Self::Flag { .. } => "true or false".into(),
            Self::Integer { least, most, .. } => format!("a whole number from {least} to {most}"),
            Self::Number { least: f64::MIN, most: f64::MAX, .. } => "a finite number".into(),
            Self::Number { least, most: f64::MAX, .. } => format!("a number of at least {least}"),
            Self::Number { least, most, .. } => format!("a number from {least} to {most}"),
            Self::Text => "a text".into(),
            Self::Choice { of, .. } => match of.split_last() {
                Some((last, others)) => format!("{} or {last}", others.join(", ")),
                None => "nothing".into(),
            },
            Self::Texts { expected, .. } => (*expected).into(),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    const RESTART: Change = Change::AtStart("start the node anew");
    static DECLARATIONS: [Declaration; 4] = [
        Declaration::number("threshold", Some(0.5), [0.0, 1.0], "Of scores.", Change::Live),
        Declaration::text("group.path", "Of a file.", RESTART),
        Declaration::integer("group.deep.count", 3, [0, 10], "Of things.", Change::Live),
        Declaration::number("group.scale", None, [f64::MIN, f64::MAX], "Has no default.", Change::Live),
    ];

    pub fn declared() -> DeclaredParameters {
        static GROUPS: [&[Declaration]; 1] = [&DECLARATIONS];
        DeclaredParameters::new(&GROUPS, &Parameters::new()).unwrap().0
    }

    fn change(name: &str, value: ParameterValue) -> (String, Option<ParameterValue>) {
        (name.to_owned(), Some(value))
    }

    #[test]
    fn changes_hold_together_or_not_at_all() {
        let before = declared();
        let good = change("threshold", ParameterValue::Integer(1));
        let after = before.changed(std::slice::from_ref(&good)).unwrap();
        assert_eq!((before.number("threshold"), after.number("threshold")), (0.5, 1.0));
        for (bad, reason) in [
            (change("threshold", ParameterValue::Double(1.5)), "threshold: is 1.5 (double), expected a number from 0 to 1"),
            (change("group.scale", ParameterValue::Double(f64::NAN)), "expected a finite number"),
            (change("group.path", ParameterValue::String("x".into())), "group.path: read-only, set at start: start the node anew"),
            (change("group", ParameterValue::Bool(true)), "group: this node has no such parameter"),
            (("threshold".to_owned(), None), "threshold: cannot be taken away"),
        ] {
            let error = before.changed(&[good.clone(), bad]).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn what_stays_as_it_is_may_be_set() {
        let path = change("group.path", ParameterValue::String(String::new()));
        assert!(declared().changed(&[path]).is_ok());
    }
}
