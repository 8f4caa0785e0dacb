//! `ringmq check`.

use ringmq::config::Sources;

use super::args::CheckArgs;
use super::{EXIT_FINE, EXIT_USAGE};

/// Prints the configuration in effect, or all that is wrong with it.
pub fn run(args: &CheckArgs) -> u8 {
    let sources = Sources { file: Some(args.config.clone()), flags: Vec::new() };
    match sources.load() {
        Ok(config) => {
            print!("{}", config.to_toml());
            EXIT_FINE
        }
        Err(error) => {
            eprintln!("{error}");
            EXIT_USAGE
        }
    }
}
