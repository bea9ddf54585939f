//! The section of one experiment.

use maud::{Markup, html};

use super::{
    super::{
        super::thousands,
        chart::{self, svg},
        facts::{Seen, did_not_move, fault_rows, not_seen, pages_moved, role, seen, smaps_rows, steps},
        words::{count, dot, duration, figure, mapping, moves, source},
    },
    badge,
    page_map::page_maps,
    scrolled,
};
use crate::lab::{
    Bytes,
    claims::Claim,
    report::{Curve, ExperimentReport, Figures},
};

/// A longer ledger is folded away at first.
const LEDGER_ROWS: usize = 10;
/// Points of a curve in its table.
const CURVE_ROWS: usize = 40;

pub(super) fn section(experiment: &ExperimentReport) -> Markup {
    html! {
        section class="experiment" id=(experiment.id) aria-labelledby={ (experiment.id) "-title" } {
            h2 id={ (experiment.id) "-title" } {
                a href={ "#" (experiment.id) } { (experiment.id) } span { (experiment.title) }
            }
            p class="source" {
                (source(experiment.source)) " · " (duration(experiment.duration_ms))
                @if let Some(bytes) = experiment.size_bytes { " · " (Bytes(bytes)) " of memory" }
            }
            div class="told" {
                div { h3 { "What is done" } p { (experiment.about) } }
                div { h3 { "What to expect" } p { (experiment.expect) } }
            }
            h3 { "What happened" }
            (claims(&experiment.claims))
            @for (index, curve) in experiment.curves.iter().enumerate() {
                (chart(curve, &format!("{}-curve-{index}", experiment.id)))
            }
            @for table in &experiment.tables { (figures(table)) }
            (smaps(experiment))
            (page_maps(experiment))
            (ledger_of(experiment))
            div class="lesson" { h3 { "What it shows" } p { (experiment.lesson) } }
        }
    }
}

fn claims(claims: &[Claim]) -> Markup {
    html! {
        @if claims.is_empty() { p { "Nothing is claimed." } }
        @else {
            // With roles: on a phone the style makes blocks of rows and cells.
            (scrolled("Claims", html! { table class="claims" role="table" {
                thead role="rowgroup" { tr role="row" {
                    th role="columnheader" scope="col" { "verdict" }
                    th role="columnheader" scope="col" { "claim" }
                    th role="columnheader" scope="col" class="n" { "expected" }
                    th role="columnheader" scope="col" class="n" { "measured" }
                    th role="columnheader" scope="col" { "unit" }
                } }
                tbody role="rowgroup" { @for claim in claims { (row(claim)) } }
            } }))
        }
    }
}

fn row(claim: &Claim) -> Markup {
    html! { tr role="row" {
        td role="cell" {
            (badge(claim.verdict))
            @if !claim.as_it_should() { " " span class="amiss" { "not as it should be" } }
        }
        td role="cell" { (claim.claim) @if !claim.why.is_empty() { p class="why" { (claim.why) } } }
        td role="cell" class="n" data-label="expected" { (figure(&claim.expected)) }
        td role="cell" class="n" data-label="measured" { (figure(&claim.measured)) }
        td role="cell" class="unit" { " " (claim.unit) }
    } }
}

fn chart(curve: &Curve, id: &str) -> Markup {
    let (header, rows) = chart::table(curve, CURVE_ROWS);
    html! {
        figure {
            figcaption { (curve.title) }
            (svg::inline(curve, svg::Room::Wide, &format!("{id}-wide")))
            (svg::inline(curve, svg::Room::Narrow, &format!("{id}-narrow")))
            details {
                summary { "The figures behind it" }
                (scrolled(&curve.title, numbers(&header, &rows)))
            }
        }
    }
}

fn figures(table: &Figures) -> Markup {
    html! {
        h3 { (table.title) }
        (scrolled(&table.title, numbers(&table.columns, &table.rows)))
    }
}

/// A table whose first column names the row.
fn numbers(header: &[String], rows: &[Vec<String>]) -> Markup {
    html! { table {
        thead { tr { @for (index, text) in header.iter().enumerate() {
            th scope="col" class=[(index > 0).then_some("n")] { (text) }
        } } }
        tbody { @for row in rows { tr { @for (index, text) in row.iter().enumerate() {
            @if index == 0 { th scope="row" { (text) } } @else { td class="n" { (text) } }
        } } } }
    } }
}

fn smaps(experiment: &ExperimentReport) -> Markup {
    let seen = seen(experiment);
    html! {
        h3 { "smaps before and after" }
        @if seen.is_empty() { p { (not_seen(experiment)) } }
        @else {
            p {
                code { (experiment.focus) } " in smaps (kB), and below what the tracer counted in it since the \
                 checkpoint before."
            }
            (scrolled("smaps", smaps_table(&seen)))
        }
    }
}

fn smaps_table(seen: &[Seen<'_>]) -> Markup {
    // The first column of a process has a line before it.
    let first = |index: usize| index == 0 || seen[index - 1].process.pid != seen[index].process.pid;
    let class = |index: usize| if first(index) { "n first" } else { "n" };
    html! { table class="smaps" {
        thead {
            tr {
                td {}
                @for part in seen.chunk_by(|a, b| a.process.pid == b.process.pid) {
                    th scope="colgroup" colspan=(part.len()) class="first" {
                        (part[0].process.role) " " span class="pid" { (part[0].process.pid) }
                    }
                }
            }
            tr {
                td {}
                @for (index, entry) in seen.iter().enumerate() {
                    th scope="col" class=(class(index)) { (entry.checkpoint.name) }
                }
            }
        }
        tbody { @for (name, sizes) in smaps_rows(seen) { tr {
            th scope="row" { (name) }
            @for (index, size) in sizes.into_iter().enumerate() { td class=(class(index)) { (thousands(size)) } }
        } } }
        tbody class="counts" { @for (name, counts) in fault_rows(seen) { tr {
            th scope="row" { (name) }
            @for (index, count) in counts.into_iter().enumerate() { td class=(class(index)) { (dot(count)) } }
        } } }
    } }
}

fn ledger_of(experiment: &ExperimentReport) -> Markup {
    let (steps, still) = steps(experiment);
    let rows: usize = steps.iter().map(|step| step.rows.len()).sum();
    let residual = experiment.residual_pages();
    let title = format!(
        "{} of Private_Dirty moved, {}",
        count(pages_moved(experiment), "page", "pages"),
        if residual == 0 { "all explained".to_owned() } else { format!("{residual} unexplained") }
    );
    html! {
        h3 { "Ledger" }
        @if !steps.is_empty() {
            details open[rows <= LEDGER_ROWS] {
                summary { (title) }
                (scrolled("Ledger", html! { table {
                    thead { tr {
                        th scope="col" { "process" } th scope="col" { "mapping" }
                        th scope="col" class="n" { "Private_Dirty, kB" }
                        th scope="col" { "pages, by events" } th scope="col" class="n" { "residual" }
                    } }
                    @for step in &steps { tbody {
                        tr class="step" { th scope="rowgroup" colspan="5" { (step.from) " → " (step.to) } }
                        @for row in &step.rows { tr {
                            td { (role(experiment, row.pid)) }
                            td { (mapping(&row.region, &row.perms)) }
                            td class="n" {
                                (thousands(row.private_dirty_kb[0])) " → " (thousands(row.private_dirty_kb[1]))
                            }
                            td class="moves" { (moves(&[row])) }
                            td class={ "n" (if row.residual_pages == 0 { "" } else { " amiss" }) } {
                                (dot(row.residual_pages.unsigned_abs()))
                            }
                        } }
                    } }
                } }))
            }
        }
        @if let Some(text) = did_not_move(steps.len(), still) { p class="quiet" { (text) } }
    }
}
