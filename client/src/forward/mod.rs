//! From broker to broker: conditions on messages, changes to messages, and what forwards them.

mod filter;
mod intake;
mod json;
mod pattern;
mod settings;
mod transform;
mod way;
mod worker;

pub use filter::Filter;
pub use settings::{DropReason, FailReason, ForwardQos, ForwardRetain, ForwarderStats, LoopGuard};
pub use transform::{Transform, TransformError};
