//! User stacks of copies, as the report has them.

use std::sync::Arc;

use cowtrace_abi::Kind;
use serde::{Deserialize, Serialize};

/// A stack of fewer frames than this says little: code that was built without frame pointers ends it early.
pub const SHORT_STACK: usize = 3;

/// All stacks of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Stacks {
    /// The stacks, by descending count.
    pub stacks: Vec<Stack>,
    /// How good they are.
    pub stack_frames: StackFrames,
}

/// Pages of one kind that one process copied or replaced, from one stack.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Stack {
    /// Process id.
    pub pid: u32,
    /// Command name of the program that it ran then.
    pub comm: Arc<str>,
    /// The kind of all these pages.
    pub kind: StackKind,
    /// Pages.
    pub count: u64,
    /// Functions, from the outermost to the one that wrote; `[path+0xoffset]` or `[unknown]` where there is no name.
    pub frames: Vec<Arc<str>>,
}

/// What is known of the frames of all stacks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct StackFrames {
    /// Frames of all stacks that differ by an address.
    pub frames: u64,
    /// Those without a name.
    pub unresolved: u64,
    /// Pages of all stacks.
    pub pages: u64,
    /// Pages of stacks with one or two frames.
    pub pages_of_short_stacks: u64,
    /// Pages of stacks that were deeper than what the kernel keeps; these begin with `[…]`.
    pub pages_of_cut_stacks: u64,
}

/// The kinds that are counted by stack, as in [`super::Faults`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "they are told there")]
pub enum StackKind {
    Copy,
    Zero,
    File,
    Ksm,
    Hugetlb,
    Pinned,
}

impl StackKind {
    /// The word for what was counted; `None` if no stacks are taken of it.
    pub fn of(kind: Kind) -> Option<StackKind> {
        match kind {
            Kind::Copy => Some(StackKind::Copy),
            Kind::Zero => Some(StackKind::Zero),
            Kind::FileAfterRead | Kind::FileFirstWrite => Some(StackKind::File),
            Kind::Ksm => Some(StackKind::Ksm),
            Kind::Hugetlb => Some(StackKind::Hugetlb),
            Kind::Pinned => Some(StackKind::Pinned),
            _ => None,
        }
    }

    /// All of them.
    pub const ALL: [StackKind; 6] = [
        StackKind::Copy,
        StackKind::Zero,
        StackKind::File,
        StackKind::Ksm,
        StackKind::Hugetlb,
        StackKind::Pinned,
    ];

    /// The reverse of [`StackKind::word`].
    pub fn from_word(word: &str) -> Option<StackKind> {
        StackKind::ALL.into_iter().find(|kind| kind.word() == word)
    }

    /// As the report spells it.
    pub fn word(self) -> &'static str {
        match self {
            StackKind::Copy => "copy",
            StackKind::Zero => "zero",
            StackKind::File => "file",
            StackKind::Ksm => "ksm",
            StackKind::Hugetlb => "hugetlb",
            StackKind::Pinned => "pinned",
        }
    }
}

impl Stack {
    /// Program and functions in one word, the outermost first, as Brendan Gregg's folded format has them.
    pub fn name(&self) -> String {
        let mut name = part(&self.comm);
        for frame in &self.frames {
            name.push(';');
            name += &part(frame);
        }
        name
    }

    /// Whether so few frames were found that code without frame pointers is to be suspected.
    pub fn is_short(&self) -> bool {
        self.frames.len() < SHORT_STACK
    }
}

/// Without what ends a function or a line in that format.
fn part(name: &str) -> String {
    name.chars().map(|c| if c == ';' || c.is_control() { ':' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_that_is_counted_by_stack_has_a_word() {
        for kind in Kind::ALL {
            let word = StackKind::of(kind);
            assert_eq!(word.is_some(), kind.replaces_a_page(), "{kind:?}");
            let json = word.map(|word| serde_json::to_string(&word).unwrap());
            assert_eq!(json, word.map(|word| format!("{:?}", word.word())));
        }
    }
}
