//! Children of vfork, which use the memory of their parents.

use super::*;

const VFORK: FamilyEvent = FamilyEvent::Vfork { parent: PARENT, child: CHILD };

#[test]
fn a_child_of_vfork_touches_its_parents_memory() {
    let before = [process(PARENT, run(4, 500, true))];
    let after = [process(PARENT, run(7, 500, true))];
    let until_exec = [VFORK, faults(CHILD, Kind::Anon, 4..7), FamilyEvent::Exec { pid: CHILD }];
    // The same addresses, in a program of its own.
    let as_program = [faults(CHILD, Kind::Anon, 2..6), FamilyEvent::Exit { pid: CHILD }];
    let rows = explain(&before, &[&until_exec[..], &as_program[..]].concat(), &after, Known::default());
    assert_eq!(rows.len(), 1, "the program is none of the family");
    assert_eq!(row(&rows, PARENT).explained_pages, Explained { anon: 3, ..Explained::default() });
    assert_eq!(residuals(&rows), []);

    let without_exec = [VFORK, faults(CHILD, Kind::Anon, 4..7), FamilyEvent::Exit { pid: CHILD }];
    let rows = explain(&before, &without_exec, &after, Known::default());
    assert_eq!(row(&rows, PARENT).explained_pages, Explained { anon: 3, ..Explained::default() });
    assert_eq!(residuals(&rows), [], "the parent's pages outlive the guest");

    let as_fork = [FORK, faults(CHILD, Kind::Anon, 4..7), FamilyEvent::Exit { pid: CHILD }];
    let rows = explain(&before, &as_fork, &after, Known::default());
    assert_eq!(residuals(&rows), [(PARENT, 3)], "a child of fork has memory of its own");
}

#[test]
fn a_child_of_vfork_copies_for_its_parent() {
    // The parent shares with a child of an earlier fork, and has a guest that writes: the copies are the
    // parent's.
    let before = [process(PARENT, run(4, 500, false)), process(CHILD, run(4, 500, false))];
    let events = [
        FamilyEvent::Vfork { parent: PARENT, child: GRANDCHILD },
        faults(GRANDCHILD, Kind::Copy, 0..3),
        FamilyEvent::Exec { pid: GRANDCHILD },
    ];
    let copied = run(3, 900, true).chain([(3, 503, false)]);
    let kept = run(3, 500, true).chain([(3, 503, false)]);
    let rows = explain(&before, &events, &[process(PARENT, copied), process(CHILD, kept)], Known::default());
    assert_eq!(row(&rows, PARENT).explained_pages, Explained { copy: 3, ..Explained::default() });
    assert_eq!(
        row(&rows, CHILD).explained_pages,
        Explained { unshared_by_others: 3, ..Explained::default() }
    );
    assert_eq!(residuals(&rows), []);
}
