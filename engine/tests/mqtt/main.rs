//! What clients of every version see of the broker, as transcripts.

mod common;
mod connect;
mod publish;
mod session;
mod will;
