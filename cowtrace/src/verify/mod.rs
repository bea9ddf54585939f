//! `cowtrace verify`: a traced run, and what the kernel itself says of it, oracle by oracle.
//!
//! [`verify()`] runs a command under the tracer. Meanwhile the kernel's own records of every process that ends are
//! heard of (`proc`), and paired with the traced ones (`pairing`); `judge` compares, `explain` says why, `ksm` and
//! `smaps` hold the run against vmstat and the ledger. What comes out is a [`VerifyReport`].

mod accounting;
mod explain;
mod judge;
mod ksm;
mod pairing;
mod report;
mod rest;
mod run;
mod smaps;
#[cfg(test)]
mod tests;

pub use report::{
    Finding, LedgerReport, Oracle, OracleName, Outcome, ProcessVerdict, Totals, VERIFY_SCHEMA, Verdict,
    VerifyReport,
};
pub use run::{VerifyError, VerifyOptions, verify};
