//! The stacks of the report: addresses turned into functions, and stacks of the same functions into one.

use std::{cmp::Reverse, collections::HashMap, sync::Arc};

use cowtrace_abi::Kind;

use super::{Collector, ProcessState};
use crate::{
    collect::stacks::Copies,
    model::{SHORT_STACK, Stack, StackFrames, StackKind, Stacks},
    symbols::{Frame, Symbols},
};

/// First frame of a stack that was deeper than what the kernel keeps.
const CUT: &str = "[…]";

/// What stacks are put together by: process, program, kind and functions.
type Same = (u32, Arc<str>, StackKind, Vec<Arc<str>>);

impl Collector {
    /// Resolves what was counted.
    pub(in crate::collect) fn stacks(&self, counted: &[Copies]) -> Stacks {
        let mut symbols = Symbols::default();
        let mut facts = StackFrames::default();
        let mut sums: HashMap<Same, u64> = HashMap::new();
        for stack in counted {
            let process = self.by_id.get(&stack.key.id).and_then(|&index| self.processes.get(index));
            let kind = u8::try_from(stack.key.kind).ok().and_then(Kind::from_u8).and_then(StackKind::of);
            let (Some(process), Some(kind)) = (process, kind) else { continue };
            let frames = self.frames(process, stack, &mut symbols);
            let pages = stack.pages;
            facts.frames += frames.len() as u64;
            facts.unresolved += frames.iter().filter(|frame| !frame.resolved).count() as u64;
            facts.pages += pages;
            if frames.len() < SHORT_STACK {
                facts.pages_of_short_stacks += pages;
            }
            let mut names: Vec<Arc<str>> = frames.into_iter().rev().map(|frame| frame.name).collect();
            if stack.stack.is_cut() {
                facts.pages_of_cut_stacks += pages;
                names.insert(0, CUT.into());
            }
            let comm = process.code.comm(stack.key.execs);
            *sums.entry((process.slot.tgid, comm, kind, names)).or_default() += pages;
        }
        let mut stacks: Vec<Stack> = sums
            .into_iter()
            .map(|((pid, comm, kind, frames), count)| Stack { pid, comm, kind, count, frames })
            .collect();
        stacks.sort_by(|a, b| {
            let order = |s: &Stack| (Reverse(s.count), s.pid, s.kind);
            order(a).cmp(&order(b)).then_with(|| a.frames.cmp(&b.frames))
        });
        Stacks { stacks, stack_frames: facts }
    }

    /// The frames of a stack, from the innermost outwards.
    fn frames(&self, process: &ProcessState, copies: &Copies, symbols: &mut Symbols) -> Vec<Frame> {
        let addresses = copies.stack.frames().iter().enumerate();
        addresses
            .map(|(index, &address)| {
                // A return address may be that of the next function: the call is before it.
                let address = if index == 0 { address } else { address.saturating_sub(1) };
                match process.code.find(copies.key.execs, address, copies.at_ns) {
                    Some(place) => symbols.in_file(&place),
                    None => symbols.made_at_run_time(&self.relatives(process, copies.key.execs), address),
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
            let Some(parent) = self.by_id.get(&forked_from).and_then(|&index| self.processes.get(index))
            else {
                pids.extend((forked_from == 0).then_some(member.slot.ppid));
                break;
            };
            pids.push(parent.slot.tgid);
            (member, is_same_program) = (parent, parent.slot.execs == 0);
        }
        pids
    }
}
