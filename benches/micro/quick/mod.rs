//! How long is measured.

use std::time::Duration;

use criterion::Criterion;

/// Short enough for all of them to take a few minutes.
pub fn config() -> Criterion {
    Criterion::default()
        .sample_size(30)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .without_plots()
}
