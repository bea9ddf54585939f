//! How the lab's report looks: a fixed report in each form.

mod fixture;

use super::*;
use crate::{export::Style, lab::LabReport};
use fixture::{interrupted, report};

fn text_of(report: &LabReport, width: usize) -> String {
    text(report, &Style { color: false, width })
}

/// Without line breaks.
fn flat(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn text_in_eighty_columns() {
    insta::assert_snapshot!(text_of(&report(), 80));
}

#[test]
fn text_in_fifty_columns() {
    insta::assert_snapshot!(text_of(&report(), 50));
}

#[test]
fn the_page() {
    let version = format!("cowtrace {}", env!("CARGO_PKG_VERSION"));
    insta::assert_snapshot!(html(&report()).replace(&version, "cowtrace VERSION"));
}

#[test]
fn the_markdown() {
    let markdown = markdown(&report(), "lab.figures");
    let names: Vec<&str> = markdown.figures.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["worst-case-1.svg", "worst-case-2.svg"]);
    insta::assert_snapshot!(markdown.text);
    insta::assert_snapshot!("the_markdowns_figure", markdown.figures[1].1);
}

#[test]
fn an_interrupted_lab_says_what_is_whole() {
    let words = "Interrupted by SIGINT: 1 of 3 experiments is whole";
    let report = interrupted();
    assert!(flat(&text_of(&report, 80)).contains(words));
    assert!(html(&report).contains(words));
    assert!(markdown(&report, "f").text.contains(words));
    let nothing = LabReport { experiments: Vec::new(), ..report };
    let words = "0 of 3 experiments are whole";
    let text = flat(&text_of(&nothing, 80));
    assert!(text.contains(words) && !text.contains("hold"), "{text}");
    assert!(html(&nothing).contains(words) && markdown(&nothing, "f").text.contains(words));
}

#[test]
fn the_width_is_kept() {
    for width in [40, 60, 80, 120] {
        let text = text_of(&report(), width);
        let widest = text.lines().map(|line| line.chars().count()).max();
        assert!(widest <= Some(width), "{width}: {widest:?}\n{text}");
    }
}

#[test]
fn what_a_terminal_would_obey_is_not_handed_to_it() {
    let mut report = report();
    let evil = "a\x1b[41mb\nc\u{9b}d\u{ffff}";
    report.kernel["release"] = evil.into();
    for experiment in &mut report.experiments {
        experiment.claims.iter_mut().for_each(|claim| claim.why = evil.to_owned());
        experiment.tables.iter_mut().for_each(|table| table.title = evil.to_owned());
        experiment.curves.iter_mut().for_each(|curve| curve.title = evil.to_owned());
        experiment.ledger.iter_mut().for_each(|row| row.row.region = evil.to_owned());
    }
    let markdown = markdown(&report, "f");
    let pictures = markdown.figures.into_iter().map(|(_, picture)| picture);
    for shown in [text_of(&report, 80), html(&report), markdown.text].into_iter().chain(pictures) {
        let found = shown.chars().find(|&c| c != '\n' && !crate::export::is_printable(c));
        assert!(found.is_none() && shown.contains('\u{fffd}'), "{found:?} in {shown}");
    }
}

#[test]
fn colours_only_when_asked_for() {
    assert!(!text_of(&report(), 80).contains('\x1b'));
    let colored = text(&report(), &Style { color: true, width: 80 });
    assert!(colored.contains("\x1b[1m"));
    // Colours take no room.
    let mut plain = String::new();
    for (index, part) in colored.split('\x1b').enumerate() {
        plain.push_str(if index == 0 { part } else { part.split_once('m').unwrap().1 });
    }
    assert_eq!(flat(&plain), flat(&text_of(&report(), 80)));
}

#[test]
fn what_is_not_as_it_should_be_is_told() {
    let report = report();
    assert!(!report.as_it_should());
    let sentences =
        ["1 page of Private_Dirty stays unexplained", "Not as it should be: claims of child-writes (1)"];
    let (text, html, markdown) = (flat(&text_of(&report, 80)), html(&report), markdown(&report, "f").text);
    for sentence in sentences {
        assert!(text.contains(sentence) && html.contains(sentence) && markdown.contains(sentence), "{text}");
    }
}

#[test]
fn the_page_fetches_nothing_and_shows_foreign_text_as_text() {
    let page = html(&report());
    for outside in ["<script", "@import", "src=", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
    assert!(!page.replace("http://www.w3.org/2000/svg", "").contains("http://"));
    assert!(page.contains("a &lt;table&gt; of pages") && !page.contains("<table> of pages"));
}

#[test]
fn ids_of_the_page_are_unique() {
    let page = html(&report());
    let mut ids: Vec<&str> =
        page.split(" id=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    let all = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all);
    let targets = page.split("href=\"#").skip(1).map(|rest| rest.split('"').next().unwrap());
    for target in targets {
        assert!(ids.contains(&target), "{target}");
    }
}
