//! A reader of Python pickles, protocols 0 to 5, that executes nothing: calls become [`Value::Call`] and objects
//! [`Value::Object`], and whoever needs their meaning looks at the names.
//!
//! Values live in one arena and refer to each other by position, so a hostile file can neither exhaust the stack by nesting
//! nor build a cycle that is never freed. Everything that is allocated is counted against [`MAX_CELLS`].

mod machine;

use std::borrow::Cow;

/// Values, stack entries and container slots in one pickle. A checkpoint with its optimizer takes some 10^5.
const MAX_CELLS: usize = 1 << 22;

/// Position in the arena of a [`Pickle`].
pub(super) type ValueId = usize;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value<'a> {
    None,
    Bool(bool),
    Int(i64),
    /// An integer of more than eight bytes, little endian.
    BigInt(&'a [u8]),
    Float(f64),
    Str(Cow<'a, str>),
    Bytes(&'a [u8]),
    List(Vec<ValueId>),
    Tuple(Vec<ValueId>),
    /// In the order in which the file filled it.
    Dict(Vec<(ValueId, ValueId)>),
    Global(Box<Global>),
    /// An object stored outside the pickle, by its id.
    Persistent(ValueId),
    /// A call that was not made.
    Call {
        callee: ValueId,
        args: ValueId,
    },
    /// An instance of a class that is not known here; its state is dropped.
    Object {
        class: ValueId,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Global {
    pub module: String,
    pub name: String,
}

/// One pickle, read to its end.
#[derive(Debug)]
pub(super) struct Pickle<'a> {
    values: Vec<Value<'a>>,
    pub root: ValueId,
    /// Bytes from the start of the input to behind the pickle's last.
    pub length: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PickleError {
    #[error("the pickle ends in the middle (at byte {at})")]
    Truncated { at: usize },
    #[error("byte {at}: 0x{opcode:02x} is no pickle opcode")]
    UnknownOpcode { at: usize, opcode: u8 },
    #[error("byte {at}: {what}")]
    Malformed { at: usize, what: &'static str },
    #[error("the pickle holds more than {MAX_CELLS} values, no checkpoint that is known")]
    TooLarge,
    #[error(
        "the file asks Python to run `{module}.{name}`, which no checkpoint needs: it may be an attack. Nothing was run. If you trust its \
         origin, save the bare tensors anew: torch.save(model.state_dict(), PATH)"
    )]
    Refused { module: String, name: String },
}

impl<'a> Pickle<'a> {
    /// Reads the pickle that `input` starts with.
    ///
    /// # Errors
    /// Anything but a complete, well-formed pickle that stays within the bounds and mentions no refused name.
    pub(super) fn parse(input: &'a [u8]) -> Result<Self, PickleError> {
        machine::run(input)
    }

    pub(super) fn get(&self, id: ValueId) -> &Value<'a> {
        // Ids are made by the machine only, each for a value that it had pushed.
        &self.values[id]
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &Value<'a>> {
        self.values.iter()
    }

    /// The text of a string, else `None`.
    pub(super) fn text(&self, id: ValueId) -> Option<&str> {
        if let Value::Str(text) = self.get(id) { Some(text) } else { None }
    }

    /// A non-negative integer, else `None`.
    pub(super) fn size(&self, id: ValueId) -> Option<usize> {
        if let Value::Int(n) = *self.get(id) { usize::try_from(n).ok() } else { None }
    }

    /// The items of a tuple or list, else `None`.
    pub(super) fn sequence(&self, id: ValueId) -> Option<&[ValueId]> {
        if let Value::Tuple(items) | Value::List(items) = self.get(id) { Some(items) } else { None }
    }

    pub(super) fn dict(&self, id: ValueId) -> Option<&[(ValueId, ValueId)]> {
        if let Value::Dict(items) = self.get(id) { Some(items) } else { None }
    }

    pub(super) fn global(&self, id: ValueId) -> Option<&Global> {
        if let Value::Global(global) = self.get(id) { Some(global) } else { None }
    }

    /// What a value is, in words for a message.
    pub(super) fn describe(&self, id: ValueId) -> String {
        let named = |id: ValueId| self.global(id).map_or_else(|| "an unknown class".into(), |g| format!("`{}.{}`", g.module, g.name));
        match self.get(id) {
            Value::None => "None".into(),
            Value::Bool(_) => "a bool".into(),
            Value::Int(_) | Value::BigInt(_) => "an int".into(),
            Value::Float(_) => "a float".into(),
            Value::Str(_) => "a string".into(),
            Value::Bytes(_) => "bytes".into(),
            Value::List(_) => "a list".into(),
            Value::Tuple(_) => "a tuple".into(),
            Value::Dict(_) => "a dict".into(),
            Value::Global(_) => format!("the class {}", named(id)),
            Value::Persistent(_) => "a storage".into(),
            Value::Call { callee, .. } => format!("an object made by {}", named(*callee)),
            Value::Object { class } => format!("an object of {}", named(*class)),
        }
    }
}

#[cfg(test)]
mod tests;
