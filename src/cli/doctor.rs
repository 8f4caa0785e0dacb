//! `ringmq doctor`.

use ringmq::config::Config;
use ringmq::doctor::{Check, Verdict, examine};

use super::args::DoctorArgs;
use super::{EXIT_FAILED, EXIT_FINE};

/// Prints what was looked at, and how it came out.
pub fn run(args: &DoctorArgs) -> u8 {
    let (checks, healthy) = examination(args);
    if args.json {
        println!("{}", json(&checks, healthy));
    } else {
        print!("{}", table(&checks, healthy));
    }
    if healthy { EXIT_FINE } else { EXIT_FAILED }
}

fn examination(args: &DoctorArgs) -> (Vec<Check>, bool) {
    let sources = args.serve.sources();
    let (config, first) = match sources.load() {
        Ok(config) => {
            let source = args.serve.config.as_ref().map(|path| path.display().to_string());
            let found = source.unwrap_or_else(|| "the defaults, with what flags say".to_owned());
            let check = Check { name: "configuration", verdict: Verdict::Ok, found, remedy: String::new() };
            (config, check)
        }
        Err(error) => {
            let remedy = "correct it; the rest was checked with the defaults".to_owned();
            let found = error.to_string();
            let check = Check { name: "configuration", verdict: Verdict::Fail, found, remedy };
            (Config::default(), check)
        }
    };
    let mut checks = vec![first];
    checks.extend(examine(&config));
    let healthy = checks.iter().all(|check| check.verdict != Verdict::Fail);
    (checks, healthy)
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Ok => "ok",
        Verdict::Warn => "warn",
        Verdict::Fail => "FAIL",
    }
}

fn table(checks: &[Check], healthy: bool) -> String {
    let width = checks.iter().map(|check| check.name.len()).max().unwrap_or_default();
    let indent = " ".repeat(width + 8);
    let mut out = String::new();
    for Check { name, verdict, found, remedy } in checks {
        let found = found.replace('\n', &format!("\n{indent}"));
        out.push_str(&format!("{:<4}  {name:<width$}  {found}\n", word(*verdict)));
        if !remedy.is_empty() {
            let remedy = remedy.replace('\n', &format!("\n{indent}"));
            out.push_str(&format!("{indent}to fix: {remedy}\n"));
        }
    }
    let verdict = if healthy { "A broker can run here." } else { "A broker cannot run here like this." };
    out.push_str(&format!("\n{verdict}\n"));
    out
}

fn json(checks: &[Check], healthy: bool) -> serde_json::Value {
    let checks: Vec<_> = checks
        .iter()
        .map(|Check { name, verdict, found, remedy }| {
            let verdict = word(*verdict).to_ascii_lowercase();
            serde_json::json!({ "name": name, "verdict": verdict, "found": found, "remedy": remedy })
        })
        .collect();
    serde_json::json!({ "healthy": healthy, "checks": checks })
}
