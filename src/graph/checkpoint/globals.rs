//! Which Python names a checkpoint may mention. Nothing is ever called: a name outside these rules only shows that the file
//! is not what it claims to be.

/// What a call of a global means to the reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Callee {
    /// An empty mapping, to be filled by the opcodes that follow.
    Mapping,
    /// Kept as a symbol; whoever needs its meaning looks at the name.
    Symbol,
    /// A function that no checkpoint needs.
    Refused,
}

/// Top-level modules that reach the operating system, the interpreter or the network. Mentioning one is reason enough to
/// refuse a file.
const HOSTILE_MODULES: [&str; 22] = [
    "_pickle",
    "asyncio",
    "commands",
    "ctypes",
    "http",
    "importlib",
    "marshal",
    "multiprocessing",
    "nt",
    "os",
    "pickle",
    "pip",
    "posix",
    "pty",
    "runpy",
    "shutil",
    "signal",
    "socket",
    "subprocess",
    "sys",
    "urllib",
    "webbrowser",
];

/// Python's own data types; everything else in `builtins` (`eval`, `getattr`, ...) is refused.
const BUILTIN_TYPES: [&str; 14] =
    ["bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset", "int", "list", "object", "range", "set", "slice", "tuple"];

/// Functions and lower-case classes that `torch.save` writes a call of. Classes in CapWords are symbols anyway.
const KNOWN_CALLEES: [(&str, &[&str]); 12] = [
    ("torch", &["device", "dtype"]),
    ("torch._tensor", &["_rebuild_from_type_v2"]),
    ("torch.storage", &["_load_from_bytes"]),
    ("numpy", &["dtype", "ndarray"]),
    ("numpy.core.multiarray", &["_reconstruct", "scalar"]),
    ("numpy._core.multiarray", &["_reconstruct", "scalar"]),
    ("numpy.core.numeric", &["_frombuffer"]),
    ("numpy._core.numeric", &["_frombuffer"]),
    ("copyreg", &["_reconstructor"]),
    ("copy_reg", &["_reconstructor"]),
    ("_codecs", &["encode"]),
    ("datetime", &["date", "datetime", "timedelta", "timezone"]),
];

/// Whether a file that mentions this name is refused outright.
pub(super) fn is_hostile(module: &str, name: &str) -> bool {
    match module.split('.').next().unwrap_or(module) {
        "builtins" | "__builtin__" => !BUILTIN_TYPES.contains(&name),
        top => HOSTILE_MODULES.contains(&top),
    }
}

/// What calling `module.name` means. Assumes that [`is_hostile`] said no.
pub(super) fn callee(module: &str, name: &str) -> Callee {
    let known = || KNOWN_CALLEES.iter().any(|(m, names)| *m == module && names.contains(&name));
    let is_class =
        || name.rsplit('.').next().is_some_and(|last| last.trim_start_matches('_').starts_with(|c: char| c.is_ascii_uppercase()));
    match (module, name) {
        ("collections", "OrderedDict" | "defaultdict") | ("builtins" | "__builtin__", "dict") => Callee::Mapping,
        ("builtins" | "__builtin__", _) => Callee::Symbol,
        ("torch._utils", name) if name.starts_with("_rebuild_") => Callee::Symbol,
        ("collections", "deque") => Callee::Symbol,
        _ if known() || is_class() => Callee::Symbol,
        _ => Callee::Refused,
    }
}
