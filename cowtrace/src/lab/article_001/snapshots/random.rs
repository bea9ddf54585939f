//! Writes to pages chosen at random.

use crate::lab::{
    article_001::{
        portions::Portions,
        shared_buffer::{BOTH, Extent, FILLED, FORKED, ROLES},
    },
    claims::Test,
    experiment::{Lab, Outcome},
    report::{Axis, Curve, Figures, Series},
    story::{CHILD, PARENT, Story},
};

const PORTIONS: u64 = 10;
/// Writes for each page, in the end.
const WRITES_PER_PAGE: u64 = 4;

/// Between measured and expected number of pages, at each checkpoint, for so many pages: with fewer, chance has more
/// room.
const TOLERANCE_PERCENT: f64 = 2.0;
const TOLERANCE_PAGES: f64 = 16_384.0;
/// The formula has 98.2 % after four writes for each page.
const NEARLY_ALL_PERCENT: f64 = 97.0;

/// Copies after a number of writes.
#[derive(Clone, Copy, Debug)]
struct Point {
    writes: u64,
    copies: u64,
    expected: f64,
}

impl Point {
    fn deviation_percent(&self) -> f64 {
        (self.copies as f64 / self.expected - 1.0) * 100.0
    }
}

pub(super) fn run(lab: &mut Lab<'_>) -> anyhow::Result<Outcome> {
    let extent = Extent::of_bytes(lab.size_bytes);
    let portions = Portions::new(PORTIONS, "written");
    let writes = extent.pages * WRITES_PER_PAGE / PORTIONS;
    let args = [extent.pages, PORTIONS, writes].map(|number| number.to_string());
    lab.progress("filling the buffer");
    let mut workload = lab.start("worst-case", &args, ROLES)?;
    workload.go(PARENT, &[PARENT], FILLED)?;
    workload.go(PARENT, &[PARENT, CHILD], FORKED)?;
    for name in portions.names() {
        lab.progress(format!("the parent writes: {name}"));
        workload.go(PARENT, &[PARENT], name)?;
    }
    lab.progress("adding up");
    let (story, report) = workload.finish()?;
    let points: Vec<Point> = (1..)
        .zip(portions.copies(&story, PARENT))
        .map(|(portion, copies)| {
            let writes = portion * writes;
            Point { writes, copies, expected: expected_pages(extent.pages, writes) }
        })
        .collect();
    formula(lab, &points, extent);
    effects(lab, &story, &points, &portions, extent);
    lab.tables.push(table(&points));
    lab.curves.push(curve(&points));
    Ok(Outcome { story, report })
}

/// Pages, of this many, that are hit by this many writes at random: the chance that all miss a page is
/// (1 - 1/N)^w, nearly e^(-w/N).
fn expected_pages(pages: u64, writes: u64) -> f64 {
    let (pages, writes) = (pages as f64, writes as f64);
    pages * (1.0 - (-writes / pages).exp())
}

fn tolerance_percent(pages: u64) -> f64 {
    TOLERANCE_PERCENT * (TOLERANCE_PAGES / pages as f64).sqrt().max(1.0)
}

fn formula(lab: &mut Lab<'_>, points: &[Point], extent: Extent) {
    let deviations = points.iter().map(|point| point.deviation_percent().abs());
    let why = "each write hits any page with the same chance, and a page is copied the first time only";
    lab.claims.check(
        Test::at_most(
            "copies against N (1 - e^(-w/N)): largest deviation at ten checkpoints",
            tolerance_percent(extent.pages),
            deviations.reduce(f64::max),
        )
        .unit("%")
        .because(why),
    );
    let part = points.last().map(|point| 100.0 * point.copies as f64 / extent.pages as f64);
    let why = "after four writes for each page, one page in 55 was never hit";
    lab.claims.check(
        Test::at_least("part of the buffer that was copied in the end", NEARLY_ALL_PERCENT, part)
            .unit("%")
            .because(why),
    );
}

fn effects(lab: &mut Lab<'_>, story: &Story, points: &[Point], portions: &Portions, extent: Extent) {
    let claims = &mut lab.claims;
    let (copies, last) = (points.last().map_or(0, |point| point.copies), portions.last());
    let faults = portions.names().map(|name| story.buffer_faults_before(&name, PARENT, None)).sum();
    let why = "a write to a page that was copied before takes no fault";
    claims.equal(
        "faults of any kind in the parent's buffer: one for each copy",
        copies,
        faults,
        "faults",
        why,
    );
    let faults = portions.names().map(|name| story.buffer_faults_before(&name, CHILD, None)).sum();
    claims.equal("faults of any kind in the child's buffer", 0, faults, "faults", "it only stays");
    let extra = story
        .buffer_frames_in_use(last)
        .zip(story.buffer_frames_in_use(FORKED))
        .map(|(now, then)| now - then);
    let why = "frame numbers in pagemap agree with the tracer";
    claims.equal("frames in use more than after the fork: one for each copy", copies, extra, "frames", why);
    for (role, name) in BOTH {
        let private = story.buffer_at(last, role).map(|vma| vma.private_dirty_kb);
        let why = match role {
            PARENT => "its copies",
            _ => "the originals, which the parent has left: a child that never wrote is as private",
        };
        claims.equal(
            format!("Private_Dirty of the {name} in the end"),
            extent.kb(copies),
            private,
            "kB",
            why,
        );
    }
}

fn table(points: &[Point]) -> Figures {
    let row = |point: &Point| {
        vec![
            point.writes.to_string(),
            point.copies.to_string(),
            format!("{:.0}", point.expected),
            format!("{:+.2}", point.deviation_percent()),
        ]
    };
    Figures {
        title: "Pages copied after so many writes at random, and what N (1 - e^(-w/N)) says".into(),
        columns: ["writes", "copies", "expected", "deviation %"].map(Into::into).into(),
        rows: points.iter().map(row).collect(),
    }
}

fn curve(points: &[Point]) -> Curve {
    let series = |name: &str, measured, y: fn(&Point) -> f64| {
        let points = points.iter().map(|point| [point.writes as f64, y(point)]);
        let points = std::iter::once([0.0, 0.0]).chain(points).collect();
        Series { name: name.into(), measured, points }
    };
    Curve {
        title: "Each further write copies less".into(),
        x: Axis { label: "writes", unit: "" },
        y: Axis { label: "copies", unit: "pages" },
        series: vec![
            series("copied", true, |point| point.copies as f64),
            series("N (1 - e^(-w/N))", false, |point| point.expected),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_formula_is_that_of_random_hits() {
        assert_eq!(expected_pages(1000, 0), 0.0);
        assert!((expected_pages(1000, 1000) - 632.1).abs() < 0.1);
        assert!((expected_pages(1000, 4000) - 981.7).abs() < 0.1);
        // The exact chance differs by less than one page in a thousand.
        let exact = 16_384.0 * (1.0 - (1.0 - 1.0 / 16_384f64).powi(6_553));
        assert!((expected_pages(16_384, 6_553) / exact - 1.0).abs() < 0.001);
    }

    #[test]
    fn fewer_pages_may_deviate_more() {
        assert_eq!([1 << 20, 16_384, 1024].map(tolerance_percent), [2.0, 2.0, 8.0]);
    }

    #[test]
    fn deviations_have_a_sign() {
        let point = |copies| Point { writes: 1, copies, expected: 200.0 };
        assert!((point(196).deviation_percent() + 2.0).abs() < 1e-9);
        assert!((point(201).deviation_percent() - 0.5).abs() < 1e-9);
    }
}
