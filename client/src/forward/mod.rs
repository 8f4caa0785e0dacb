//! From broker to broker: conditions on messages, changes to messages, and what forwards them.

mod filter;
mod json;
mod pattern;
mod transform;

pub use filter::Filter;
pub use transform::{Transform, TransformError};
