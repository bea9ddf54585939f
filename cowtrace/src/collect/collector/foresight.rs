//! Forecasts of forks in flight: how much each will have copied when it ends.

use super::Collector;
use crate::{
    collect::session::Lifetime,
    model::{Forecast, ForkKind, ForkSoFar, forecast},
};

/// Forecasts that are kept for a fork. When there are more, every other one goes.
const KEPT: usize = 64;
/// A forecast is made when the fork has become older by this part of its age: one in so many.
const AGE_PARTS: u64 = 12;
/// A fork that outlives its time is expected to last this part of its age longer.
const LONGER_PARTS: u64 = 8;

/// What is asked for, and which forks are new.
pub(super) struct Foresight {
    lifetime: Lifetime,
    /// Forks whose parent's memory is still to be looked at.
    unmeasured: Vec<usize>,
}

/// What is foreseen of one fork.
#[derive(Clone, Default)]
pub(super) struct Foreseen {
    /// Private memory of the parent, bytes.
    shared_bytes: Option<u64>,
    due_ns: u64,
    pub(super) forecasts: Vec<Forecast>,
}

impl Collector {
    /// Foresees what forks in flight will have copied.
    pub(in crate::collect) fn foresee(&mut self, lifetime: Lifetime) {
        self.foresight = Some(Foresight { lifetime, unmeasured: Vec::new() });
    }

    /// A fork begins.
    pub(super) fn foresee_fork(&mut self, place: usize, kind: ForkKind) {
        if let (Some(foresight), ForkKind::Fork) = (&mut self.foresight, kind) {
            foresight.unmeasured.push(place);
        }
    }

    /// Takes over that forks have other places; those without one are left out.
    pub(super) fn move_unmeasured(&mut self, moved: impl FnMut(&mut usize) -> bool) {
        if let Some(foresight) = &mut self.foresight {
            foresight.unmeasured.retain_mut(moved);
        }
    }

    /// The forks that have come since the last call and are still in flight, with their parents' process ids.
    pub(in crate::collect) fn forks_to_measure(&mut self) -> Vec<(usize, u32)> {
        let Some(foresight) = &mut self.foresight else { return Vec::new() };
        let new = std::mem::take(&mut foresight.unmeasured);
        new.into_iter()
            .filter_map(|place| Some((place, self.forks.get(place).filter(|fork| fork.is_open())?.who().0)))
            .collect()
    }

    /// Tells how much private memory the parent had at the fork, bytes.
    pub(in crate::collect) fn set_shared(&mut self, place: usize, bytes: Option<u64>) {
        if let Some(state) = self.forks.get_mut(place) {
            state.foreseen.shared_bytes = bytes;
        }
    }

    /// Makes a forecast if one is due. Nothing is foreseen of a fork before it is known how long one lasts.
    pub(super) fn foresee_more(&mut self, place: usize, now_ns: u64) {
        let Some(lifetime) = self.foresight.as_ref().map(|foresight| foresight.lifetime) else { return };
        let Some(lasts_ns) = (match lifetime {
            Lifetime::Known(time) => u64::try_from(time.as_nanos()).ok(),
            Lifetime::AsBefore => self.lifetime_before(place),
        }) else {
            return;
        };
        let start_ns = self.start_ns;
        let Some(state) = self.forks.get_mut(place) else { return };
        let (begin_ns, moments) = state.so_far();
        let (Some(shared_bytes), true) = (state.foreseen.shared_bytes, now_ns >= state.foreseen.due_ns)
        else {
            return;
        };
        let age_ns = now_ns.saturating_sub(begin_ns);
        let end_ns = begin_ns + lasts_ns.max(age_ns + age_ns / LONGER_PARTS);
        let so_far = ForkSoFar {
            moments,
            end_ns: end_ns.saturating_sub(start_ns),
            shared_bytes,
            page_size: crate::kernel::page_size(),
        };
        let Some(found) = forecast(&so_far) else { return };
        state.foreseen.due_ns = now_ns + age_ns / AGE_PARTS;
        let forecasts = &mut state.foreseen.forecasts;
        if forecasts.len() >= KEPT {
            let mut index = 0;
            forecasts.retain(|_| {
                index += 1;
                index % 2 == 1
            });
        }
        forecasts.push(found);
    }

    /// The last forecast of each fork in flight: parent, child, when the fork was, and what is expected.
    pub(in crate::collect) fn forecasts(&self) -> impl Iterator<Item = (u32, u32, u64, Forecast)> + '_ {
        self.open_forks.values().filter_map(|&place| {
            let state = self.forks.get(place)?;
            let (parent, child, at_ns) = state.who();
            Some((parent, child, at_ns, *state.foreseen.forecasts.last()?))
        })
    }
}
