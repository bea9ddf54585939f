//! What is seen, without a terminal: frames, and what is shown of them.

mod figures;
mod frame;
mod sort;
#[cfg(test)]
pub(super) mod tests;
mod tracked;
mod view;

pub use figures::{Figures, Rates};
pub use frame::{ForkRow, Frame, Identity, Row, Totals};
pub use sort::SortBy;
pub use tracked::Tracked;
pub use view::{Action, Key, Screenful, View};
