//! Recordings written and read back, whole and damaged ones.

use std::{fs, path::Path, time::Duration};

use rusqlite::{Connection, ErrorCode};
use tempfile::TempDir;

use super::{
    Place, RecordError, read,
    samples::MOST_ROWS,
    write::{Cost, PATIENCE, Writer},
};
use crate::{
    export::human_tests::report,
    model::{Fork, ForkKind, ForkStack, Numbers, Report, Snapshot, Stack, StackFrames, StackKind, Stacks},
};

const SECOND: u64 = 1_000_000_000;

fn place() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// With all that there is.
fn whole(report: Report) -> Snapshot {
    let numbers = Numbers {
        processes: (0..report.processes.len() as u64).collect(),
        forks: (0..report.forks.len() as u64).collect(),
    };
    Snapshot { report, numbers }
}

fn writer(path: &Path) -> Writer {
    Writer::new(Connection::open(path).unwrap()).unwrap()
}

fn numbers(db: &Connection, query: &str) -> Vec<Vec<i64>> {
    let mut statement = db.prepare(query).unwrap();
    let columns = statement.column_count();
    let rows = statement.query_map([], |row| (0..columns).map(|index| row.get(index)).collect());
    rows.unwrap().collect::<Result<_, _>>().unwrap()
}

/// All that text and numbers can be.
fn odd_report() -> Report {
    let mut report = report();
    report.command = vec!["it's".to_owned(), String::new(), "\"ä\u{1F980}\"\n".to_owned()];
    report.processes[0].comm = "'; DROP TABLE session".to_owned();
    report.processes[0].faults.copy = None;
    report.processes[0].copied_bytes = None;
    report.processes[1].end_ns = None;
    let mut vsyscall = report.processes[1].regions[0].clone();
    (vsyscall.start, vsyscall.end) = (0xffff_ffff_ff60_0000, 0xffff_ffff_ff60_1000);
    report.processes[1].regions.push(vsyscall);
    report.exit_status = None;
    report
}

/// A report with stacks, one of them of a function that is called as it likes.
fn with_stacks() -> Report {
    let stack = |count: u64, kind: StackKind, frames: &[&str]| Stack {
        pid: 2,
        comm: "server".into(),
        kind,
        count,
        frames: frames.iter().map(|&name| name.into()).collect(),
    };
    let stacks = vec![
        stack(7, StackKind::Copy, &["main", "operator\"; DROP TABLE x"]),
        stack(2, StackKind::Hugetlb, &[]),
    ];
    let stack_frames = StackFrames { frames: 2, unresolved: 1, pages: 9, ..StackFrames::default() };
    let mut report = Report { stacks: Some(Stacks { stacks, stack_frames }), ..report() };
    let fork = report.forks[0].clone();
    for kind in [ForkKind::Fork, ForkKind::Vfork] {
        report.forks.push(Fork { kind, stacks: None, ..fork.clone() });
    }
    let by = |parent_copied_bytes, frames: &[&str]| ForkStack {
        frames: frames.iter().map(|&name| name.into()).collect(),
        parent_copied_bytes,
        child_copied_bytes: 4096,
    };
    report.forks[0].stacks = Some(vec![by(8192, &["main", "'); DROP TABLE x"]), by(0, &[])]);
    report.forks.push(Fork { stacks: Some(Vec::new()), ..fork });
    report
}

#[test]
fn the_first_format_has_no_stacks_and_is_read() {
    let place = place();
    let path = place.path().join("first");
    let mut writer = writer(&path);
    writer.snapshot(&whole(report()), &Cost::default()).unwrap();
    writer
        .db()
        .execute_batch(
            "DROP TABLE stacks; DROP TABLE stack_frames; DROP TABLE fork_regions; DROP TABLE fork_stacks;
             PRAGMA user_version = 1",
        )
        .unwrap();
    drop(writer);
    let mut first = report();
    first.forks.iter_mut().for_each(|fork| fork.regions.clear());
    assert_eq!(read(&path).unwrap(), first);
}

#[test]
fn the_second_format_has_no_stacks_by_fork_and_is_read() {
    let place = place();
    let path = place.path().join("second");
    let mut writer = writer(&path);
    writer.snapshot(&whole(with_stacks()), &Cost::default()).unwrap();
    writer.db().execute_batch("DROP TABLE fork_stacks; PRAGMA user_version = 2").unwrap();
    drop(writer);
    let mut second = with_stacks();
    second.forks.iter_mut().for_each(|fork| fork.stacks = None);
    assert_eq!(read(&path).unwrap(), second);
}

#[test]
fn what_is_written_is_read() {
    let place = place();
    for (name, report) in [("usual", report()), ("odd", odd_report()), ("stacks", with_stacks())] {
        let path = place.path().join(name);
        let mut writer = writer(&path);
        let interim = Report { complete: false, ..report.clone() };
        writer.snapshot(&whole(interim.clone()), &Cost::default()).unwrap();
        assert_eq!(read(&path).unwrap(), interim, "while it is written");
        writer.snapshot(&whole(report.clone()), &Cost::default()).unwrap();
        drop(writer);
        assert_eq!(read(&path).unwrap(), report);
    }
    let left: Vec<_> = fs::read_dir(place.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(left.len(), 3, "one file each: {left:?}");
}

#[test]
fn a_region_that_is_gone_in_the_next_snapshot_is_gone_in_the_file() {
    let place = place();
    let path = place.path().join("recording");
    let mut writer = writer(&path);
    let mut report = report();
    writer.snapshot(&whole(report.clone()), &Cost::default()).unwrap();
    report.processes[1].regions.remove(0);
    writer.snapshot(&whole(report.clone()), &Cost::default()).unwrap();
    assert_eq!(read(&path).unwrap(), report);
}

/// The first snapshot has everything.
fn first(report: &Report, everything: bool) -> Snapshot {
    assert!(everything);
    whole(report.clone())
}

#[test]
fn what_has_not_changed_need_not_be_in_a_snapshot() {
    let place = place();
    let path = place.path().join("recording");
    let mut writer = writer(&path);
    let mut all = report();
    writer.snapshot(&whole(all.clone()), &Cost::default()).unwrap();
    all.processes[1].faults.copy = Some(5);
    all.processes.push(report().processes[0].clone());
    let part = Report { processes: all.processes[1..].to_vec(), forks: Vec::new(), ..all.clone() };
    let part = Snapshot { report: part, numbers: Numbers { processes: vec![1, 2], forks: Vec::new() } };
    writer.snapshot(&part, &Cost::default()).unwrap();
    assert_eq!(read(&path).unwrap(), all);
}

/// One snapshot each second, with these copies of the second process.
fn sampled(writer: &mut Writer, copies: impl IntoIterator<Item = u64>) {
    let mut report = report();
    report.processes.remove(0);
    report.processes[0].start_ns = 0;
    report.processes[0].end_ns = None;
    for (second, copies) in copies.into_iter().enumerate() {
        report.duration_ns = (second as u64 + 1) * SECOND;
        report.processes[0].faults.copy = Some(copies);
        writer.snapshot(&whole(report.clone()), &Cost::default()).unwrap();
    }
}

#[test]
fn copies_per_second_do_not_smear_over_pauses() {
    let mut writer = Writer::new(Connection::open_in_memory().unwrap()).unwrap();
    sampled(&mut writer, [10, 10, 10, 10, 110, 110]);
    let second = SECOND as i64;
    assert_eq!(
        numbers(writer.db(), "SELECT time_ns, copy FROM samples"),
        [[second, 10], [4 * second, 10], [5 * second, 110]]
    );
    let rates = numbers(writer.db(), "SELECT CAST(copies_per_second AS INTEGER) FROM copies_per_second");
    assert_eq!(rates, [[10], [0], [100]]);
}

#[test]
fn samples_are_bounded_and_keep_the_first_and_the_last() {
    let mut writer = Writer::new(Connection::open_in_memory().unwrap()).unwrap();
    let seconds = MOST_ROWS as u64 * 2 + 100;
    sampled(&mut writer, 1..=seconds);
    let all = numbers(writer.db(), "SELECT count(*), min(copy), max(copy) FROM samples");
    assert!(all[0][0] <= MOST_ROWS as i64 && all[0][0] >= MOST_ROWS as i64 / 2, "{all:?}");
    assert!(all[0][1] < 10 && all[0][2] == seconds as i64, "{all:?}");
    let backwards = "SELECT count(*) FROM copies_per_second WHERE copies_per_second < 0.9";
    assert_eq!(numbers(writer.db(), backwards), [[0]]);
}

#[test]
fn a_full_disk_leaves_the_last_snapshot() {
    let place = place();
    let path = place.path().join("recording");
    let mut writer = writer(&path);
    let mut report = Report { complete: false, ..report() };
    writer.snapshot(&whole(report.clone()), &Cost::default()).unwrap();
    let pages = numbers(writer.db(), "PRAGMA page_count")[0][0];
    writer.db().pragma_update(None, "max_page_count", pages).unwrap();
    let before = report.clone();
    report.processes = vec![report.processes[1].clone(); 1000];
    let error = writer.snapshot(&whole(report.clone()), &Cost::default()).unwrap_err();
    assert_eq!(error.sqlite_error_code(), Some(ErrorCode::DiskFull), "{error}");
    assert_eq!(read(&path).unwrap(), before);
    writer.db().pragma_update(None, "max_page_count", pages * 1000).unwrap();
    writer.snapshot(&whole(report.clone()), &Cost::default()).unwrap();
    assert_eq!(read(&path).unwrap(), report, "and nothing is taken for written that was not");
}

fn refused(path: &Path, words: &[&str]) {
    let Err(error) = read(path) else { panic!("{} is read: {words:?}", path.display()) };
    let error = error.to_string();
    for word in words.iter().chain([&path.to_str().unwrap()]) {
        assert!(error.contains(word), "no {word:?} in: {error}");
    }
    assert!(!error.contains('\n'), "{error}");
}

#[test]
fn what_is_no_recording_is_refused() {
    let place = place();
    let file = |name: &str, content: &[u8]| {
        let path = place.path().join(name);
        fs::write(&path, content).unwrap();
        path
    };
    refused(&place.path().join("none"), &["No such file"]);
    refused(place.path(), &["no regular file"]);
    refused(&file("empty", b""), &["not a recording", "empty"]);
    refused(&file("text", b"hello, world, this is text"), &["not a recording", "no SQLite"]);
    refused(&file("json", b"{\"schema\": \"cowtrace.report/1\"}"), &["not a recording", "JSON"]);
    refused(&file("short", b"SQLite f"), &["not a recording", "cut short"]);
    refused(&file("magic", b"SQLite format 3\0"), &["damaged"]);
    let other = place.path().join("other");
    Connection::open(&other).unwrap().execute_batch("CREATE TABLE t (a)").unwrap();
    refused(&other, &["not a recording", "another program"]);
    let fresh = place.path().join("fresh");
    drop(writer(&fresh));
    refused(&fresh, &["before the first snapshot"]);
}

/// A whole recording of some size, changed by `how`.
fn changed(path: &Path, how: impl FnOnce(&Connection)) {
    let mut report = report();
    report.processes = vec![report.processes[1].clone(); 500];
    let mut writer = writer(path);
    writer.snapshot(&whole(report.clone()), &Cost::default()).unwrap();
    how(writer.db());
}

#[test]
fn a_newer_format_and_foreign_values_are_refused() {
    let place = place();
    let path = place.path().join("newer");
    changed(&path, |db| db.pragma_update(None, "user_version", 7).unwrap());
    refused(&path, &["newer cowtrace", "format is 7"]);
    for (sql, word) in [
        ("UPDATE processes SET copy = -1 WHERE id = 3", "copy"),
        ("UPDATE processes SET comm = x'00ff' WHERE id = 3", "comm"),
        ("UPDATE processes SET pid = 1 << 40 WHERE id = 3", "pid"),
        ("UPDATE session SET command = 'no list'", "no list"),
        ("UPDATE forks SET kind = 'clone'", "clone"),
        ("DROP TABLE regions", "regions"),
        ("DROP TABLE stack_frames", "stack_frames"),
    ] {
        let path = place.path().join(word);
        changed(&path, |db| db.execute_batch(sql).unwrap());
        refused(&path, &["damaged", word]);
    }
}

#[test]
fn a_damaged_file_is_refused() {
    let place = place();
    let whole = place.path().join("whole");
    changed(&whole, |_| {});
    let bytes = fs::read(&whole).unwrap();
    let damaged = place.path().join("damaged");
    for length in [100, 4096, 5000, bytes.len() / 2, bytes.len() - 1] {
        fs::write(&damaged, &bytes[..length]).unwrap();
        refused(&damaged, &["damaged"]);
    }
    for at in [100, 4096, (bytes.len() / 2) & !4095, bytes.len() - 4096] {
        let mut copy = bytes.clone();
        copy[at..at + 64].fill(0xa5);
        fs::write(&damaged, &copy).unwrap();
        refused(&damaged, &["damaged"]);
    }
}

#[test]
fn an_unfinished_snapshot_is_rolled_back() {
    let place = place();
    let (live, killed) = (place.path().join("live"), place.path().join("killed"));
    let mut writer = writer(&live);
    writer.snapshot(&whole(report()), &Cost::default()).unwrap();
    // Changes that are in the file, and not committed.
    writer.db().pragma_update(None, "cache_size", 1).unwrap();
    writer.db().execute_batch("BEGIN").unwrap();
    for id in 10..2000 {
        let insert = format!(
            "INSERT INTO forks (id, parent, child, at_ns, kind, ended_by) VALUES ({id},1,2,3,'x','y')"
        );
        writer.db().execute_batch(&insert).unwrap();
    }
    let journal =
        |path: &Path| path.with_extension("").to_str().map(|name| format!("{name}-journal")).unwrap();
    fs::copy(&live, &killed).unwrap();
    fs::copy(journal(&live), journal(&killed)).unwrap();
    assert!(fs::metadata(&killed).unwrap().len() > 40_000, "nothing was written before the commit");
    assert_eq!(read(&killed).unwrap(), report());
    assert!(!Path::new(&journal(&killed)).exists());
}

#[test]
fn a_recorder_keeps_what_it_got() {
    let place = place();
    let path = place.path().join("recording");
    let mut recorder = Place::create(&path, false).unwrap().begin().unwrap();
    let interim = Report { complete: false, ..report() };
    recorder.round(false, |everything| Ok::<_, RecordError>(first(&interim, everything))).unwrap();
    recorder.round(false, |_| -> Result<_, RecordError> { panic!("a second has not passed") }).unwrap();
    let mut is_taken = false;
    while !is_taken {
        // As soon as the first one is written.
        let take = |everything: bool| {
            is_taken = true;
            assert!(!everything);
            Ok::<_, RecordError>(Snapshot { report: interim.clone(), numbers: Numbers::default() })
        };
        recorder.round(true, take).unwrap();
    }
    let summary = recorder.finish(whole(report())).unwrap();
    assert_eq!(summary.snapshots, 3, "one of them was urgent");
    assert_eq!(summary.file_bytes, fs::metadata(&path).unwrap().len());
    assert_eq!(read(&path).unwrap(), report());
}

#[test]
fn a_reader_puts_snapshots_off_and_loses_none() {
    let place = place();
    let path = place.path().join("recording");
    let mut recorder = Place::create(&path, false).unwrap().begin().unwrap();
    let reader = Connection::open(&path).unwrap();
    reader.execute_batch("BEGIN; SELECT * FROM session").unwrap();
    let interim = Report { complete: false, ..report() };
    recorder.round(false, |everything| Ok::<_, RecordError>(first(&interim, everything))).unwrap();
    // Longer than the recorder's patience.
    std::thread::sleep(PATIENCE + Duration::from_millis(500));
    drop(reader);
    recorder.round(false, |everything| Ok::<_, RecordError>(first(&interim, everything))).unwrap();
    recorder.finish(whole(report())).unwrap();
    assert_eq!(read(&path).unwrap(), report());
}
