//! The lab's report as one page: no script, nothing that is not in it, light and dark.

mod experiment;
mod page_map;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{
    super::printable::printable_lines,
    chart::svg,
    facts::{Totals, amiss, interruption, pages_moved},
    words::{VERDICTS, backend, blind_to, dot, duration, kernel, mark, meaning, word},
};
use crate::lab::{LabReport, claims::Verdict};

const STYLE: &str = include_str!("style.css");

/// Even a browser that is told otherwise by the report's content fetches nothing and runs nothing.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:";

/// The whole report.
pub fn html(report: &LabReport) -> String {
    let totals = Totals::new(report);
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="generator" content={ "cowtrace " (env!("CARGO_PKG_VERSION")) };
                title { "cowtrace lab" }
                link rel="icon" href="data:,";
                style { (PreEscaped(STYLE)) (PreEscaped(svg::STYLE)) }
            }
            body {
                (header(report, &totals))
                main {
                    (summary(report, &totals))
                    @for experiment in &report.experiments { (experiment::section(experiment)) }
                }
            }
        }
    };
    printable_lines(&page.into_string()).into_owned() + "\n"
}

fn header(report: &LabReport, totals: &Totals) -> Markup {
    let (kernel, backend, blind) =
        (kernel(&report.kernel), backend(&report.backend), blind_to(&report.backend));
    html! {
        header {
            h1 { "cowtrace lab" }
            p class="lead" {
                "Experiments with fork and copy-on-write: real processes, traced live, read through smaps, and \
                 claims that can fail."
            }
            @if let Some(text) = interruption(report) { p class="warning" role="note" { (text) } }
            dl class="facts" {
                @if !kernel.is_empty() { div { dt { "Kernel" } dd { (kernel) } } }
                @if !backend.is_empty() { div { dt { "Backend" } dd { (backend) } } }
                @if !blind.is_empty() {
                    div { dt { "It does not see" } dd { (blind.join("; ")) } }
                }
            }
            ul class="totals" {
                (total("experiments", report.experiments.len() as u64, ""))
                (total("claims", totals.claims, ""))
                @for (verdict, count) in VERDICTS.into_iter().zip(totals.verdicts) {
                    @if count > 0 || verdict == Verdict::Holds {
                        (total(word(verdict), count, word(verdict)))
                    }
                }
                (total("pages moved", totals.moved, ""))
                (total("unexplained", totals.residual, if totals.residual > 0 { "bad" } else { "" }))
            }
            @if !report.experiments.is_empty() {
                p {
                    (totals.claims_sentence(report)) " "
                    @if let Some(text) = totals.verdicts_sentence(report) { (text) " " }
                    (totals.ledger_sentence())
                }
            }
        }
    }
}

fn total(name: &str, count: u64, class: &str) -> Markup {
    html! { li class=[Some(class).filter(|class| !class.is_empty())] {
        b { (super::super::thousands(count)) } span { (name) }
    } }
}

fn summary(report: &LabReport, totals: &Totals) -> Markup {
    let verdicts = totals.occurring();
    html! {
        @if !report.experiments.is_empty() {
            section class="summary" aria-labelledby="summary" {
                h2 id="summary" { "Summary" }
                (scrolled("All experiments", html! { table {
                    thead { tr {
                        th scope="col" { "experiment" }
                        th scope="col" class="n" { "claims" }
                        @for verdict in &verdicts { th scope="col" class="n" { (word(*verdict)) } }
                        th scope="col" class="n" { "pages moved" }
                        th scope="col" class="n" { "residual" }
                        th scope="col" class="n" { "time" }
                    } }
                    tbody { @for experiment in &report.experiments {
                        tr {
                            th scope="row" {
                                a href={ "#" (experiment.id) } { (experiment.id) }
                                @if amiss(experiment) > 0 { " " span class="amiss" { "not as it should be" } }
                            }
                            td class="n" { (experiment.claims.len()) }
                            @for verdict in &verdicts {
                                td class={ "n " (if experiment.count(*verdict) > 0 { word(*verdict) } else { "" }) } {
                                    (dot(experiment.count(*verdict) as u64))
                                }
                            }
                            td class="n" { (dot(pages_moved(experiment))) }
                            td class={ "n" (if experiment.residual_pages() > 0 { " amiss" } else { "" }) } {
                                (dot(experiment.residual_pages()))
                            }
                            td class="n" { (duration(experiment.duration_ms)) }
                        }
                    } }
                } }))
                dl class="key" { @for verdict in &verdicts {
                    div { dt { (badge(*verdict)) } dd { (meaning(*verdict)) } }
                } }
            }
        }
    }
}

/// A verdict: sign, word and colour.
fn badge(verdict: Verdict) -> Markup {
    html! { span class={ "badge " (word(verdict)) } {
        span aria-hidden="true" { (mark(verdict)) } " " (word(verdict))
    } }
}

/// A table that may be wider than the page; it can be scrolled with the keyboard as well.
fn scrolled(label: &str, table: Markup) -> Markup {
    html! { div class="scroll" role="region" aria-label=(label) tabindex="0" { (table) } }
}
