//! The programs of the fifth article: sizes around a fork, more memory than there is, a fork without ballast.

mod lean;
mod overcommit;
mod sizes;

use core::ffi::c_int;

use crate::{
    checkpoint::Checkpoints,
    sys::{self, Args, Forked},
};

/// Runs the step that the arguments name; `None` if they name none of these, or name it wrongly.
pub fn run(args: &Args) -> Option<c_int> {
    match args.get(1)? {
        b"vsz-rss" => sizes::vsz_rss(args),
        b"overcommit" => overcommit::overcommit(args),
        b"lean-fork" => lean::lean_fork(args),
        _ => None,
    }
}

/// Forks so many children that end at once, one after the other; reports ns of each fork.
fn sample_forks(checkpoints: &Checkpoints, forks: usize) {
    for _ in 0..forks {
        let start = sys::now_ns();
        match sys::fork() {
            Forked::Child => sys::exit_now(0),
            Forked::Parent(child) => {
                let fork_ns = sys::now_ns() - start;
                sys::wait(child);
                checkpoints.sample([fork_ns, 0, 0, 0]);
            }
        }
    }
}
