//! From broker to broker: conditions on messages, changes to messages, and what forwards them.

mod builder;
mod filter;
mod forwarder;
mod intake;
mod json;
mod pattern;
mod settings;
mod transform;
mod way;
mod worker;

pub use builder::{ForwarderBuilder, Source};
pub use filter::Filter;
pub use forwarder::Forwarder;
pub use settings::{DropReason, FailReason, ForwardQos, ForwardRetain, ForwarderStats, LoopGuard};
pub use transform::{Transform, TransformError};
