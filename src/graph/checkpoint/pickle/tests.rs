//! Pickles as Python writes them, and as an attacker would.

use super::*;

/// `pickle.dumps({"a": [1, -2, 300, 70000, 2**40, 1.5, None, True, False], "b": ("x\n\\é", (1,), (1, 2), {})}, protocol)` of
/// Python 3.11 for protocols 0 to 5.
const DUMPS: [&[u8]; 6] = [
    b"(dp0\nVa\np1\n(lp2\nI1\naI-2\naI300\naI70000\naL1099511627776L\naF1.5\naNaI01\naI00\nasVb\np3\n(Vx\x5cu000a\x5cu005c\xe9\np4\n(I1\ntp5\n(I1\nI2\ntp6\n(dp7\ntp8\ns.",
    b"}q\x00(X\x01\x00\x00\x00aq\x01]q\x02(K\x01J\xfe\xff\xff\xffM,\x01Jp\x11\x01\x00L1099511627776L\nG?\xf8\x00\x00\x00\x00\x00\x00NI01\nI00\neX\x01\x00\x00\x00bq\x03(X\x05\x00\x00\x00x\n\x5c\xc3\xa9q\x04(K\x01tq\x05(K\x01K\x02tq\x06}q\x07tq\x08u.",
    b"\x80\x02}q\x00(X\x01\x00\x00\x00aq\x01]q\x02(K\x01J\xfe\xff\xff\xffM,\x01Jp\x11\x01\x00\x8a\x06\x00\x00\x00\x00\x00\x01G?\xf8\x00\x00\x00\x00\x00\x00N\x88\x89eX\x01\x00\x00\x00bq\x03(X\x05\x00\x00\x00x\n\x5c\xc3\xa9q\x04K\x01\x85q\x05K\x01K\x02\x86q\x06}q\x07tq\x08u.",
    b"\x80\x03}q\x00(X\x01\x00\x00\x00aq\x01]q\x02(K\x01J\xfe\xff\xff\xffM,\x01Jp\x11\x01\x00\x8a\x06\x00\x00\x00\x00\x00\x01G?\xf8\x00\x00\x00\x00\x00\x00N\x88\x89eX\x01\x00\x00\x00bq\x03(X\x05\x00\x00\x00x\n\x5c\xc3\xa9q\x04K\x01\x85q\x05K\x01K\x02\x86q\x06}q\x07tq\x08u.",
    b"\x80\x04\x95K\x00\x00\x00\x00\x00\x00\x00}\x94(\x8c\x01a\x94]\x94(K\x01J\xfe\xff\xff\xffM,\x01Jp\x11\x01\x00\x8a\x06\x00\x00\x00\x00\x00\x01G?\xf8\x00\x00\x00\x00\x00\x00N\x88\x89e\x8c\x01b\x94(\x8c\x05x\n\x5c\xc3\xa9\x94K\x01\x85\x94K\x01K\x02\x86\x94}\x94t\x94u.",
    b"\x80\x05\x95K\x00\x00\x00\x00\x00\x00\x00}\x94(\x8c\x01a\x94]\x94(K\x01J\xfe\xff\xff\xffM,\x01Jp\x11\x01\x00\x8a\x06\x00\x00\x00\x00\x00\x01G?\xf8\x00\x00\x00\x00\x00\x00N\x88\x89e\x8c\x01b\x94(\x8c\x05x\n\x5c\xc3\xa9\x94K\x01\x85\x94K\x01K\x02\x86\x94}\x94t\x94u.",
];

#[test]
fn every_protocol_reads_the_same_values() {
    for (protocol, bytes) in DUMPS.into_iter().enumerate() {
        let pickle = Pickle::parse(bytes).unwrap_or_else(|error| panic!("protocol {protocol}: {error}"));
        assert_eq!(pickle.length, bytes.len(), "protocol {protocol}");
        let entries = pickle.dict(pickle.root).expect("a dict");
        let [(a, list), (b, tuple)] = *entries else { panic!("protocol {protocol}: {entries:?}") };
        assert_eq!((pickle.text(a), pickle.text(b)), (Some("a"), Some("b")));
        let values: Vec<Value> = pickle.sequence(list).expect("a list").iter().map(|&id| pickle.get(id).clone()).collect();
        let ints = [1, -2, 300, 70000, 1 << 40].map(Value::Int);
        let others = [Value::Float(1.5), Value::None, Value::Bool(true), Value::Bool(false)];
        assert_eq!(values, [&ints[..], &others[..]].concat(), "protocol {protocol}");
        let &[text, one, two, empty] = pickle.sequence(tuple).expect("a tuple") else { panic!("protocol {protocol}") };
        assert_eq!(pickle.text(text), Some("x\n\\é"), "protocol {protocol}");
        assert_eq!(pickle.sequence(one).map(<[_]>::len), Some(1));
        assert_eq!(pickle.sequence(two).map(<[_]>::len), Some(2));
        assert_eq!(pickle.dict(empty), Some(&[][..]));
    }
}

/// What Python 2 wrote for `OrderedDict([("a", 1)])` at protocol 2: a call with a list of pairs, strings of bytes.
#[test]
fn ordered_dict_of_python_2() {
    let pickle = Pickle::parse(b"\x80\x02ccollections\nOrderedDict\nq\x00]q\x01]q\x02(U\x01aK\x01ea\x85q\x03Rq\x04.").expect("valid");
    let [(key, value)] = *pickle.dict(pickle.root).expect("a dict") else { panic!("one entry") };
    assert_eq!((pickle.text(key), pickle.size(value)), (Some("a"), Some(1)));
}

#[test]
fn text_strings_of_python_2() {
    let pickle = Pickle::parse(b"S'a\\n\\\\\\x41'\n.").expect("valid");
    assert_eq!(pickle.text(pickle.root), Some("a\n\\A"));
}

#[test]
fn lengths_beyond_the_input_are_refused_before_they_are_used() {
    let huge = u64::MAX.to_le_bytes();
    for opcode in [0x8du8, 0x8e, 0x96, 0x95] {
        let bytes = [&[opcode][..], &huge].concat();
        assert!(matches!(Pickle::parse(&bytes), Err(PickleError::Truncated { .. })), "opcode {opcode:#x}");
    }
    for opcode in [b'X', b'T', b'B', 0x8b] {
        let bytes = [&[opcode][..], &u32::MAX.to_le_bytes()].concat();
        assert!(matches!(Pickle::parse(&bytes), Err(PickleError::Truncated { .. })), "opcode {opcode:#x}");
    }
}

/// Each call copies the memoized list: without a bound, n bytes would make n^2 / 8 entries, or look at as many items that
/// are no entries.
#[test]
fn repeated_copies_of_a_list_are_bounded() {
    for item in [&b"NN\x86"[..], b"N"] {
        let mut bytes = b"ccollections\nOrderedDict\nq\x02](".to_vec();
        bytes.extend(item.repeat(10_000));
        bytes.extend(b"e\x85q\x04");
        bytes.extend(b"h\x02h\x04R".repeat(10_000));
        bytes.push(b'.');
        assert_eq!(Pickle::parse(&bytes).err(), Some(PickleError::TooLarge));
    }
}

#[test]
fn operands_below_a_mark_are_out_of_reach() {
    for bytes in [&b"N(\x85."[..], b"0.", b"1.", b"u.", b"NR.", b"e.", b"h\x00.", b"(NN\x86s.", b"}(Nu.", b"\x80\x09.", b"\xff."] {
        assert!(Pickle::parse(bytes).is_err(), "{bytes:?}");
    }
}

#[test]
fn nested_containers_do_not_exhaust_the_stack() {
    let mut bytes = b"N".to_vec();
    bytes.extend(b"\x85".repeat(1_000_000));
    bytes.push(b'.');
    assert!(Pickle::parse(&bytes).is_ok());
}
