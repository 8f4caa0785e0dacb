//! The codec against the specification, against itself and against noise.

#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod corpus;
mod golden;
mod malformed;
mod robustness;
mod roundtrip;
mod topics;
