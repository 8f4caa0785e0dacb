//! Where a run's progress and reports go.

use std::fs::File;
use std::io::{BufWriter, Stderr};
use std::path::Path;

use ringmq_loadgen::Watcher;
use ringmq_loadgen::live::Live;
use ringmq_loadgen::measure::Sample;
use ringmq_loadgen::report::hdr::Log;
use ringmq_loadgen::report::{Interval, Report, csv, html};

use super::args::OutputArgs;

/// Shows progress, and writes what is written as it comes.
pub struct Output {
    live: Option<Live<Stderr>>,
    log: Option<Log<BufWriter<File>>>,
}

fn cannot_write(path: &Path, error: &std::io::Error) -> String {
    format!("cannot write {}: {error}", path.display())
}

impl Output {
    /// Opens what is written during the run, and looks whether the rest can be written before it is too late.
    pub fn open(args: &OutputArgs, live: Live<Stderr>) -> Result<Self, String> {
        for path in [&args.json, &args.html, &args.csv].into_iter().flatten() {
            File::create(path).map_err(|error| cannot_write(path, &error))?;
        }
        let log = args.hdr.as_ref().map(|path| {
            let file = File::create(path).map_err(|error| cannot_write(path, &error))?;
            Log::begin(BufWriter::new(file)).map_err(|error| cannot_write(path, &error))
        });
        Ok(Self { live: (!args.quiet).then_some(live), log: log.transpose()? })
    }

    /// Takes progress off the screen.
    pub fn finish(&mut self) {
        if let Some(live) = &mut self.live {
            live.finish();
        }
    }

    /// Writes the reports.
    pub fn write(self, args: &OutputArgs, report: &Report) -> Result<(), String> {
        let write = |path: &Path, text: String| {
            std::fs::write(path, text).map_err(|error| cannot_write(path, &error))
        };
        if let Some(path) = &args.json {
            write(path, report.to_json())?;
        }
        if let Some(path) = &args.csv {
            write(path, csv::table(report))?;
        }
        if let Some(path) = &args.html {
            write(path, html::page(report))?;
        }
        if let (Some(log), Some(path)) = (self.log, &args.hdr) {
            log.finish().map_err(|error| cannot_write(path, &error))?;
        }
        Ok(())
    }
}

impl Watcher for Output {
    fn begins(&mut self, phase: &str) {
        if let Some(live) = &mut self.live {
            live.begins(phase);
        }
    }

    fn interval(&mut self, phase: &str, interval: &Interval, sample: &Sample) {
        if let Some(live) = &mut self.live {
            live.interval(phase, interval, sample);
        }
        if let Some(log) = &mut self.log {
            log.interval(phase, interval, sample);
        }
    }

    fn says(&mut self, line: &str) {
        match &mut self.live {
            Some(live) => live.says(line),
            None => eprintln!("{line}"),
        }
    }
}
