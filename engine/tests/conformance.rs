//! Which test shows which statement of the specifications, as a table in `docs/conformance.md`.
//!
//! A test names what it shows in its comments or in its tables, as `[MQTT-3.1.2-4]` for MQTT 5 and
//! `[MQTT311-3.1.2-4]` for 3.1.1. Here the sources of all tests are read, and the table compared with
//! what they say. `UPDATE_DOCS=1 cargo test -p ringmq-engine --test conformance` writes it anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

/// Whom a statement binds.
#[derive(Debug, PartialEq, Eq)]
enum Binds<'a> {
    Server,
    Client,
    /// A server of another kind, for this reason.
    Others(&'a str),
}

/// The statements in the order of their numbers.
fn statements(list: &str) -> Vec<(&str, Binds<'_>)> {
    let lines = list.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| match line.split_once(' ') {
            None => (line, Binds::Server),
            Some((id, "client")) => (id, Binds::Client),
            Some((id, why)) => (id, Binds::Others(why.strip_prefix("- ").expect("a reason after -"))),
        })
        .collect()
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace").into()
}

/// All Rust sources below a directory, in order.
fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = fs::read_dir(directory)
        .expect("a directory of the workspace is read")
        .map(|entry| entry.expect("its entries are, too").path())
        .collect();
    entries.sort();
    for path in entries {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if path.is_dir() && !name.starts_with('.') && name != "target" {
            sources(&path, found);
        } else if name.ends_with(".rs") {
            found.push(path);
        }
    }
}

/// The numbers in brackets in a line.
fn mentions(line: &str) -> impl Iterator<Item = &str> {
    line.split('[').skip(1).filter_map(|rest| {
        let id = rest.split_once(']')?.0;
        id.starts_with("MQTT").then_some(id)
    })
}

/// The tests of a file with the statements that they name: before them in comments, or inside.
fn tests(text: &str) -> Vec<(String, BTreeSet<&str>)> {
    let mut tests: Vec<(String, BTreeSet<&str>)> = Vec::new();
    let mut ahead = BTreeSet::new();
    let (mut is_test, mut inside) = (false, false);
    for line in text.lines().map(str::trim) {
        if line == "#[test]" {
            is_test = true;
        } else if let Some(rest) = line.strip_prefix("fn ") {
            inside = is_test;
            if is_test {
                let name = rest.split(['(', '<']).next().unwrap_or(rest);
                tests.push((name.into(), std::mem::take(&mut ahead)));
            }
            ahead.clear();
            is_test = false;
        } else if line.starts_with("///") || line.starts_with("//!") {
            ahead.extend(mentions(line));
        } else if !line.starts_with("#[") {
            if !is_test {
                ahead.clear();
            }
            if let Some((_, named)) = tests.last_mut().filter(|_| inside) {
                named.extend(mentions(line));
            }
        }
    }
    tests
}

/// The tests that name each statement, as `file::test`.
fn coverage(root: &Path) -> BTreeMap<String, Vec<String>> {
    let mut files = Vec::new();
    sources(root, &mut files);
    let mut coverage: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for file in files.iter().filter(|file| !file.ends_with("tests/conformance.rs")) {
        let text = fs::read_to_string(file).expect("a source is read");
        let path = file.strip_prefix(root).expect("it lies in the workspace").display().to_string();
        for (test, named) in tests(&text) {
            for id in named {
                coverage.entry(id.into()).or_default().push(format!("{path}::{test}"));
            }
        }
    }
    coverage
}

fn table(heading: &str, prefix: &str, coverage: &BTreeMap<String, Vec<String>>) -> String {
    let statements = statements(include_str!("statements.txt"));
    let (mut rows, mut missing, mut others) = (String::new(), Vec::new(), String::new());
    let (mut shown, mut total) = (0, 0);
    for (id, binds) in statements.iter().filter(|(id, _)| id.starts_with(prefix)) {
        let number = id.strip_prefix(prefix).unwrap_or(id);
        // What the client's tests name is shown of a client, not of the broker.
        let shows = |test: &&String| *binds == Binds::Client || !test.starts_with("client/");
        let tests: Vec<_> = coverage.get(*id).into_iter().flatten().filter(shows).cloned().collect();
        match (Some(tests).filter(|tests| !tests.is_empty()), binds) {
            (Some(tests), _) => {
                total += usize::from(*binds != Binds::Client);
                shown += usize::from(*binds != Binds::Client);
                writeln!(rows, "| {number} | {} |", tests.join("<br>")).expect("a String takes all");
            }
            (None, Binds::Server) => {
                total += 1;
                missing.push(number);
            }
            (None, Binds::Others(why)) => {
                writeln!(others, "- {number}: {why}").expect("a String takes all");
            }
            (None, Binds::Client) => {}
        }
    }
    let mut text =
        format!("## {heading}\n\n{shown} of {total} statements that bind this broker have a test.\n");
    if !missing.is_empty() {
        write!(text, "\nWithout one yet: {}.\n", missing.join(", ")).expect("a String takes all");
    }
    if !others.is_empty() {
        write!(text, "\nThese ask nothing of this broker:\n\n{others}").expect("a String takes all");
    }
    text + "\n| statement | tests |\n|---|---|\n" + &rows
}

fn document(coverage: &BTreeMap<String, Vec<String>>) -> String {
    let about = "# The specifications' statements, and the tests that show them

Written by `UPDATE_DOCS=1 cargo test -p ringmq-engine --test conformance` from what the tests say of
themselves. The numbers are those of the normative statements, MQTT-x.y.z-n, of each specification.";
    let v5 = table("MQTT 5", "MQTT-", coverage);
    let v311 = table("MQTT 3.1.1", "MQTT311-", coverage);
    format!("{about}\n\n{v5}\n{v311}")
}

#[test]
fn the_table_of_statements_is_up_to_date() {
    let root = workspace();
    let document = document(&coverage(&root));
    let path = root.join("docs/conformance.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &document).expect("the table is written");
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    let differs = document.lines().zip(written.lines()).find(|(now, before)| now != before);
    assert!(
        document == written,
        "docs/conformance.md is not what the tests say, first in {differs:?}\n\
         UPDATE_DOCS=1 cargo test -p ringmq-engine --test conformance writes it anew"
    );
}

#[test]
fn every_number_that_a_test_names_exists() {
    let known: BTreeSet<_> =
        statements(include_str!("statements.txt")).into_iter().map(|(id, _)| id).collect();
    for (id, tests) in coverage(&workspace()) {
        assert!(known.contains(id.as_str()), "there is no {id}, which these name: {tests:?}");
    }
}

#[test]
fn statements_are_read_off_tests() {
    let text = "
        /// [MQTT-1.1.1-1]: of no test.
        fn helper() { \"[MQTT-1.1.1-2]\" }

        /// [MQTT-1.1.1-3], [MQTT311-1.1.1-4] and more.
        #[test]
        fn shown() {
            // [MQTT-1.1.1-5]
            call(\"[MQTT-1.1.1-6]\");
        }

        /// Nothing [here].
        #[test]
        fn other() {}";
    let found = tests(text);
    let shown: Vec<_> = found[0].1.iter().copied().collect();
    assert_eq!(shown, ["MQTT-1.1.1-3", "MQTT-1.1.1-5", "MQTT-1.1.1-6", "MQTT311-1.1.1-4"]);
    assert_eq!(found[1], ("other".into(), BTreeSet::new()));
    assert_eq!(found.len(), 2);
}
