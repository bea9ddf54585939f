//! The lab's report for people: what was done, what smaps and the tracer showed, and what that teaches. As text,
//! as a page, as Markdown; what they have in common is in `facts`, `words`, `chart` and `page_map`.

mod chart;
mod facts;
mod html;
mod markdown;
mod page_map;
#[cfg(test)]
mod tests;
mod text;
mod words;

pub use html::html;
pub use markdown::{Markdown, markdown};
pub use text::text;
pub(super) use words::moves;
