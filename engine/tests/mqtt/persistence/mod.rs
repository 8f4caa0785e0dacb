//! What outlives the broker's process, and with level `synced` the machine. Every transcript is played with
//! kills, and once more with losses of power where acknowledgements wait for syncs.

mod any_moment;
mod compaction;
mod exactly_once;
mod full;
mod groups;
mod messages;
mod retained;
mod sessions;
mod synced;
mod wills;

use crate::common::Setup;

#[track_caller]
fn check(transcript: &str) {
    Setup::new().on_disk().check(transcript);
}
