//! Excerpts of a file that is made here, and of those that are frozen.

use std::{fs, path::PathBuf};

use super::*;

const STRINGS: &[u8] = b"\0int\0task_struct\0pid\0flag\0other\0inner\0unwanted\0do_wp_page\0task\0";

fn string(name: &str) -> u32 {
    let name = format!("\0{name}\0");
    let at = STRINGS.windows(name.len()).position(|window| window == name.as_bytes());
    u32::try_from(at.unwrap() + 1).unwrap()
}

fn file(words: &[u32]) -> Vec<u8> {
    let length = u32::try_from(words.len() * 4).unwrap();
    let strings = u32::try_from(STRINGS.len()).unwrap();
    let header = [u32::from(MAGIC) | 1 << 16, 24, 0, length, length, strings];
    let words = header.iter().chain(words).flat_map(|word| word.to_le_bytes());
    words.chain(STRINGS.iter().copied()).collect()
}

/// All types of a file, with names instead of their places.
fn listed(file: &[u8]) -> Vec<Vec<String>> {
    let types = Types::parse(file).unwrap();
    let shown = |(word, value): &(Word, u32)| match word {
        Name => String::from_utf8_lossy(types.name(*value)).into_owned(),
        Type => format!("#{value}"),
        Plain => format!("{value:#x}"),
    };
    types.records.iter().map(|record| record.words.iter().map(shown).collect()).collect()
}

#[test]
fn what_is_asked_for_is_kept_whole_and_the_rest_as_far_as_needed() {
    let [int, task, pid, flag] = ["int", "task_struct", "pid", "flag"].map(string);
    let [other, inner, unwanted, function, parameter] =
        ["other", "inner", "unwanted", "do_wp_page", "task"].map(string);
    let source = file(
        &[
            &[unwanted, 4 << 24, 4][..],     // 1: struct that nothing refers to
            &[int, 1 << 24, 4, 0x0100_0020], // 2: int
            &[other, 4 << 24 | 1 << 31 | 1, 16, inner, 2, 0], // 3: struct, opaque
            &[0, 5 << 24 | 2, 8, inner, 2, 0, pid, 2, 0], // 4: unnamed union
            &[task, 4 << 24 | 1 << 31 | 3, 24, 0, 4, 0, flag, 2, 1 << 24 | 65, other, 3, 64], // 5
            &[0, 2 << 24, 5],                // 6: pointer to it
            &[0, 13 << 24 | 1, 0, parameter, 6], // 7: prototype that gives void
            &[function, 12 << 24 | 1, 7],    // 8: global function
        ]
        .concat(),
    );
    let expected = [
        &["int", "0x1000000", "0x4", "0x1000020"][..],
        &["other", "0x4000000", "0x10"],
        &["", "0x5000002", "0x8", "inner", "#1", "0x0", "pid", "#1", "0x0"],
        &[
            "task_struct",
            "0x84000003",
            "0x18",
            "",
            "#3",
            "0x0",
            "flag",
            "#1",
            "0x1000041",
            "other",
            "#2",
            "0x40",
        ],
        &["", "0x2000000", "#4"],
        &["", "0xd000001", "#0", "task", "#5"],
        &["do_wp_page", "0xc000001", "#6"],
    ];
    assert_eq!(listed(&excerpt(&source).unwrap()), expected);
}

fn frozen() -> Vec<Vec<u8>> {
    let kernels = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../cowtrace/fixtures/kernels"));
    let entries = fs::read_dir(kernels).unwrap().map(|entry| entry.unwrap().path().join("btf"));
    entries.filter(|path| path.exists()).map(|path| fs::read(path).unwrap()).collect()
}

#[test]
fn an_excerpt_of_an_excerpt_is_the_same() {
    let frozen = frozen();
    assert!(!frozen.is_empty());
    for file in frozen {
        assert_eq!(listed(&excerpt(&file).unwrap()), listed(&file));
    }
}

#[test]
fn damaged_files_are_errors() {
    let whole = frozen().swap_remove(0);
    for length in (0..whole.len()).step_by(61) {
        let cut = whole.get(..length).unwrap();
        assert!(excerpt(cut).is_err(), "{length} of {} bytes", whole.len());
    }
    let mut unknown = whole.clone();
    // The kind of the first type.
    unknown[24 + 7] = 31;
    let error = excerpt(&unknown).unwrap_err().to_string();
    assert!(error.contains("a kind of type, 31"), "{error}");
    let mut swapped = whole;
    swapped.swap(0, 1);
    assert!(excerpt(&swapped).unwrap_err().to_string().contains("no BTF file"));
}
