//! Checkpoints as PyTorch writes them (`data/checkpoint/make.py`), and as an attacker or a bad disk would.

use lidar_ptq::graph::{Checkpoint, CheckpointError, PickleError};
use ndarray::{ArrayD, IxDyn};
use proptest::prelude::*;

const DTYPES: &[u8] = include_bytes!("data/checkpoint/dtypes.pth");
const DTYPES_LEGACY: &[u8] = include_bytes!("data/checkpoint/dtypes_legacy.pth");
const VIEWS: &[u8] = include_bytes!("data/checkpoint/views.pth");
const VIEWS_LEGACY: &[u8] = include_bytes!("data/checkpoint/views_legacy.pth");
const LEGACY_VIEW: &[u8] = include_bytes!("data/checkpoint/legacy_view.pth");

/// The `ramp` of `make.py`: element i is i / 8.
fn ramp(shape: &[usize]) -> ArrayD<f32> {
    let count: usize = shape.iter().product();
    ArrayD::from_shape_vec(IxDyn(shape), (0..count).map(|i| i as f32 / 8.0).collect()).expect("shape fits")
}

fn read(bytes: &[u8]) -> Checkpoint {
    Checkpoint::from_bytes(bytes).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn every_float_type_becomes_f32_and_the_rest_is_named() {
    for bytes in [DTYPES, DTYPES_LEGACY] {
        let checkpoint = read(bytes);
        let names: Vec<&str> = checkpoint.params.0.keys().map(String::as_str).collect();
        assert_eq!(names, ["bfloat16", "float16", "float32", "float64"]);
        for (name, values) in &checkpoint.params.0 {
            assert_eq!(*values, ramp(&[2, 3]), "{name}");
        }
        let others: Vec<(&str, &str)> = checkpoint.others.iter().map(|(name, what)| (name.as_str(), what.as_str())).collect();
        assert_eq!(others, [("int64", "i64 tensor"), ("int32", "i32 tensor"), ("uint8", "u8 tensor"), ("bool", "bool tensor")]);
        assert_eq!(checkpoint.beside, ["meta", "epoch", "optimizer"]);
    }
}

#[test]
fn strided_shared_and_empty_tensors() {
    for bytes in [VIEWS, VIEWS_LEGACY] {
        let checkpoint = read(bytes);
        let get = |name: &str| checkpoint.params.get(name).unwrap_or_else(|| panic!("{name} is missing"));
        let base = ramp(&[4, 6]);
        assert_eq!(get("base"), base);
        assert_eq!(get("transposed"), base.t());
        assert_eq!(get("columns"), base.slice(ndarray::s![1..3, ..;2]).into_dyn());
        assert_eq!(get("offset"), base.index_axis(ndarray::Axis(0), 2));
        assert_eq!(get("expanded"), ArrayD::from_shape_fn(IxDyn(&[3, 2]), |i| i[0] as f32 / 8.0));
        assert_eq!(get("scalar"), ArrayD::from_elem(IxDyn(&[]), 2.5));
        assert_eq!(get("empty").shape(), [0, 4]);
        assert_eq!(get("parameter"), ramp(&[2, 2]));
        assert_eq!(checkpoint.params.0.len(), 8);
    }
}

/// The tensor starts at element 1 of a view that starts at element 2 of its storage.
#[test]
fn view_of_a_storage_in_the_old_format() {
    let checkpoint = read(LEGACY_VIEW);
    assert_eq!(checkpoint.params.get("w").map(|w| w.to_owned()), Some(ndarray::arr1(&[3.0 / 8.0, 4.0 / 8.0]).into_dyn()));
}

#[test]
fn pickle_protocols_of_torch_save() {
    for (protocol, bytes) in [
        (1, &include_bytes!("data/checkpoint/protocol1.pth")[..]),
        (3, include_bytes!("data/checkpoint/protocol3.pth")),
        (4, include_bytes!("data/checkpoint/protocol4.pth")),
        (5, include_bytes!("data/checkpoint/protocol5.pth")),
    ] {
        assert_eq!(read(bytes).params.get("w"), Some(ramp(&[2]).view()), "protocol {protocol}");
    }
}

#[test]
fn attacks_are_refused_by_name() {
    for (bytes, function) in [
        (&include_bytes!("data/checkpoint/attack_system.pth")[..], ["posix", "system"]),
        // Protocol 2 writes the Python 2 name of `subprocess`.
        (include_bytes!("data/checkpoint/attack_popen.pth"), ["commands", "Popen"]),
        (include_bytes!("data/checkpoint/attack_eval.pth"), ["__builtin__", "eval"]),
    ] {
        match Checkpoint::from_bytes(bytes) {
            Err(CheckpointError::Pickle(error @ PickleError::Refused { .. })) => {
                let text = error.to_string();
                assert!(text.contains(&format!("`{}`", function.join("."))) && text.contains("Nothing was run"), "{text}");
            }
            other => panic!("{function:?}: {other:?}"),
        }
    }
    assert!(!std::path::Path::new("attacked").exists());
}

#[test]
fn files_that_are_no_checkpoint_say_what_they_are() {
    let message = |bytes: &[u8]| Checkpoint::from_bytes(bytes).expect_err("no checkpoint").to_string();
    for (bytes, expected) in [
        (&include_bytes!("data/checkpoint/whole_module.pth")[..], "torch.nn.modules.linear.Linear"),
        (include_bytes!("data/checkpoint/no_tensors.pth"), "`epoch` (an int)"),
        (include_bytes!("data/checkpoint/quantized_tensor.pth"), "tensor `w`: tensors made by `torch._utils._rebuild_qtensor`"),
        (b"", "neither"),
        (b"not a checkpoint", "neither"),
        (&DTYPES[..DTYPES.len() / 2], "truncated"),
        (&DTYPES_LEGACY[..DTYPES_LEGACY.len() - 1], "truncated in storage"),
        (b"\x80\x02}q\x00.", "without PyTorch's signature"),
    ] {
        let text = message(bytes);
        assert!(text.contains(expected), "expected `{expected}` in `{text}`");
    }
}

/// A flipped bit in a tensor's bytes is found by the archive's checksum.
#[test]
fn damaged_archive() {
    let at = DTYPES.windows(4).position(|w| w == 0.625f32.to_le_bytes()).expect("the last element of the f32 ramp");
    let mut damaged = DTYPES.to_vec();
    damaged[at] ^= 1;
    let text = Checkpoint::from_bytes(&damaged).expect_err("damaged").to_string();
    assert!(text.contains("damaged"), "{text}");
}

/// Somebody has packed the archive anew, with compression. The method stands in both of an entry's headers, 8 is deflate.
#[test]
fn compressed_entries_are_refused_with_the_way_out() {
    let mut packed = DTYPES.to_vec();
    for (magic, method_at) in [(b"PK\x03\x04", 8), (b"PK\x01\x02", 10)] {
        let headers: Vec<usize> = (0..packed.len() - 4).filter(|&i| packed[i..].starts_with(magic)).collect();
        headers.into_iter().for_each(|at| packed[at + method_at] = 8);
    }
    let text = Checkpoint::from_bytes(&packed).expect_err("compressed").to_string();
    assert!(text.contains("compressed entries") && text.contains("zip -0 -r"), "{text}");
}

/// An expanded tensor claims 2^40 elements of one stored value.
#[test]
fn a_small_file_cannot_claim_a_large_tensor() {
    // The shape (3, 2) and the strides (1, 0) of `expanded`: BININT1 3, BININT1 2, TUPLE2.
    let shape = b"K\x03K\x02\x86";
    let positions: Vec<usize> = (0..VIEWS_LEGACY.len() - shape.len()).filter(|&i| VIEWS_LEGACY[i..].starts_with(shape)).collect();
    let [at] = positions[..] else { panic!("one shape (3, 2), found {positions:?}") };
    let large = b"\x8a\x05\x00\x00\x00\x00\x01K\x02\x86";
    let bomb = [&VIEWS_LEGACY[..at], large, &VIEWS_LEGACY[at + shape.len()..]].concat();
    let text = Checkpoint::from_bytes(&bomb).expect_err("a bomb").to_string();
    assert!(text.contains("tensor `expanded`") && text.contains("more than the whole file can hold"), "{text}");
}

/// A pickle stores a long key once and mentions it in every entry.
#[test]
fn a_small_file_cannot_claim_long_keys_many_times() {
    let tensor = FRAGMENTS.last().expect("fragments");
    let key = [b"X", &10_000u32.to_le_bytes()[..], &[b'k'; 10_000], b"q\x00"].concat();
    let storage = [&b".\x80\x02](U\x04roote."[..], &6u64.to_le_bytes(), &[0; 24]].concat();
    // In the state dict, which the tensor's fragment has left on the stack.
    let bomb = [legacy_prefix(), tensor, b"(", &key, b"N", &b"h\x00N".repeat(10_000), b"u", &storage].concat();
    let text = Checkpoint::from_bytes(&bomb).expect_err("a bomb").to_string();
    assert!(text.contains("its keys repeat"), "{text}");
    // Beside it.
    let beside = [&b"}("[..], &key, b"N", &b"h\x00N".repeat(10_000), &b"U\x0astate_dict"[..], tensor, b"u"].concat();
    assert_eq!(read(&[legacy_prefix(), &beside, &storage].concat()).beside, ["k".repeat(10_000)]);
}

/// The last of [`FRAGMENTS`] alone is a valid checkpoint, so that the programs made of them come close to one.
#[test]
fn the_fragments_make_a_checkpoint() {
    let last = FRAGMENTS.last().expect("fragments");
    let storage: Vec<u8> = 6u64.to_le_bytes().into_iter().chain((0..6u8).flat_map(|i| f32::from(i).to_le_bytes())).collect();
    let checkpoint = read(&[legacy_prefix(), last, b".\x80\x02](U\x04roote.", &storage].concat());
    assert_eq!(checkpoint.params.get("w").map(|w| w.to_owned()), Some(ndarray::arr1(&[1.0, 2.0]).into_dyn()));
}

/// What may be read from a file is bounded by its length, whatever it says.
fn check(bytes: &[u8]) {
    if let Ok(checkpoint) = Checkpoint::from_bytes(bytes) {
        let values: usize = checkpoint.params.0.values().map(|a| a.len()).sum();
        assert!(values <= 4 * bytes.len());
    }
}

/// The old format up to the pickle of the checkpoint: signature, version and system, each a pickle of protocol 2.
fn legacy_prefix() -> &'static [u8] {
    let mut starts = (0..LEGACY_VIEW.len()).filter(|&i| LEGACY_VIEW[i..].starts_with(b"\x80\x02"));
    &LEGACY_VIEW[..starts.nth(3).expect("a fourth pickle")]
}

const FRAGMENTS: &[&[u8]] = &[
    b"(",
    b")",
    b"]",
    b"}",
    b"N",
    b"0",
    b"1",
    b"2",
    b"K\x01",
    b"K\x02",
    b"J\xff\xff\xff\xff",
    b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f",
    b"q\x00",
    b"q\x01",
    b"h\x00",
    b"h\x01",
    b"\x94",
    b"t",
    b"l",
    b"d",
    b"\x85",
    b"\x86",
    b"\x87",
    b"a",
    b"e",
    b"s",
    b"u",
    b"b",
    b"R",
    b"\x81",
    b"\x92",
    b"o",
    b"Q",
    b"\x93",
    b"U\x01w",
    b"U\x0astate_dict",
    b"ccollections\nOrderedDict\n",
    b"ctorch._utils\n_rebuild_tensor_v2\n",
    b"ctorch._utils\n_rebuild_parameter\n",
    b"ctorch._tensor\n_rebuild_from_type_v2\n",
    b"ctorch\nSize\n",
    // A whole storage reference, tensor arguments, and a tensor in a state dict.
    b"(U\x07storagectorch\nFloatStorage\nU\x04rootU\x03cpuK\x06tQ",
    b"K\x01K\x02\x85K\x01\x85",
    b"}U\x01wctorch._utils\n_rebuild_tensor\n((U\x07storagectorch\nFloatStorage\nU\x04rootU\x03cpuK\x06tQK\x01K\x02\x85K\x01\x85tRs",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn arbitrary_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        check(&bytes);
        check(&[legacy_prefix(), &bytes].concat());
    }

    /// Programs of opcodes that tensors are made of, in any order.
    #[test]
    fn arbitrary_pickles_do_no_harm(program in prop::collection::vec(prop::sample::select(FRAGMENTS), 0..60)) {
        check(&[legacy_prefix(), &program.concat(), b".\x80\x02](U\x04roote.", &[0; 40]].concat());
    }

    #[test]
    fn mutated_files_do_no_harm(
        file in prop::sample::select(vec![DTYPES, DTYPES_LEGACY, VIEWS, VIEWS_LEGACY, LEGACY_VIEW]),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4usize), 1..6),
    ) {
        let mut bytes = file.to_vec();
        for (at, value, kind) in edits {
            let at = at.index(bytes.len());
            match kind {
                0 => bytes[at] = value,
                1 => bytes[at] ^= 1 << (value % 8),
                2 => bytes.insert(at, value),
                _ => bytes.truncate(at.max(1)),
            }
        }
        check(&bytes);
    }
}
