//! A real Redis saves its data while it is written to.

mod claims;
mod client;
mod figures;
mod save;
mod server;

use super::SOURCE;
use crate::lab::{
    experiment::{Experiment, Lab, Outcome},
    size::Scale,
    story::Focus,
};
use save::Save;
use server::Installed;

pub(super) static EXPERIMENTS: [Experiment; 1] = [Experiment {
    id: "redis-bgsave",
    source: SOURCE,
    title: "A real Redis saves in the background, and is written to meanwhile",
    about: "A redis-server of its own is filled with keys of 1,000 bytes through its socket, and told BGSAVE: it \
            forks, and the child writes all keys to a file. Meanwhile a tenth of the keys, chosen at random, is \
            set anew, in five rounds; after each, both processes are stopped and read. When the child is gone, \
            keys are set once more.",
    expect: "The child only reads, and the parent copies what it writes to. Each copy leaves the child alone \
             with the old page, so that the child's Private_Dirty is the price of the save, though it has done \
             nothing: this is what Redis reports as rdb_last_cow_size. The first round costs more than the \
             later ones.",
    lesson: "Redis' figure and the tracer's count are one: the copies of both, times the page size. But Redis' child \
             has to walk its own smaps for it, which is dear, so that current_cow_size lags, and only the figure at \
             the end is whole. The memory that a save needs does not follow from the bytes that are written: one \
             SET of 1,000 bytes writes to a page with the value, and to pages with its header, its dictionary \
             entry and the allocator's notes. The latter are few and soon copied, the values' are many. So size \
             by pages copied per second, not by bytes written. When the child is gone, what it shared is \
             written again without any copy.",
    focus: Focus::Buffer("the server's data"),
    size: Some(Scale { default_bytes: 128 << 20, least_bytes: 32 << 20, peak_percent: 300 }),
    run,
}];

fn run(lab: &mut Lab<'_>) -> anyhow::Result<Outcome> {
    let installed = match Installed::find()? {
        Ok(installed) => installed,
        Err(lack) => {
            let why = format!(
                "{lack}; `cargo xtask setup` installs one (Debian: redis-tools has the program; redis-server adds a \
                 system service)"
            );
            let claim = "copies of parent and child during a save, against rdb_last_cow_size";
            lab.claims.unmeasurable(claim, "the same", "MiB", why);
            return Ok(Outcome::default());
        }
    };
    let save = Save::run(lab, installed)?;
    claims::check(&mut lab.claims, &save);
    lab.tables.push(figures::table(&save));
    lab.curves.push(figures::curve(&save));
    Ok(Outcome { story: save.story, report: save.report })
}
