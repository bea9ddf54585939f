//! A machine with a database that saves itself, and what is seen of it.

use super::*;
use crate::{
    export::human_tests::{self, faults},
    model::{BackendFacts, Fork, ForkEnd, ForkKind, ForkMoment, KernelFacts, Process, RegionFaults, Report},
};

const SECOND: u64 = 1_000_000_000;

fn region(start: u64, name: &str, copy: u64, file: u64) -> RegionFaults {
    let (end, faults) = (start + 0x10_0000, faults(copy, 0, file, 0, 0));
    RegionFaults { start, end, perms: "rw-p".to_owned(), name: name.to_owned(), faults }
}

pub(in crate::tui) fn process(pid: u32, comm: &str, copies: u64, file: u64) -> Process {
    let heap = region(0x5581_2340_0000, "[heap]", copies, 0);
    let library = region(0x7f12_3450_0000, "/usr/lib/x86_64-linux-gnu/libc.so.6", 0, file);
    Process {
        ppid: 1,
        comm: comm.to_owned(),
        cmdline: vec![format!("/usr/bin/{comm}"), "--option".to_owned(), "a b".to_owned()],
        start_ns: 0,
        end_ns: None,
        ..human_tests::process(pid, None, faults(copies, 0, file, 0, 12), vec![heap, library])
    }
}

fn fork(parent: u32, child: u32, by_parent: u64, by_child: u64) -> Fork {
    let moment = |second: u64, parent_copied_bytes: u64| ForkMoment {
        at_ns: second * SECOND,
        parent_copied_bytes,
        child_copied_bytes: 0,
    };
    Fork {
        parent,
        child,
        at_ns: SECOND,
        kind: ForkKind::Fork,
        fork_ns: Some(10_000_000),
        page_table_kb: Some(564),
        ended_by: ForkEnd::Running,
        lifetime_ns: None,
        parent_copied_bytes: Some(by_parent),
        child_copied_bytes: Some(by_child),
        extra_peak_bytes: Some(by_parent + by_child),
        parent_cow_ns: None,
        child_cow_ns: None,
        extra_now_bytes: Some(by_parent + by_child),
        regions: Vec::new(),
        stacks: None,
        forecasts: Vec::new(),
        series: (1..10).map(|second| moment(second, by_parent * (second * second - 1) / 80)).collect(),
    }
}

fn report(at_ns: u64, processes: Vec<Process>, forks: Vec<Fork>) -> Report {
    let kernel = KernelFacts { release: "6.12.1".to_owned(), arch: "x86_64".to_owned(), page_size: 4096 };
    let backend = BackendFacts { name: "fentry".to_owned(), blind_to: Vec::new(), unknown: Vec::new() };
    Report { kernel, backend, duration_ns: at_ns, processes, forks, ..human_tests::report() }
}

/// The database after 10 s: it forked at 1 s, a shell has just ended, a worker does nothing.
pub(in crate::tui) fn frame() -> Frame {
    let mut tracked = Tracked::default();
    let before =
        vec![process(7284, "redis-server", 2_000, 17), process(912, "sh", 0, 0), process(35, "idle", 0, 0)];
    tracked.take(report(9 * SECOND, before, Vec::new()));
    assert!(tracked.frame().is_some_and(|frame| frame.rows.iter().all(|row| row.rates == Rates::default())));
    let shell = Process { end_ns: Some(9 * SECOND + 1), ..process(912, "sh", 93, 40) };
    let child = Process { ppid: 7284, ..process(7361, "redis-server", 20, 0) };
    let now = vec![
        process(7284, "redis-server", 14_345, 17),
        child,
        shell,
        process(35, "idle", 0, 0),
        process(4_190_210, "Web Content\x1b[2J", 3, 0),
    ];
    let forks = vec![fork(912, 913, 4096, 0), fork(7284, 7361, 58_757_120, 81_920)];
    tracked.take(report(10 * SECOND, now, forks));
    tracked.frame().unwrap_or_else(|| panic!("no frame"))
}

fn pids(view: &View, frame: &Frame) -> Vec<u32> {
    view.rows(frame).iter().map(|row| row.process.pid).collect()
}

fn press(view: &mut View, frame: &Frame, keys: &[Key]) -> Action {
    keys.iter().fold(Action::Draw, |_, &key| view.press(key, Some(frame)))
}

#[test]
fn rates_are_over_the_time_between_frames() {
    let mut tracked = Tracked::default();
    tracked.take(report(SECOND, vec![process(1, "a", 100, 0)], Vec::new()));
    tracked.frame();
    // A look in between does not count.
    tracked.take(report(2 * SECOND, vec![process(1, "a", 150, 0)], Vec::new()));
    tracked.take(report(3 * SECOND, vec![process(1, "a", 300, 0), process(2, "b", 50, 0)], Vec::new()));
    let frame = tracked.frame().unwrap_or_else(|| panic!("no frame"));
    let rate =
        |pid: u32| frame.rows.iter().find(|row| row.process.pid == pid).and_then(|row| row.rates.copies);
    assert_eq!((rate(1), rate(2), frame.totals.rates.copies), (Some(100.0), Some(25.0), Some(125.0)));
    assert_eq!(frame.totals.figures.copies, Some(350));
}

#[test]
fn who_has_ended_stays_in_the_sums_and_for_seconds_on_the_screen() {
    let mut tracked = Tracked::default();
    let ended = |pid: u32, copies: u64| Process { end_ns: Some(SECOND), ..process(pid, "a", copies, 0) };
    tracked.take(report(2 * SECOND, (1..2_000).map(|pid| ended(pid, u64::from(pid))).collect(), Vec::new()));
    let count = |tracked: &mut Tracked| tracked.frame().map(|frame| (frame.rows.len(), frame.totals.ended));
    assert_eq!(count(&mut tracked), Some((1_999, 1_999)));
    tracked.take(report(3 * SECOND, Vec::new(), Vec::new()));
    assert_eq!(count(&mut tracked), Some((500, 0)), "those with the most copies");
    tracked.take(report(7 * SECOND, vec![ended(1_999, 1_999)], Vec::new()));
    assert_eq!(count(&mut tracked), Some((500, 0)));
    // It is told of again, as its end was lost; that adds nothing.
    tracked.take(report(8 * SECOND, vec![ended(1_999, 1_999)], Vec::new()));
    let frame = tracked.frame().unwrap_or_else(|| panic!("no frame"));
    assert_eq!((frame.rows.len(), frame.totals.figures.copies), (0, Some(1_999 * 1_000)));
}

#[test]
fn forks_that_were_cheap_go_with_their_end() {
    let mut tracked = Tracked::default();
    let ended = |fork: Fork| Fork { ended_by: ForkEnd::Exit, lifetime_ns: Some(SECOND), ..fork };
    let forks = vec![ended(fork(1, 2, 4096, 0)), ended(fork(1, 3, 2 << 20, 0)), fork(1, 4, 0, 0)];
    tracked.take(report(2 * SECOND, Vec::new(), forks));
    let children = |frame: Option<Frame>| -> Vec<u32> {
        frame.into_iter().flat_map(|frame| frame.forks).map(|row| row.fork.child).collect()
    };
    assert_eq!(children(tracked.frame()), [4, 3]);
    tracked.take(report(20 * SECOND, Vec::new(), Vec::new()));
    tracked.frame();
    assert_eq!(children(tracked.frame()), [] as [u32; 0]);
}

#[test]
fn the_order_is_that_of_a_column() {
    let frame = frame();
    let mut view = View::default();
    assert_eq!(pids(&view, &frame), [7284, 912, 7361, 4_190_210, 35]);
    press(&mut view, &frame, &[Key::Char('r')]);
    assert_eq!(pids(&view, &frame), [35, 4_190_210, 7361, 912, 7284]);
    press(&mut view, &frame, &[Key::Char('<'), Key::Char('<')]);
    assert_eq!((view.sort, pids(&view, &frame)), (SortBy::Pid, vec![35, 912, 7284, 7361, 4_190_210]));
    press(&mut view, &frame, &[Key::Char('s')]);
    assert_eq!((view.sort, pids(&view, &frame)[0]), (SortBy::Comm, 4_190_210));
}

#[test]
fn a_filter_is_typed_and_cleared() {
    let frame = frame();
    let mut view = View::default();
    press(&mut view, &frame, &[Key::Char('/'), Key::Char('R'), Key::Char('E'), Key::Char('q')]);
    assert_eq!(pids(&view, &frame), [] as [u32; 0], "q is a letter here");
    press(&mut view, &frame, &[Key::Backspace, Key::Char('d'), Key::Enter]);
    assert_eq!(pids(&view, &frame), [7284, 7361]);
    assert_eq!(press(&mut view, &frame, &[Key::Escape]), Action::Draw);
    assert_eq!(pids(&view, &frame).len(), 5);
    assert_eq!(press(&mut view, &frame, &[Key::Escape]), Action::Quit);
}

#[test]
fn the_cursor_follows_a_process_once_it_was_moved() {
    let frame = frame();
    let mut view = View::default();
    let cursor = |view: &mut View| {
        let rows = view.rows(&frame);
        let (shown, cursor) = view.window(&rows, 2);
        (shown, rows[cursor].process.pid)
    };
    assert_eq!(cursor(&mut view), (0..2, 7284));
    press(&mut view, &frame, &[Key::Char('r')]);
    assert_eq!(cursor(&mut view), (0..2, 35), "it has not been moved: the first line");
    press(&mut view, &frame, &[Key::Char('r'), Key::Down]);
    assert_eq!(cursor(&mut view), (0..2, 912));
    press(&mut view, &frame, &[Key::Char('r')]);
    assert_eq!(cursor(&mut view), (2..4, 912));
    press(&mut view, &frame, &[Key::End, Key::PageDown]);
    assert_eq!(cursor(&mut view), (3..5, 7284));
    press(&mut view, &frame, &[Key::Home]);
    assert_eq!(cursor(&mut view), (0..2, 35));
}

#[test]
fn a_process_is_opened_and_left() {
    let frame = frame();
    let mut view = View::default();
    press(&mut view, &frame, &[Key::Down, Key::Enter]);
    assert_eq!(view.opened(), Some(Identity { pid: 912, start_ns: 0 }));
    assert_eq!(press(&mut view, &frame, &[Key::Escape]), Action::Draw);
    assert_eq!(view.opened(), None);
    assert_eq!(
        press(&mut view, &frame, &[Key::Char('?'), Key::Char('q')]),
        Action::Draw,
        "any key leaves help"
    );
    assert_eq!(press(&mut view, &frame, &[Key::Ctrl('c')]), Action::Quit);
    assert_eq!(press(&mut View::default(), &frame, &[Key::Char('q')]), Action::Quit);
    // Nothing to be opened before the first frame.
    assert_eq!(View::default().press(Key::Enter, None), Action::Draw);
}
