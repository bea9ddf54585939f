//! Faults one by one, for those who asked for them.

use super::{Session, SessionError};
use crate::{collect::record::Record, model::TracedFault};

impl Session {
    /// Faults that were told since the last call, if [`SessionOptions::events`] asks for them.
    pub fn take_events(&mut self) -> Vec<TracedFault> {
        self.collector.take_events()
    }

    /// Faults so far that could not be told, as nobody had read the ones before.
    ///
    /// # Errors
    /// The slots cannot be read.
    pub fn lost_events(&mut self) -> Result<u64, SessionError> {
        Ok(self.probes.slots().shared()?.lost_faults)
    }

    /// Takes faults that are told when they end, and have not.
    pub(super) fn take_open_faults(&mut self) -> Result<(), SessionError> {
        for fault in self.probes.open_faults()? {
            self.collector.push(Record::Fault(fault));
        }
        Ok(())
    }
}
