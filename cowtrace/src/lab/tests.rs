//! The orchestration, with a tracer that only starts programs; the claims about smaps, live.

use std::{
    os::unix::process::CommandExt,
    process::{Child, Command},
};

use super::*;

/// Starts programs, and sees nothing.
#[derive(Default)]
struct Blind {
    children: Vec<Child>,
}

impl LabTracer for Blind {
    fn spawn(
        &mut self,
        program: &Path,
        args: &[OsString],
        inherit: &[(RawFd, RawFd)],
    ) -> anyhow::Result<u32> {
        let inherit = inherit.to_vec();
        let mut command = Command::new(program);
        command.args(args);
        // SAFETY: only async-signal-safe calls between fork and exec.
        unsafe {
            command.pre_exec(move || {
                // First out of the way of the target numbers, then onto them; dup2 clears close-on-exec.
                for (index, &(from, _)) in inherit.iter().enumerate() {
                    libc::dup2(from, 100 + index as i32);
                    libc::fcntl(100 + index as i32, libc::F_SETFD, libc::FD_CLOEXEC);
                }
                for (index, &(_, to)) in inherit.iter().enumerate() {
                    libc::dup2(100 + index as i32, to);
                }
                Ok(())
            });
        }
        let child = command.spawn()?;
        let pid = child.id();
        self.children.push(child);
        Ok(pid)
    }

    fn poll(&mut self) -> anyhow::Result<()> {
        Ok(())
    }

    fn events(&mut self) -> anyhow::Result<Vec<FamilyEvent>> {
        Ok(Vec::new())
    }

    fn counts(&mut self, _pid: u32) -> anyhow::Result<Counts> {
        Ok(Counts::default())
    }

    fn finish(mut self: Box<Self>) -> anyhow::Result<Value> {
        for child in &mut self.children {
            assert!(child.wait()?.success());
        }
        Ok(Value::Null)
    }
}

fn blind() -> anyhow::Result<Box<dyn LabTracer>> {
    Ok(Box::new(Blind::default()))
}

/// The experiments whose claims are told apart below.
const FIRST: [&str; 5] = ["no-heap", "heap-untouched", "heap-touched", "fork-shared", "child-writes"];

fn only(ids: &[&str]) -> LabOptions {
    LabOptions { ids: ids.iter().map(|&id| id.to_owned()).collect(), ..LabOptions::default() }
}

/// Where the workload was built beside the tests, and frame numbers are to be had.
fn can_run() -> bool {
    let found = workload::find_program();
    if let Err(error) = &found {
        eprintln!("skipped: {error}");
    }
    // SAFETY: no pointers.
    found.is_ok() && unsafe { libc::geteuid() } == 0
}

#[test]
fn every_experiment_is_named_once_and_can_be_chosen() {
    let ids: Vec<&str> = experiments().map(|experiment| experiment.id).collect();
    let mut unique = ids.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), ids.len());
    assert_eq!(select(&[]).unwrap().len(), ids.len());
    assert_eq!(ids[..FIRST.len()], FIRST);
    let chosen = select(&["child-writes".into(), "no-heap".into()]).unwrap();
    assert_eq!(chosen.iter().map(|e| e.id).collect::<Vec<_>>(), ["child-writes", "no-heap"]);
    let error = select(&["no-hep".into()]).unwrap_err();
    assert!(error.to_string().contains("'no-hep'"), "{error}");
}

#[test]
fn smaps_claims_hold_without_any_tracer() {
    if !can_run() {
        return;
    }
    let mut seen = Vec::new();
    let report = run(only(&FIRST), &mut blind, &mut |progress| seen.push(progress)).unwrap();
    assert_eq!(seen.len(), 2 * report.experiments.len());
    for experiment in &report.experiments {
        for claim in &experiment.claims {
            // What a tracer must see is not there; what smaps and pagemap say is.
            let blind = claim.claim.contains("first touches") || claim.claim == "copies in the child's heap";
            let expected = claim.verdict == Verdict::Holds || blind;
            assert!(expected, "{}: {claim:#?}", experiment.id);
        }
    }
    // Without events, the ledger must not balance where something moved.
    let residual = |id| report.experiments.iter().find(|e| e.id == id).unwrap().residual_pages();
    assert_eq!(residual("no-heap"), 0);
    assert!(residual("heap-touched") >= 17);
    assert!(residual("child-writes") >= 17);
    assert!(!report.as_it_should());
    if std::env::var_os("COWTRACE_SHOW").is_some() {
        println!("{}", serde_json::to_string_pretty(&report).unwrap());
    }
}

/// A tracer that fails at the last checkpoint, while two processes wait at theirs.
struct Failing {
    blind: Blind,
    calls: u32,
    pids: std::rc::Rc<std::cell::RefCell<Vec<u32>>>,
}

impl LabTracer for Failing {
    fn spawn(
        &mut self,
        program: &Path,
        args: &[OsString],
        inherit: &[(RawFd, RawFd)],
    ) -> anyhow::Result<u32> {
        self.blind.spawn(program, args, inherit)
    }

    fn poll(&mut self) -> anyhow::Result<()> {
        Ok(())
    }

    fn events(&mut self) -> anyhow::Result<Vec<FamilyEvent>> {
        self.calls += 1;
        anyhow::ensure!(self.calls < 4, "no more");
        Ok(Vec::new())
    }

    fn counts(&mut self, pid: u32) -> anyhow::Result<Counts> {
        self.pids.borrow_mut().push(pid);
        Ok(Counts::default())
    }

    fn finish(self: Box<Self>) -> anyhow::Result<Value> {
        Ok(Value::Null)
    }
}

#[test]
fn nothing_is_left_behind_when_an_experiment_fails() {
    if !can_run() {
        return;
    }
    let pids = std::rc::Rc::default();
    let mut factory = || -> anyhow::Result<Box<dyn LabTracer>> {
        Ok(Box::new(Failing { blind: Blind::default(), calls: 0, pids: std::rc::Rc::clone(&pids) }))
    };
    let report = run(only(&["child-writes"]), &mut factory, &mut |_| {}).unwrap();
    let claim = report.experiments[0].claims.last().unwrap();
    assert!(claim.why.contains("no more") && !claim.as_it_should(), "{claim:?}");
    let mut pids = pids.borrow().clone();
    pids.sort_unstable();
    pids.dedup();
    assert_eq!(pids.len(), 2, "parent and child were there");
    for pid in pids {
        // The tracer's child may still wait to be reaped.
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        assert!(stat.is_empty() || stat.contains(") Z ") || stat.contains(") X "), "{stat}");
    }
}
