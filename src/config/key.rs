//! What a key of the configuration is.

use super::address::{self, ListenAddress};
use super::{Unit, cpus};

/// One key: its name, what may be written to it, and where its value lives in a `T`.
pub struct Key<T: 'static> {
    /// The table that it stands in; empty for the top of the file.
    pub section: &'static str,
    /// Its name there.
    pub name: &'static str,
    /// What may be written.
    pub kind: Kind,
    /// The flag that sets it, with its dashes.
    pub flag: Option<&'static str>,
    /// What it does, in Markdown.
    pub doc: &'static str,
    /// Reads its value.
    pub get: fn(&T) -> Value,
    /// Sets its value, which its kind has accepted.
    pub set: fn(&mut T, Value),
}

impl<T> Key<T> {
    /// Its name with its section: `limits.receive_maximum`.
    pub fn path(&self) -> String {
        if self.section.is_empty() { self.name.to_owned() } else { format!("{}.{}", self.section, self.name) }
    }
}

/// A value, as keys of all kinds exchange it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A number, in its key's unit.
    Number(u64),
    /// A text.
    Text(String),
    /// Yes or no.
    Bool(bool),
    /// Not set; nothing that is written stands for it.
    Unset,
}

impl Value {
    /// The number, of a key whose kind is a number.
    pub(super) fn number(&self) -> u64 {
        match self {
            Self::Number(number) => *number,
            Self::Text(_) | Self::Bool(_) | Self::Unset => {
                unreachable!("the key's kind accepts numbers only")
            }
        }
    }

    /// The text, of a key whose kind is a text.
    pub(super) fn text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Number(_) | Self::Bool(_) | Self::Unset => {
                unreachable!("the key's kind accepts texts only")
            }
        }
    }

    /// The answer, of a key whose kind is yes or no.
    pub(super) fn bool(&self) -> bool {
        match self {
            Self::Bool(bool) => *bool,
            Self::Number(_) | Self::Text(_) | Self::Unset => {
                unreachable!("the key's kind accepts booleans only")
            }
        }
    }
}

/// What may be written to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A number of `unit` from `min` to `max`, or a word that stands for one number.
    Number {
        /// What it counts.
        unit: Unit,
        /// The least that is accepted.
        min: u64,
        /// The most that is accepted.
        max: u64,
        /// A word, and the number that it stands for (which may lie outside the range).
        word: Option<(&'static str, u64)>,
    },
    /// A power of two up to `max`.
    PowerOfTwo {
        /// The most that is accepted.
        max: u64,
    },
    /// A list of CPUs, such as `0-3,6`.
    Cpus,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A log level, or levels by module.
    Levels,
    /// Where to listen: a port or a Unix socket, and what MQTT is wrapped in there.
    Address,
    /// Topic filters, separated by commas.
    Filters,
    /// A path.
    Path,
    /// Permissions of a file, in octal digits.
    Mode,
    /// `true` or `false`.
    Bool,
}

/// What the log levels are called, quietest first.
pub const LEVELS: &[&str] = &["off", "error", "warn", "info", "debug", "trace"];

impl Kind {
    /// A number of things.
    pub const fn count(min: u64, max: u64) -> Self {
        Self::Number { unit: Unit::Count, min, max, word: None }
    }

    /// A number of `unit`.
    pub const fn number(unit: Unit, min: u64, max: u64) -> Self {
        Self::Number { unit, min, max, word: None }
    }

    /// Whether a program may set the value: what may be written, the number that a word stands for, or
    /// nothing.
    pub fn holds(&self, value: &Value) -> bool {
        match (self, value) {
            (_, Value::Unset) => true,
            (Self::Number { word: Some((_, stands_for)), .. }, Value::Number(number))
                if number == stands_for =>
            {
                true
            }
            (_, Value::Number(_) | Value::Text(_) | Value::Bool(_)) => self.accepts(value),
        }
    }

    /// Whether the value may be written, in a file or to a flag.
    pub fn accepts(&self, value: &Value) -> bool {
        match (self, value) {
            (Self::Number { min, max, .. }, Value::Number(number)) => (*min..=*max).contains(number),
            (Self::PowerOfTwo { max }, Value::Number(number)) => number.is_power_of_two() && number <= max,
            (Self::Cpus, Value::Text(text)) => cpus::parse(text).is_some(),
            (Self::Choice(words), Value::Text(text)) => words.contains(&text.as_str()),
            (Self::Levels, Value::Text(text)) => text.split(',').all(is_level),
            (Self::Address, Value::Text(text)) => ListenAddress::read(text).is_ok(),
            (Self::Filters, Value::Text(text)) => {
                text.split(',').all(|filter| ringmq_codec::check_filter(filter).is_ok())
            }
            (Self::Path, Value::Text(text)) => !text.is_empty() && !text.contains('\0'),
            (Self::Mode, Value::Text(text)) => mode(text).is_some(),
            (Self::Bool, Value::Bool(_)) => true,
            (_, Value::Number(_) | Value::Text(_) | Value::Bool(_) | Value::Unset) => false,
        }
    }

    /// Reads a text: a flag's value, or a string in a file. `None` when it is not accepted.
    pub fn parse(&self, text: &str) -> Option<Value> {
        let value = match self {
            Self::Number { word: Some((word, number)), .. } if text == *word => {
                return Some(Value::Number(*number));
            }
            Self::Number { unit, .. } => Value::Number(unit.parse(text)?),
            Self::PowerOfTwo { .. } => Value::Number(Unit::Count.parse(text)?),
            Self::Cpus
            | Self::Choice(_)
            | Self::Levels
            | Self::Address
            | Self::Filters
            | Self::Path
            | Self::Mode => Value::Text(text.to_owned()),
            Self::Bool => Value::Bool(text.parse().ok()?),
        };
        self.accepts(&value).then_some(value)
    }

    /// What to write, for messages: `a whole number from 1 to 65535`.
    pub fn expects(&self) -> String {
        match self {
            Self::Number { unit, min, max, word } => {
                let range = format!("{} from {} to {}", unit.name(), unit.show(*min), unit.show(*max));
                let example = unit.example().map(|example| format!(", such as \"{example}\""));
                let word = word.map(|(word, _)| format!(", or \"{word}\""));
                format!("{range}{}{}", example.unwrap_or_default(), word.unwrap_or_default())
            }
            Self::PowerOfTwo { max } => format!("a power of two up to {max}"),
            Self::Cpus => "CPUs such as \"0-3,6\", each once".to_owned(),
            Self::Choice(words) => format!("one of {}", quoted(words)),
            Self::Levels => {
                format!(
                    "one of {}, or levels by module, such as \"info,ringmq_shards=debug\"",
                    quoted(LEVELS)
                )
            }
            Self::Address => address::EXPECTS.to_owned(),
            Self::Filters => "topic filters separated by commas, such as \"private/#,test\"".to_owned(),
            Self::Path => "a path".to_owned(),
            Self::Mode => "permissions in octal, as a text, such as \"0660\"".to_owned(),
            Self::Bool => "true or false".to_owned(),
        }
    }

    /// What to do about a text that is not accepted, for messages.
    pub fn remedy(&self, text: &str) -> String {
        match (self, ListenAddress::read(text)) {
            (Self::Address, Err(remedy)) => remedy,
            (_, Ok(_) | Err(_)) => format!("write {}", self.expects()),
        }
    }

    /// Writes a value as TOML.
    pub fn show(&self, value: &Value) -> String {
        match (self, value) {
            (Self::Number { word: Some((word, stands_for)), .. }, Value::Number(number))
                if number == stands_for =>
            {
                format!("\"{word}\"")
            }
            (Self::Number { unit, .. }, Value::Number(number)) => {
                let shown = unit.show(*number);
                if shown.bytes().all(|b| b.is_ascii_digit()) { shown } else { format!("\"{shown}\"") }
            }
            (_, Value::Number(number)) => number.to_string(),
            (_, Value::Text(text)) => super::print::quote(text),
            (_, Value::Bool(bool)) => bool.to_string(),
            (_, Value::Unset) => "not set".to_owned(),
        }
    }
}

/// Reads permissions: `660`, `0660` or `0o660`.
pub(super) fn mode(text: &str) -> Option<u32> {
    const ALL: u32 = 0o777;
    let digits = text.strip_prefix("0o").unwrap_or(text);
    let is_octal = digits.bytes().all(|b| b.is_ascii_digit());
    u32::from_str_radix(digits, 8).ok().filter(|mode| is_octal && *mode <= ALL)
}

/// Whether one directive of a comma-separated list is `level` or `module=level`.
fn is_level(directive: &str) -> bool {
    let (module, level) = directive.rsplit_once('=').unwrap_or(("", directive));
    let module_is_good =
        module.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b':' || b == b'-');
    let is_bare = !directive.contains('=');
    LEVELS.contains(&level) && module_is_good && (is_bare || !module.is_empty())
}

fn quoted(words: &[&str]) -> String {
    words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ")
}
