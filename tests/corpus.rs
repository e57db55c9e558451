//! Every input of the fuzzers' corpus through the same entry points: what they once found stays mended.

#[path = "../fuzz/src/lib.rs"]
mod fuzz;

use std::fs;
use std::path::Path;

#[test]
fn the_corpus_has_no_findings() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for (name, target) in fuzz::TARGETS {
        let files: Vec<_> = fs::read_dir(corpus.join(name)).expect(name).map(|entry| entry.expect(name).path()).collect();
        assert!(!files.is_empty(), "no corpus of {name}");
        for path in files {
            // The name of a file that panics is the last line before its message.
            println!("{}", path.display());
            target(&fs::read(&path).expect("read"));
        }
    }
}
