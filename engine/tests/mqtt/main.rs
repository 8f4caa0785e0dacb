//! What clients of every version see of the broker, as transcripts.

mod common;
mod connect;
mod limits;
mod malformed;
mod publish;
mod retained;
mod session;
mod shared;
mod subscribe;
mod will;
