//! What `doctor` tells about three machines, held by snapshots.

use super::{Style, doctor};
use crate::doctor::{
    Presence,
    machines::{debian_6_12, this_machine, unprivileged},
};

const WIDE: Style = Style { color: false, width: 100 };
const NARROW: Style = Style { color: false, width: 60 };

#[test]
fn a_machine_without_function_hooks() {
    insta::assert_snapshot!(doctor(&this_machine(), &WIDE));
}

#[test]
fn a_user_without_privileges() {
    insta::assert_snapshot!(doctor(&unprivileged(), &WIDE));
}

#[test]
fn debian_with_everything_but_one_hook() {
    insta::assert_snapshot!(doctor(&debian_6_12(), &WIDE));
}

#[test]
fn a_function_that_the_compiler_has_changed_is_no_absent_one() {
    let mut checkup = debian_6_12();
    let function = &mut checkup.functions[0];
    function.presence = Presence::Changed;
    function.variants = vec!["do_wp_page.isra.0".to_owned()];
    let text = doctor(&checkup, &WIDE);
    assert!(text.contains("changed by the compiler: do_wp_page.isra.0"), "{text}");
}

#[test]
fn a_narrow_terminal() {
    let text = doctor(&unprivileged(), &NARROW);
    let widest = text.lines().map(|line| line.chars().count()).max();
    assert!(widest <= Some(60), "{widest:?} columns:\n{text}");
    insta::assert_snapshot!(text);
}

#[test]
fn colours_come_only_when_asked_for() {
    assert!(!doctor(&debian_6_12(), &WIDE).contains('\x1b'));
    assert!(doctor(&debian_6_12(), &Style { color: true, ..WIDE }).contains("\x1b["));
}

#[test]
fn json_has_the_verdict_and_all_facts() {
    let json = serde_json::to_value(this_machine()).unwrap();
    insta::assert_json_snapshot!(json);
}

#[test]
fn a_kernel_on_which_nothing_works_says_so_once() {
    let json = serde_json::to_value(unprivileged()).unwrap();
    assert_eq!((&json["works"], &json["backend"]), (&false.into(), &serde_json::Value::Null));
    assert!(json["reason"].as_str().is_some_and(|reason| reason.contains("needs root")));
}
