//! Many runs of one test, each with its seed.

use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// The first seed, where the environment names none.
const SEED_BASE: u64 = 1;

/// Runs `f` with `count` seeds, and says how to replay the first that panics.
///
/// `RINGMQ_SEED` in the environment sets the first seed, `RINGMQ_SEEDS` how many there are. `name` is
/// the test's, for the command that replays it.
///
/// # Panics
/// When `f` does, or a variable is not a number.
pub fn for_each_seed(name: &str, count: u64, f: impl Fn(u64)) {
    let first = number("RINGMQ_SEED").unwrap_or(SEED_BASE);
    let count = number("RINGMQ_SEEDS").unwrap_or(count);
    for seed in (0..count).map(|nth| first.wrapping_add(nth)) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| f(seed))) {
            eprintln!("{}", replay_advice(name, seed));
            resume_unwind(panic);
        }
    }
}

fn replay_advice(name: &str, seed: u64) -> String {
    // Cargo sets it for the tests that it runs.
    let package = env::var("CARGO_PKG_NAME").unwrap_or_else(|_| "<package>".into());
    format!(
        "seed {seed} failed: replay with RINGMQ_SEED={seed} RINGMQ_SEEDS=1 cargo test -p {package} {name}\n\
         (RINGMQ_TRACE=1 prints what happens)"
    )
}

fn number(variable: &str) -> Option<u64> {
    let value = env::var(variable).ok()?;
    match value.parse() {
        Ok(number) => Some(number),
        Err(_) => panic!("{variable}={value} is not a number"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[test]
    fn every_seed_runs_once_and_the_first_failure_ends_it() {
        let seen = RefCell::new(Vec::new());
        for_each_seed("every_seed", 5, |seed| seen.borrow_mut().push(seed));
        let all = seen.take();
        assert!(all.windows(2).all(|pair| pair[1] == pair[0] + 1));
        let failing = all[0];
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            for_each_seed("every_seed", 5, |seed| {
                seen.borrow_mut().push(seed);
                assert_ne!(seed, failing, "the expected failure");
            });
        }));
        assert!(outcome.is_err());
        assert_eq!(seen.take(), [failing]);
    }

    #[test]
    fn the_advice_is_a_command() {
        assert!(replay_advice("x::y", 9).contains("RINGMQ_SEED=9 RINGMQ_SEEDS=1 cargo test -p "));
    }
}
