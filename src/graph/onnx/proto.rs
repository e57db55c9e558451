//! The few messages of `onnx.proto` that a network needs, written in protocol buffers' wire format.
//!
//! A message is a sequence of fields: a key (number and wire type), then a varint, four bytes, or a length and that many bytes.
//! Numbers of fields and enumerations are those of `onnx.proto` (<https://onnx.ai/onnx/api/serialization.html>).

/// A message under construction.
#[derive(Clone, Debug, Default)]
pub(super) struct Message(Vec<u8>);

const VARINT: u32 = 0;
const LENGTH: u32 = 2;
const FOUR_BYTES: u32 = 5;

impl Message {
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn key(&mut self, field: u32, wire_type: u32) {
        self.varint(u64::from(field << 3 | wire_type));
    }

    pub fn int(mut self, field: u32, value: i64) -> Self {
        self.key(field, VARINT);
        self.varint(value as u64); // negative numbers as ten bytes of two's complement
        self
    }

    pub fn float(mut self, field: u32, value: f32) -> Self {
        self.key(field, FOUR_BYTES);
        self.0.extend(value.to_le_bytes());
        self
    }

    pub fn bytes(mut self, field: u32, bytes: &[u8]) -> Self {
        self.key(field, LENGTH);
        self.varint(bytes.len() as u64);
        self.0.extend(bytes);
        self
    }

    pub fn text(self, field: u32, text: &str) -> Self {
        self.bytes(field, text.as_bytes())
    }

    pub fn message(self, field: u32, message: &Message) -> Self {
        self.bytes(field, &message.0)
    }
}

/// `TensorProto.DataType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    F32 = 1,
    U8 = 2,
    I8 = 3,
    I64 = 7,
}

/// `TensorProto`: a constant.
pub(super) fn tensor(name: &str, element: Type, shape: &[usize], little_endian: &[u8]) -> Message {
    let message = shape.iter().fold(Message::default(), |m, &side| m.int(1, side as i64));
    message.int(2, element as i64).text(8, name).bytes(9, little_endian)
}

/// An axis of a value that enters or leaves the graph.
#[derive(Clone, Copy, Debug)]
pub(super) enum Side<'a> {
    Fixed(usize),
    /// Any length; the same wherever the name is the same.
    Named(&'a str),
}

/// `ValueInfoProto` of a float tensor.
pub(super) fn value_info(name: &str, shape: &[Side<'_>]) -> Message {
    let side = |side: &Side<'_>| match *side {
        Side::Fixed(length) => Message::default().int(1, length as i64),
        Side::Named(name) => Message::default().text(2, name),
    };
    let shape = shape.iter().fold(Message::default(), |m, s| m.message(1, &side(s)));
    let tensor = Message::default().int(1, Type::F32 as i64).message(2, &shape);
    Message::default().text(1, name).message(2, &Message::default().message(1, &tensor))
}

/// `AttributeProto`.
pub(super) enum Attribute<'a> {
    Int(&'a str, i64),
    Ints(&'a str, &'a [usize]),
    Float(&'a str, f32),
}

impl Attribute<'_> {
    fn message(&self) -> Message {
        let named = |name: &str, kind: i64| Message::default().text(1, name).int(20, kind);
        match *self {
            Attribute::Float(name, value) => named(name, 1).float(2, value),
            Attribute::Int(name, value) => named(name, 2).int(3, value),
            Attribute::Ints(name, values) => values.iter().fold(named(name, 7), |m, &v| m.int(8, v as i64)),
        }
    }
}

/// `NodeProto` with one output, after which it is named.
pub(super) fn node(operator: &str, inputs: &[&str], output: &str, attributes: &[Attribute<'_>]) -> Message {
    let message = inputs.iter().fold(Message::default(), |m, input| m.text(1, input));
    let message = message.text(2, output).text(3, output).text(4, operator);
    attributes.iter().fold(message, |m, a| m.message(5, &a.message()))
}

/// The parts of a `GraphProto`, in the order in which they were made.
#[derive(Debug, Default)]
pub(super) struct Parts {
    pub nodes: Vec<Message>,
    pub constants: Vec<Message>,
    pub inputs: Vec<Message>,
    pub outputs: Vec<Message>,
}

/// `ModelProto`: the bytes of a file.
pub(super) fn model(parts: &Parts, name: &str, description: &str, metadata: &[(&str, &str)]) -> Vec<u8> {
    let fields = [(1, &parts.nodes), (5, &parts.constants), (11, &parts.inputs), (12, &parts.outputs)];
    let graph = Message::default().text(2, name).text(10, description);
    let graph = fields.iter().fold(graph, |m, (field, messages)| messages.iter().fold(m, |m, message| m.message(*field, message)));
    let operators = Message::default().text(1, "").int(2, OPERATOR_SET);
    let model = Message::default().int(1, IR_VERSION).text(2, "lidar_ptq").text(3, env!("CARGO_PKG_VERSION"));
    let model = model.text(6, description).message(7, &graph).message(8, &operators);
    let entry = |(key, value): &(&str, &str)| Message::default().text(1, key).text(2, value);
    metadata.iter().fold(model, |m, pair| m.message(14, &entry(pair))).into_bytes()
}

/// The first with scales by channel (`DequantizeLinear` with an axis), and the file format that came with it.
const OPERATOR_SET: i64 = 13;
const IR_VERSION: i64 = 7;

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of the protocol buffers' documentation.
    #[test]
    fn wire_format_by_hand() {
        assert_eq!(Message::default().int(1, 150).into_bytes(), [0x08, 0x96, 0x01]);
        assert_eq!(Message::default().text(2, "testing").into_bytes(), [0x12, 7, b't', b'e', b's', b't', b'i', b'n', b'g']);
        let inner = Message::default().int(1, 150);
        assert_eq!(Message::default().message(3, &inner).into_bytes(), [0x1a, 3, 0x08, 0x96, 0x01]);
        assert_eq!(Message::default().int(1, -2).into_bytes()[1..], [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
        assert_eq!(Message::default().float(2, 1.0).into_bytes(), [0x15, 0, 0, 0x80, 0x3f]);
        assert_eq!(Message::default().int(20, 7).into_bytes(), [0xa0, 0x01, 7]);
    }
}
