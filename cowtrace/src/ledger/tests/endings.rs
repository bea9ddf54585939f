//! What ends: processes, programs, mappings.

use super::*;

#[test]
fn exit_leaves_the_pages_to_the_others() {
    // 100 shared pages: the parent writes 30, the child exits, the parent writes the rest without a copy.
    let before = [process(PARENT, run(100, 500, false)), process(CHILD, run(100, 500, false))];
    let events = [
        faults(PARENT, Kind::Copy, 0..30),
        FamilyEvent::Exit { pid: CHILD },
        faults(PARENT, Kind::Reuse, 30..100),
    ];
    let rows = explain(&before, &events, &[process(PARENT, run(100, 800, true))], Known::default());
    assert_eq!(
        row(&rows, PARENT).explained_pages,
        Explained { copy: 30, unshared_by_others: 70, ..Explained::default() }
    );
    // The child's 30, private since the parent's copies, went with it: from 0 to 30 to 0.
    assert_eq!(
        row(&rows, CHILD).explained_pages,
        Explained { unshared_by_others: 30, unmapped: -30, ..Explained::default() }
    );
    assert_eq!(residuals(&rows), []);
    let missed = [events[0].clone(), events[2].clone()];
    let rows = explain(&before, &missed, &[process(PARENT, run(100, 800, true))], Known::default());
    assert_eq!(residuals(&rows), [(PARENT, 70), (CHILD, -30)]);
}

#[test]
fn a_copy_instead_of_a_reuse_replaces_a_private_page() {
    let before = [process(PARENT, run(4, 500, false)), process(CHILD, run(4, 500, false))];
    let events = [FamilyEvent::Exit { pid: CHILD }, faults(PARENT, Kind::Copy, 0..1)];
    let after = [process(PARENT, [(0, 700, true), (1, 501, true), (2, 502, true), (3, 503, true)])];
    let rows = explain(&before, &events, &after, Known::default());
    assert_eq!(
        row(&rows, PARENT).explained_pages,
        Explained { unshared_by_others: 4, copy: 1, unmapped: -1, ..Explained::default() }
    );
    assert_eq!(residuals(&rows), []);
}

#[test]
fn a_short_lived_child_leaves_only_its_effect() {
    let before = [process(PARENT, run(5, 500, true))];
    let events = [FORK, faults(CHILD, Kind::Copy, 0..2), FamilyEvent::Exit { pid: CHILD }];
    let rows = explain(&before, &events, &before, Known::default());
    assert_eq!(rows.len(), 1);
    assert_eq!(
        row(&rows, PARENT).explained_pages,
        Explained { given_up: -5, unshared_by_others: 5, ..Explained::default() }
    );
    assert_eq!(residuals(&rows), []);
}

#[test]
fn unmapped_discarded_and_replaced_pages_are_negative() {
    let before = [process(PARENT, run(10, 500, true))];
    let discarded = explain(&before, &[], &[process(PARENT, run(6, 500, true))], Known::default());
    assert_eq!(row(&discarded, PARENT).explained_pages, Explained { unmapped: -4, ..Explained::default() });
    assert_eq!(residuals(&discarded), []);

    let shrunk =
        explain(&before, &[], &[with_vma(PARENT, "[heap]", HEAP, 6, run(6, 500, true))], Known::default());
    assert_eq!(row(&shrunk, PARENT).explained_pages, Explained { unmapped: -4, ..Explained::default() });
    assert_eq!(residuals(&shrunk), []);

    let gone = explain(&before, &[], &[with_vma(PARENT, "", 0x900, 1, [])], Known::default());
    assert_eq!(row(&gone, PARENT).private_dirty_kb, [40, 0]);
    assert_eq!(residuals(&gone), []);
}

#[test]
fn a_partner_that_unmaps_leaves_the_page_to_the_other() {
    let rows = explain(
        &shared(),
        &[],
        &[process(PARENT, run(17, 500, true)), with_vma(CHILD, "", 0x900, 1, [])],
        Known::default(),
    );
    assert_eq!(rows.len(), 1);
    assert_eq!(row(&rows, PARENT).explained_pages.unshared_by_others, 17);
    assert_eq!(residuals(&rows), []);
}

#[test]
fn exec_starts_anew() {
    let before = [process(PARENT, run(3, 500, false)), process(CHILD, run(3, 500, false))];
    let events =
        [faults(CHILD, Kind::Copy, 0..1), FamilyEvent::Exec { pid: CHILD }, faults(CHILD, Kind::Anon, 0..2)];
    // The new program's mapping happens to lie where the old one was.
    let after = [process(PARENT, run(3, 500, true)), with_vma(CHILD, "[stack]", HEAP, 50, run(2, 900, true))];
    let rows = explain(&before, &events, &after, Known::default());
    assert_eq!(row(&rows, PARENT).explained_pages.unshared_by_others, 3);
    let child: Vec<_> = rows.iter().filter(|row| row.pid == CHILD).collect();
    assert_eq!(child[0].region, "[heap]");
    assert_eq!(child[0].explained_pages, Explained { copy: 1, unmapped: -1, ..Explained::default() });
    assert_eq!(child[1].region, "[stack]");
    assert_eq!(child[1].explained_pages, Explained { anon: 2, ..Explained::default() });
    assert_eq!(residuals(&rows), []);
}

#[test]
fn strangers_have_no_rows() {
    let alone = [process(PARENT, run(1, 500, true))];
    let events = [
        FamilyEvent::Fork { parent: 70, child: 71 },
        faults(71, Kind::Anon, 0..3),
        faults(71, Kind::Anon, 0..3),
        FamilyEvent::Exec { pid: 71 },
        FamilyEvent::Exit { pid: 71 },
    ];
    let rows = explain(&alone, &events, &alone, Known::default());
    assert_eq!(rows.iter().map(|row| row.pid).collect::<Vec<_>>(), [PARENT]);
    assert_eq!(residuals(&rows), []);
}

#[test]
fn a_pid_that_is_used_again_is_another_process() {
    let before = [process(PARENT, run(4, 500, false)), process(CHILD, run(4, 500, false))];
    let events = [FamilyEvent::Exit { pid: CHILD }, FORK, faults(CHILD, Kind::Copy, 0..4)];
    let rows = explain(
        &before,
        &events,
        &[process(PARENT, run(4, 500, true)), process(CHILD, run(4, 900, true))],
        Known::default(),
    );
    assert_eq!(
        row(&rows, PARENT).explained_pages,
        Explained { unshared_by_others: 8, given_up: -4, ..Explained::default() }
    );
    assert_eq!(residuals(&rows), []);
}

/// Both write to the page at the same moment, and both copy it. The child is gone by the second reading.
#[test]
fn two_copies_at_once_of_a_page_that_two_share() {
    let before = [process(PARENT, run(1, 500, true))];
    let events = [
        FORK,
        faults(PARENT, Kind::Copy, 0..1),
        faults(CHILD, Kind::Copy, 0..1),
        FamilyEvent::Exit { pid: CHILD },
    ];
    let after = [process(PARENT, run(1, 900, true))];
    assert_eq!(residuals(&explain(&before, &events, &after, Known::default())), []);
    // But not twice by one.
    let doubled: Vec<FamilyEvent> = events[..3].iter().chain(&events[2..]).cloned().collect();
    assert_eq!(residuals(&explain(&before, &doubled, &after, Known::default())), [(CHILD, -1)]);
}
