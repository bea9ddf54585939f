//! To be written.

use crate::lab::experiment::Experiment;

pub(super) static EXPERIMENTS: [Experiment; 0] = [];
