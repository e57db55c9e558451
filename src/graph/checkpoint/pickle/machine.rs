//! The pickle virtual machine, without the part that calls.

use super::super::globals::{Callee, callee, is_hostile};
use super::{Global, MAX_CELLS, Pickle, PickleError, Value, ValueId};
use std::borrow::Cow;
use std::collections::HashMap;

/// Length of a module or class name.
const MAX_NAME: usize = 512;

struct Machine<'a> {
    input: &'a [u8],
    at: usize,
    values: Vec<Value<'a>>,
    cells: usize,
    stack: Vec<ValueId>,
    /// Heights of the stack at which marks were set.
    marks: Vec<usize>,
    memo: HashMap<u64, ValueId>,
    next_memo: u64,
}

/// Runs the pickle that `input` starts with.
pub(super) fn run(input: &[u8]) -> Result<Pickle<'_>, PickleError> {
    let mut machine =
        Machine { input, at: 0, values: Vec::new(), cells: 0, stack: Vec::new(), marks: Vec::new(), memo: HashMap::new(), next_memo: 0 };
    let root = machine.run()?;
    Ok(Pickle { values: machine.values, root, length: machine.at })
}

impl<'a> Machine<'a> {
    fn run(&mut self) -> Result<ValueId, PickleError> {
        loop {
            let at = self.at;
            self.spend(1)?;
            let opcode = self.byte()?;
            match opcode {
                b'.' => return self.pop(),
                0x80 => {
                    if self.byte()? > 5 {
                        return Err(self.malformed("a pickle protocol above 5"));
                    }
                }
                // A frame is a hint for buffering.
                0x95 => {
                    self.take(8)?;
                }
                b'(' => self.marks.push(self.stack.len()),
                b'0' => {
                    // Python: pops the mark if nothing stands above it.
                    if self.marks.last() == Some(&self.stack.len()) {
                        self.marks.pop();
                    } else {
                        self.pop()?;
                    }
                }
                b'1' => {
                    self.pop_to_mark()?;
                }
                b'2' => {
                    let top = self.top()?;
                    self.stack.push(top);
                }
                b'N' | 0x88 | 0x89 | b'I' | b'J' | b'K' | b'M' | b'L' | 0x8a | 0x8b | b'F' | b'G' => self.number(opcode)?,
                b'S' | b'T' | b'U' | b'V' | b'X' | 0x8c | 0x8d | b'B' | b'C' | 0x8e | 0x96 => self.string(opcode)?,
                b']' | b')' | b'}' | 0x8f | b'l' | b't' | b'd' | 0x91 | 0x85..=0x87 => self.container(opcode)?,
                b'a' | b'e' | b's' | b'u' | 0x90 => self.fill(opcode)?,
                b'p' | b'q' | b'r' | 0x94 | b'g' | b'h' | b'j' => self.memoize(opcode)?,
                b'c' | 0x93 | b'R' | 0x81 | 0x92 | b'i' | b'o' | b'b' | b'P' | b'Q' => self.object(opcode)?,
                0x82..=0x84 => return Err(PickleError::Malformed { at, what: "an extension code, which only its own program knows" }),
                0x97 | 0x98 => return Err(PickleError::Malformed { at, what: "an out-of-band buffer, which is not in this file" }),
                _ => return Err(PickleError::UnknownOpcode { at, opcode }),
            }
        }
    }

    /// None, booleans, integers and floats.
    fn number(&mut self, opcode: u8) -> Result<(), PickleError> {
        let value = match opcode {
            b'N' => Value::None,
            0x88 => Value::Bool(true),
            0x89 => Value::Bool(false),
            b'I' => match self.text_line()? {
                // The protocol 0 spelling of booleans.
                "00" => Value::Bool(false),
                "01" => Value::Bool(true),
                digits => Value::Int(self.parsed(digits)?),
            },
            b'L' => {
                let digits = self.text_line()?;
                Value::Int(self.parsed(digits.strip_suffix('L').unwrap_or(digits))?)
            }
            b'J' => Value::Int(i32::from_le_bytes(self.array()?).into()),
            b'K' => Value::Int(self.byte()?.into()),
            b'M' => Value::Int(u16::from_le_bytes(self.array()?).into()),
            0x8a | 0x8b => {
                let length = if opcode == 0x8a { self.byte()?.into() } else { self.length4()? };
                long(self.take(length)?)
            }
            b'F' => {
                let digits = self.text_line()?;
                Value::Float(self.parsed(digits)?)
            }
            _ => Value::Float(f64::from_be_bytes(self.array()?)),
        };
        self.push(value)
    }

    /// Strings and bytes of every generation.
    fn string(&mut self, opcode: u8) -> Result<(), PickleError> {
        let value = match opcode {
            b'S' => {
                let line = self.line()?;
                let quoted = [b"'", b"\""].iter().find_map(|&q| line.strip_prefix(q)?.strip_suffix(q));
                Value::Str(unescape(quoted.ok_or_else(|| self.malformed("a string without quotes"))?, Escapes::Literal).into())
            }
            b'V' => Value::Str(unescape(self.line()?, Escapes::Unicode).into()),
            _ => {
                let length = match opcode {
                    b'U' | b'C' | 0x8c => self.byte()?.into(),
                    b'T' | b'X' | b'B' => self.length4()?,
                    _ => usize::try_from(u64::from_le_bytes(self.array()?)).unwrap_or(usize::MAX),
                };
                let bytes = self.take(length)?;
                match (opcode, std::str::from_utf8(bytes)) {
                    (b'B' | b'C' | 0x8e | 0x96, _) => Value::Bytes(bytes),
                    (_, Ok(text)) => Value::Str(Cow::Borrowed(text)),
                    // Python 2 wrote bytes as strings.
                    (b'U' | b'T', Err(_)) => Value::Bytes(bytes),
                    (_, Err(_)) => return Err(self.malformed("a string that is not UTF-8")),
                }
            }
        };
        self.push(value)
    }

    /// New lists, tuples, dicts; a set is kept as a list.
    fn container(&mut self, opcode: u8) -> Result<(), PickleError> {
        let value = match opcode {
            b']' | 0x8f => Value::List(Vec::new()),
            b')' => Value::Tuple(Vec::new()),
            b'}' => Value::Dict(Vec::new()),
            b'l' | 0x91 => Value::List(self.pop_to_mark()?),
            b't' => Value::Tuple(self.pop_to_mark()?),
            b'd' => {
                let items = self.pop_to_mark()?;
                Value::Dict(self.pairs(&items)?)
            }
            _ => {
                let mut items = Vec::new();
                for _ in 0..=(opcode - 0x85) {
                    items.push(self.pop()?);
                }
                items.reverse();
                Value::Tuple(items)
            }
        };
        self.push(value)
    }

    /// Additions to the container on top of the stack. Those to unknown objects are dropped with the rest of their state.
    fn fill(&mut self, opcode: u8) -> Result<(), PickleError> {
        let items = match opcode {
            b'a' => vec![self.pop()?],
            b's' => {
                let value = self.pop()?;
                vec![self.pop()?, value]
            }
            _ => self.pop_to_mark()?,
        };
        let pairs = if matches!(opcode, b's' | b'u') { self.pairs(&items)? } else { Vec::new() };
        self.spend(items.len())?;
        let target = self.top()?;
        match (&mut self.values[target], opcode) {
            (Value::List(list), b'a' | b'e' | 0x90) => list.extend(items),
            (Value::Dict(dict), b's' | b'u') => dict.extend(pairs),
            (Value::Object { .. } | Value::Call { .. }, _) => {}
            _ => return Err(self.malformed("items added to something that holds none")),
        }
        Ok(())
    }

    fn memoize(&mut self, opcode: u8) -> Result<(), PickleError> {
        let slot = match opcode {
            b'p' | b'g' => {
                let digits = self.text_line()?;
                self.parsed(digits)?
            }
            b'q' | b'h' => self.byte()?.into(),
            b'r' | b'j' => u32::from_le_bytes(self.array()?).into(),
            _ => self.next_memo,
        };
        if matches!(opcode, b'g' | b'h' | b'j') {
            let id = *self.memo.get(&slot).ok_or_else(|| self.malformed("a memo entry that was never stored"))?;
            self.stack.push(id);
        } else {
            let top = self.top()?;
            self.memo.insert(slot, top);
            self.next_memo += 1;
        }
        Ok(())
    }

    /// Names, calls that are not made, objects, and references to storages.
    fn object(&mut self, opcode: u8) -> Result<(), PickleError> {
        match opcode {
            b'c' => {
                let (module, name) = (self.text_line()?, self.text_line()?);
                let global = self.checked_global(module, name)?;
                self.push(global)
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (Value::Str(module), Value::Str(name)) = (&self.values[module], &self.values[name]) else {
                    return Err(self.malformed("a class whose name is no string"));
                };
                let global = self.checked_global(module, name)?;
                self.push(global)
            }
            b'R' => {
                let (args, callee) = (self.pop()?, self.pop()?);
                let value = self.call(callee, args)?;
                self.push(value)
            }
            0x81 | 0x92 => {
                if opcode == 0x92 {
                    self.pop()?;
                }
                self.pop()?;
                let class = self.pop()?;
                self.push_instance(class)
            }
            b'i' => {
                let (module, name) = (self.text_line()?, self.text_line()?);
                let global = self.checked_global(module, name)?;
                self.pop_to_mark()?;
                self.push(global)?;
                let class = self.pop()?;
                self.push_instance(class)
            }
            b'o' => {
                let items = self.pop_to_mark()?;
                let class = *items.first().ok_or_else(|| self.malformed("an object without a class"))?;
                self.push_instance(class)
            }
            // State of an object: attributes such as an OrderedDict's `_metadata`, never tensors of a state dict.
            b'b' => {
                self.pop()?;
                self.top().map(drop)
            }
            b'P' => {
                let id = self.text_line()?;
                self.push(Value::Str(Cow::Borrowed(id)))?;
                let id = self.pop()?;
                self.push(Value::Persistent(id))
            }
            _ => {
                let id = self.pop()?;
                self.push(Value::Persistent(id))
            }
        }
    }

    fn checked_global(&self, module: &str, name: &str) -> Result<Value<'a>, PickleError> {
        if module.len() > MAX_NAME || name.len() > MAX_NAME {
            return Err(self.malformed("a class name of more than 512 bytes"));
        }
        let global = Global { module: module.to_owned(), name: name.to_owned() };
        if is_hostile(module, name) {
            return Err(PickleError::Refused { module: global.module, name: global.name });
        }
        Ok(Value::Global(Box::new(global)))
    }

    fn call(&mut self, function: ValueId, args: ValueId) -> Result<Value<'a>, PickleError> {
        let Value::Global(global) = &self.values[function] else {
            return Err(self.malformed("a call of something that is no function"));
        };
        match callee(&global.module, &global.name) {
            Callee::Refused => Err(PickleError::Refused { module: global.module.clone(), name: global.name.clone() }),
            Callee::Symbol => Ok(Value::Call { callee: function, args }),
            Callee::Mapping => {
                let looked_at: usize = self.items(args).iter().map(|&list| 1 + self.items(list).len()).sum();
                self.spend(2 * looked_at)?;
                Ok(Value::Dict(self.initial_pairs(args)))
            }
        }
    }

    /// The items that a mapping is made from: Python 2 wrote `OrderedDict([[key, value], ...])`.
    fn initial_pairs(&self, args: ValueId) -> Vec<(ValueId, ValueId)> {
        let pair = |&id: &ValueId| if let [key, value] = *self.items(id) { Some((key, value)) } else { None };
        self.items(args).iter().flat_map(|&list| self.items(list)).filter_map(pair).collect()
    }

    /// Those of a tuple or list; none of anything else.
    fn items(&self, id: ValueId) -> &[ValueId] {
        match &self.values[id] {
            Value::Tuple(items) | Value::List(items) => items,
            _ => &[],
        }
    }

    /// An instance of a class; a mapping if the class is one.
    fn push_instance(&mut self, class: ValueId) -> Result<(), PickleError> {
        let value = match &self.values[class] {
            Value::Global(g) if callee(&g.module, &g.name) == Callee::Mapping => Value::Dict(Vec::new()),
            _ => Value::Object { class },
        };
        self.push(value)
    }

    fn pairs(&self, items: &[ValueId]) -> Result<Vec<(ValueId, ValueId)>, PickleError> {
        let (pairs, rest) = items.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(self.malformed("a key without a value"));
        }
        Ok(pairs.iter().map(|&[key, value]| (key, value)).collect())
    }

    fn push(&mut self, value: Value<'a>) -> Result<(), PickleError> {
        if let Value::List(items) | Value::Tuple(items) = &value {
            self.spend(items.len())?;
        }
        self.values.push(value);
        self.stack.push(self.values.len() - 1);
        Ok(())
    }

    fn spend(&mut self, cells: usize) -> Result<(), PickleError> {
        self.cells += cells;
        if self.cells > MAX_CELLS { Err(PickleError::TooLarge) } else { Ok(()) }
    }

    /// The top of the stack, which must stand above the last mark.
    fn top(&self) -> Result<ValueId, PickleError> {
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack.last() {
            Some(&id) if self.stack.len() > floor => Ok(id),
            _ => Err(self.malformed("an operand is missing")),
        }
    }

    fn pop(&mut self) -> Result<ValueId, PickleError> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn pop_to_mark(&mut self) -> Result<Vec<ValueId>, PickleError> {
        let mark = self.marks.pop().ok_or_else(|| self.malformed("a mark is missing"))?;
        Ok(self.stack.split_off(mark))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], PickleError> {
        let truncated = PickleError::Truncated { at: self.input.len() };
        let bytes = self.input.get(self.at..).and_then(|rest| rest.get(..length)).ok_or(truncated)?;
        self.at += length;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], PickleError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn byte(&mut self) -> Result<u8, PickleError> {
        self.array().map(|[b]| b)
    }

    /// A four-byte length. Python treats it as signed in places; nothing real comes near the sign.
    fn length4(&mut self) -> Result<usize, PickleError> {
        Ok(u32::from_le_bytes(self.array()?) as usize)
    }

    /// What stands before the next newline.
    fn line(&mut self) -> Result<&'a [u8], PickleError> {
        let rest = &self.input[self.at..];
        let length = rest.iter().position(|&b| b == b'\n').ok_or(PickleError::Truncated { at: self.input.len() })?;
        let line = self.take(length + 1)?;
        Ok(&line[..length])
    }

    fn text_line(&mut self) -> Result<&'a str, PickleError> {
        std::str::from_utf8(self.line()?).map_err(|_| self.malformed("a line that is not UTF-8"))
    }

    fn parsed<T: std::str::FromStr>(&self, digits: &str) -> Result<T, PickleError> {
        digits.parse().map_err(|_| self.malformed("a number that is none"))
    }

    fn malformed(&self, what: &'static str) -> PickleError {
        PickleError::Malformed { at: self.at, what }
    }
}

/// Two's complement, little endian, any length.
fn long(bytes: &[u8]) -> Value<'_> {
    if bytes.len() > 8 {
        return Value::BigInt(bytes);
    }
    let sign = if bytes.last().is_some_and(|b| b & 0x80 != 0) { 0xff } else { 0 };
    let mut array = [sign; 8];
    array[..bytes.len()].copy_from_slice(bytes);
    Value::Int(i64::from_le_bytes(array))
}

/// How a text opcode escapes what does not fit on a line.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Escapes {
    /// Only `\uhhhh` and `\Uhhhhhhhh` (Python's raw-unicode-escape).
    Unicode,
    /// Those of a Python 2 string literal: `\\`, `\'`, `\"`, `\n`, `\r`, `\t`, `\xhh`.
    Literal,
}

/// The text of a line in Latin-1 with escapes. An unknown escape stays as written.
fn unescape(line: &[u8], escapes: Escapes) -> String {
    let mut text = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((&byte, tail)) = rest.split_first() {
        let hex = |digits: usize| {
            let digits = std::str::from_utf8(tail.get(1..=digits)?).ok()?;
            u32::from_str_radix(digits, 16).ok().and_then(char::from_u32)
        };
        let escaped = match (byte, tail.first(), escapes) {
            (b'\\', Some(b'u'), Escapes::Unicode) => hex(4).map(|c| (c, 5)),
            (b'\\', Some(b'U'), Escapes::Unicode) => hex(8).map(|c| (c, 9)),
            (b'\\', Some(&c @ (b'\\' | b'\'' | b'"')), Escapes::Literal) => Some((char::from(c), 1)),
            (b'\\', Some(b'n'), Escapes::Literal) => Some(('\n', 1)),
            (b'\\', Some(b'r'), Escapes::Literal) => Some(('\r', 1)),
            (b'\\', Some(b't'), Escapes::Literal) => Some(('\t', 1)),
            (b'\\', Some(b'x'), Escapes::Literal) => hex(2).map(|c| (c, 3)),
            _ => None,
        };
        let (c, used) = escaped.unwrap_or((char::from(byte), 0));
        text.push(c);
        rest = &tail[used..];
    }
    text
}
