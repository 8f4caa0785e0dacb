//! Prints a configuration as a TOML file.

use std::fmt::Write as _;

use super::{Config, KEYS, LISTENER_KEYS, Value};

/// A file that sets every key to its value; keys without a value stand in comments.
pub fn toml(config: &Config) -> String {
    let mut out = String::new();
    let mut section = "";
    for key in KEYS {
        if key.section != section {
            if section.is_empty() {
                listeners(config, &mut out);
            }
            section = key.section;
            out.push_str(&format!("\n[{section}]\n"));
        }
        line(&mut out, key.name, &(key.get)(config), |value| key.kind.show(value));
    }
    out
}

fn listeners(config: &Config, out: &mut String) {
    for listener in &config.listeners.0 {
        out.push_str("\n[[listener]]\n");
        for key in LISTENER_KEYS {
            line(out, key.name, &(key.get)(listener), |value| key.kind.show(value));
        }
    }
}

fn line(out: &mut String, name: &str, value: &Value, show: impl Fn(&Value) -> String) {
    let written = match value {
        Value::Unset => writeln!(out, "# {name} is not set"),
        Value::Number(_) | Value::Text(_) | Value::Bool(_) => writeln!(out, "{name} = {}", show(value)),
    };
    written.expect("a String takes what is written to it");
}

/// A TOML basic string.
pub fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
