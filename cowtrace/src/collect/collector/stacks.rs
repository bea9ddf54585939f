//! The stacks of the report: addresses turned into functions, and stacks of the same functions into one.

use std::{cmp::Reverse, collections::HashMap, sync::Arc};

use cowtrace_abi::{Kind, StackKey};

use super::{Collector, ProcessState, fork_stacks::CopiedByAll};
use crate::{
    collect::stacks::Copies,
    model::{Report, SHORT_STACK, Stack, StackFrames, StackKind, Stacks},
    symbols::{Frame, Symbols},
};

/// First frame of a stack that was deeper than what the kernel keeps.
const CUT: &str = "[…]";

/// What stacks are put together by: process, program, kind and functions.
type Same<'a> = (u32, Arc<str>, StackKind, &'a [Arc<str>]);

/// Copies of one kind that one program of a process made from one stack.
pub(super) struct Resolved {
    /// [`cowtrace_abi::ProcSlot::id`].
    pub(super) id: u64,
    /// Which program, as [`cowtrace_abi::ProcSlot::execs`] counts them.
    pub(super) execs: u32,
    /// The kind.
    pub(super) of: Kind,
    /// The same, as the report has it.
    pub(super) kind: StackKind,
    /// Functions, from the outermost inwards.
    pub(super) names: Vec<Arc<str>>,
    /// Pages by [`StackKey::epoch`].
    pub(super) pages: Vec<(u16, u64)>,
}

impl Resolved {
    fn sum(&self) -> u64 {
        self.pages.iter().map(|(_, pages)| pages).sum()
    }
}

impl Collector {
    /// Adds what was counted by stack to a report, which has these of the forks.
    pub(in crate::collect) fn add_stacks(&self, report: &mut Report, counted: &[Copies], forks: &[usize]) {
        let (resolved, stack_frames) = self.resolve_stacks(counted);
        let mut sums: HashMap<Same<'_>, u64> = HashMap::new();
        for stack in &resolved {
            let Some(process) = self.process_of(stack.id) else { continue };
            let comm = process.code.comm(stack.execs);
            *sums.entry((process.slot.tgid, comm, stack.kind, &stack.names)).or_default() += stack.sum();
        }
        let mut stacks: Vec<Stack> = sums
            .into_iter()
            .map(|((pid, comm, kind, frames), count)| Stack {
                pid,
                comm,
                kind,
                count,
                frames: frames.to_vec(),
            })
            .collect();
        stacks.sort_by(|a, b| {
            let order = |s: &Stack| (Reverse(s.count), s.pid, s.kind);
            order(a).cmp(&order(b)).then_with(|| a.frames.cmp(&b.frames))
        });
        report.stacks = Some(Stacks { stacks, stack_frames });
        self.add_fork_stacks(&mut report.forks, forks, &CopiedByAll::of(&resolved, self.sizes));
    }

    /// Finds the functions of each stack, once for all its epochs.
    fn resolve_stacks(&self, counted: &[Copies]) -> (Vec<Resolved>, StackFrames) {
        let mut symbols = Symbols::default();
        let mut facts = StackFrames::default();
        let mut stacks: HashMap<StackKey, Vec<&Copies>> = HashMap::new();
        for copies in counted {
            stacks.entry(StackKey { epoch: 0, ..copies.key }).or_default().push(copies);
        }
        let resolve = |(key, epochs): (StackKey, Vec<&Copies>)| {
            let process = self.process_of(key.id)?;
            let of = u8::try_from(key.kind).ok().and_then(Kind::from_u8)?;
            let kind = StackKind::of(of)?;
            let first = epochs.iter().min_by_key(|copies| copies.at_ns)?;
            let frames = self.frames(process, first, &mut symbols);
            let pages: Vec<(u16, u64)> =
                epochs.iter().map(|copies| (copies.key.epoch, copies.pages)).collect();
            facts.frames += frames.len() as u64;
            facts.unresolved += frames.iter().filter(|frame| !frame.resolved).count() as u64;
            let is_short = frames.len() < SHORT_STACK;
            let names: Vec<Arc<str>> = frames.into_iter().rev().map(|frame| frame.name).collect();
            let mut stack = Resolved { id: key.id, execs: key.execs, of, kind, names, pages };
            facts.pages += stack.sum();
            if is_short {
                facts.pages_of_short_stacks += stack.sum();
            }
            if first.stack.is_cut() {
                facts.pages_of_cut_stacks += stack.sum();
                stack.names.insert(0, CUT.into());
            }
            Some(stack)
        };
        let resolved = stacks.into_iter().filter_map(resolve).collect();
        (resolved, facts)
    }

    /// The frames of a stack, from the innermost outwards.
    fn frames(&self, process: &ProcessState, copies: &Copies, symbols: &mut Symbols) -> Vec<Frame> {
        let addresses = copies.stack.frames().iter().enumerate();
        let pids = self.relatives(process, copies.key.execs);
        addresses
            .map(|(index, &address)| {
                // A return address may be that of the next function: the call is before it.
                let address = if index == 0 { address } else { address.saturating_sub(1) };
                match process.code.find(copies.key.execs, address, copies.at_ns) {
                    Some(place) => symbols.in_file(&pids, &place),
                    None => symbols.made_at_run_time(&pids, address),
                }
            })
            .collect()
    }

    /// The process, and those that it has its code from: as long as it was the same program, the processes it was forked from.
    /// Of a fork from before the session only the parent of today is known, which mostly made it.
    pub(super) fn relatives(&self, process: &ProcessState, execs: u32) -> Vec<u32> {
        const GENERATIONS: usize = 8;
        let mut pids = vec![process.slot.tgid];
        let (mut member, mut is_same_program) = (process, execs == 0);
        while is_same_program && pids.len() < GENERATIONS {
            let forked_from = member.slot.forked_from;
            let Some(parent) = self.process_of(forked_from) else {
                // One that is gone had the id that it has in reports.
                pids.extend(member.parent_pid.or_else(|| (forked_from == 0).then_some(member.slot.ppid)));
                break;
            };
            pids.push(parent.slot.tgid);
            (member, is_same_program) = (parent, parent.slot.execs == 0);
        }
        pids
    }
}
