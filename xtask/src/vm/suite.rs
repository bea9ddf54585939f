//! The whole live suite in a guest, where each test runs by itself: what became of each, and how long it took.

use std::fmt::Write as _;

use super::{
    cell::{Cell, MARK, Outcome, Tests},
    plan::{self, Row},
};

/// So many of the slowest tests are named.
const SLOWEST: usize = 10;

/// Reads what a guest printed: after each test `test STATUS NAME TIME`, in place of it `left-out NAME TIME`.
pub fn read(part: &str) -> Tests {
    let mut all = Tests { passed: Some(0), ..Tests::default() };
    let mut printed = String::new();
    let mut before = part.split_whitespace().next().and_then(|word| word.parse::<f64>().ok());
    for line in part.lines() {
        // What a test prints may lack the end of its last line.
        let Some((rest, fact)) = line.split_once(MARK) else {
            printed.push_str(line);
            printed.push('\n');
            continue;
        };
        printed.push_str(rest);
        let words: Vec<&str> = fact.split_whitespace().collect();
        let end = words.last().and_then(|word| word.parse::<f64>().ok());
        match words.as_slice() {
            ["test", status, name, _] => {
                let took = end.zip(before).map_or(0.0, |(end, begin)| end - begin);
                all.add(name, *status == "0", took, &printed);
            }
            ["left-out", name, _] => all.left_out.push((*name).to_owned()),
            _ => {}
        }
        printed.clear();
        before = end.or(before);
    }
    all
}

impl Tests {
    /// One test, and what it printed.
    fn add(&mut self, name: &str, passed: bool, seconds: f64, printed: &str) {
        let one = Tests::read(printed);
        // A test that was ended from outside has no result, but a status.
        if passed && one.passed == Some(1) {
            self.passed = self.passed.map(|passed| passed + 1);
        } else {
            self.failed += 1;
            self.failures.push(name.to_owned());
        }
        self.skipped += one.skipped;
        self.compared.processes += one.compared.processes;
        self.compared.copies += one.compared.copies;
        self.compared.differences += one.compared.differences;
        self.seconds.push((name.to_owned(), seconds));
    }
}

/// What the table has no room for: the slowest tests of each cell, and what was left out, and why.
pub fn text(rows: &[Row], cells: &[Cell]) -> String {
    let mut text = String::new();
    let whole = |cell: &&Cell| rows.iter().any(|row| row.whole_suite && row.name == cell.row);
    for cell in cells.iter().filter(whole) {
        let Outcome::Ran(ran) = &cell.outcome else { continue };
        let mut seconds: Vec<&(String, f64)> = ran.tests.seconds.iter().collect();
        seconds.sort_by(|one, other| other.1.total_cmp(&one.1));
        let slowest: Vec<String> =
            seconds.iter().take(SLOWEST).map(|(name, took)| format!("{name} {took:.0}")).collect();
        let _ = writeln!(
            text,
            "{} {}: {} tests ran, {} left out; slowest (s): {}",
            cell.row,
            cell.backend,
            seconds.len(),
            ran.tests.left_out.len(),
            slowest.join(", ")
        );
    }
    if !text.is_empty() {
        for (name, why) in plan::LEFT_OUT {
            let _ = writeln!(text, "left out: {name}: {why}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{
        super::cell::{self, tests::row},
        *,
    };

    const PRINTED: &str = "cowtrace-vm: begin fentry 5.00\r\ncowtrace-vm: left-out cost::a 5.10\r\n\r\nrunning 1 test\r\n\
        test exact::a ...     x: 62 processes, 712 copies by the kernel's count, 0 differences\r\nok\r\n\
        test result: ok. 1 passed; 0 failed; 0 ignored\r\ncowtrace-vm: test 0 exact::a 9.10\r\n\
        test top::b ... FAILED\r\n---- top::b stdout ----\r\ntest result: FAILED. 0 passed; 1 failed\r\n\
        cowtrace-vm: test 101 top::b 10.10\r\ntest top::c ... cowtrace-vm: test 143 top::c 410.10\r\n\
        test kinds::d ...     skipped: d: no swap\r\nok\r\ntest result: ok. 1 passed; 0 failed\r\n\
        cowtrace-vm: test 0 kinds::d 411.10\r\ncowtrace-vm: tests 0 411.20\r\ncowtrace-vm: end fentry 411.20\r\n";

    fn cells() -> (Vec<Row>, Vec<Cell>) {
        let mut row = row("6.12", &["fentry"]);
        (row.whole_suite, row.lab) = (true, Vec::new());
        let cells = cell::read(&row, PRINTED, "", None);
        (vec![row], cells)
    }

    #[test]
    fn what_became_of_each_test_is_read() {
        let (_, cells) = cells();
        let Outcome::Ran(ran) = &cells[0].outcome else { panic!("{:?}", cells[0]) };
        let tests = &ran.tests;
        assert_eq!((tests.passed, tests.failed, tests.skipped), (Some(2), 2, 1));
        assert_eq!(tests.failures, ["top::b", "top::c"], "the last one hung, and was ended");
        assert_eq!((tests.compared.processes, tests.compared.copies), (62, 712));
        assert_eq!(tests.left_out, ["cost::a"]);
        let seconds: Vec<i32> = tests.seconds.iter().map(|(_, took)| took.round() as i32).collect();
        assert_eq!(seconds, [4, 1, 400, 1]);
    }

    #[test]
    fn the_slowest_and_what_is_left_out_are_told() {
        let (rows, cells) = cells();
        let text = text(&rows, &cells);
        let told = "6.12 fentry: 4 tests ran, 1 left out; slowest (s): top::c 400, exact::a 4, ";
        assert!(text.starts_with(told) && text.contains("left out: redis::: a Redis server"), "{text}");
        let mut other = rows;
        other[0].whole_suite = false;
        assert_eq!(super::text(&other, &cells), "");
    }
}
