//! Where a configuration is read from: defaults, then a file, then flags.

use std::collections::HashMap;
use std::path::PathBuf;

use super::{Config, ConfigError, KEYS, Key, Kind, LISTENER_KEYS, ListenerConfig, Place, Problem, Value};
use super::{check, file};
use crate::Error;

/// A flag of the command line, and what was given to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlagValue {
    /// The flag with its dashes, as its key names it.
    pub flag: &'static str,
    /// What was given; `true` for a flag without a value.
    pub value: String,
}

/// What a configuration is made from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// A TOML file.
    pub file: Option<PathBuf>,
    /// Flags, which win over the file.
    pub flags: Vec<FlagValue>,
}

impl Sources {
    /// Reads and checks everything. Reports all problems at once where it can.
    pub fn load(&self) -> Result<Config, Error> {
        let Some(path) = &self.file else {
            return Ok(self.read("", "")?);
        };
        let text = std::fs::read_to_string(path)
            .map_err(|source| Error::ConfigFile { path: path.clone(), source })?;
        Ok(self.read(&path.to_string_lossy(), &text)?)
    }

    /// Reads and checks a file's text, and the flags.
    pub fn read(&self, file: &str, text: &str) -> Result<Config, ConfigError> {
        let mut draft = Draft::default();
        file::read(file, text, &mut draft);
        for flag in &self.flags {
            draft.flag(flag);
        }
        draft.finish()
    }
}

/// Where each key of a configuration was set, by its path.
#[derive(Debug, Default)]
pub(super) struct Origins(HashMap<String, Place>);

impl Origins {
    /// Where the key was set.
    pub fn of(&self, path: &str) -> Place {
        self.0.get(path).cloned().unwrap_or(Place::Program)
    }

    /// Whether the key was set at all.
    pub fn is_set(&self, path: &str) -> bool {
        self.0.contains_key(path)
    }
}

/// A configuration while it is read.
#[derive(Debug, Default)]
pub(super) struct Draft {
    config: Config,
    origins: Origins,
    problems: Vec<Problem>,
    file_listeners: Vec<ListenerConfig>,
    flag_listeners: Vec<ListenerConfig>,
    /// What flags say of the TLS of their listeners.
    flag_tls: Vec<(&'static str, Value)>,
    all_anonymous: bool,
}

/// A value as it was written.
pub(super) struct Written<'a> {
    pub raw: Raw<'a>,
    /// The source, for messages.
    pub shown: &'a str,
    pub place: Place,
}

pub(super) enum Raw<'a> {
    /// A text, to be read as the key wants it.
    Text(&'a str),
    /// A number or an answer.
    Value(Value),
    /// Something that no key takes.
    Unfit,
}

impl Written<'_> {
    fn accepted_by(&self, kind: &Kind) -> Option<Value> {
        match &self.raw {
            Raw::Text(text) => kind.parse(text),
            Raw::Value(value) => kind.accepts(value).then(|| value.clone()),
            Raw::Unfit => None,
        }
    }
}

impl Draft {
    /// Notes a problem.
    pub fn problem(&mut self, place: Place, text: String) {
        self.problems.push(Problem { place, text });
    }

    /// Sets a key outside listeners.
    pub fn set(&mut self, key: &Key<Config>, written: &Written<'_>) {
        let Some(value) = written.accepted_by(&key.kind) else {
            return self.refuse(&key.path(), &key.kind, written);
        };
        (key.set)(&mut self.config, value);
        self.origins.0.insert(key.path(), written.place.clone());
    }

    /// Begins a `[[listener]]`.
    pub fn begin_listener(&mut self) {
        self.file_listeners.push(ListenerConfig::default());
    }

    /// Sets a key of the listener that was begun last.
    pub fn set_in_listener(&mut self, key: &Key<ListenerConfig>, written: &Written<'_>) {
        let Some(value) = written.accepted_by(&key.kind) else {
            return self.refuse(&key.path(), &key.kind, written);
        };
        let path = listener_path(self.file_listeners.len() - 1, key.name);
        let listener = self.file_listeners.last_mut().expect("a listener was begun");
        (key.set)(listener, value);
        self.origins.0.insert(path, written.place.clone());
    }

    fn refuse(&mut self, path: &str, kind: &Kind, written: &Written<'_>) {
        let remedy = match &written.raw {
            Raw::Text(text) => kind.remedy(text),
            Raw::Value(_) | Raw::Unfit => format!("write {}", kind.expects()),
        };
        let shown = short(written.shown);
        let subject = match written.place {
            Place::Flag(_) => shown,
            Place::File { .. } | Place::Program => format!("{path} = {shown}"),
        };
        self.problem(written.place.clone(), format!("{subject} is not accepted: {remedy}"));
    }

    fn flag(&mut self, given: &FlagValue) {
        let place = Place::Flag(given.flag);
        let written = Written { raw: Raw::Text(&given.value), shown: &given.value, place };
        if let Some(key) = KEYS.iter().find(|key| key.flag == Some(given.flag)) {
            return self.set(key, &written);
        }
        let key = listener_key(given.flag);
        match written.accepted_by(&key.kind) {
            None => self.refuse("", &key.kind, &written),
            Some(Value::Bool(answer)) => self.all_anonymous = answer,
            Some(value) if key.name == "address" => {
                let mut listener = ListenerConfig::default();
                (key.set)(&mut listener, value);
                self.flag_listeners.push(listener);
            }
            Some(value) => self.flag_tls.push((given.flag, value)),
        }
    }

    /// Gives what flags say of TLS to those of their listeners that have it.
    fn apply_flag_tls(&mut self) {
        for (flag, value) in std::mem::take(&mut self.flag_tls) {
            let key = listener_key(flag);
            let mut is_used = false;
            for (at, listener) in self.flag_listeners.iter_mut().enumerate() {
                if listener.address.wrapping().has_tls() {
                    is_used = true;
                    (key.set)(listener, value.clone());
                    self.origins.0.insert(listener_path(at, key.name), Place::Flag(flag));
                }
            }
            if !is_used {
                let text = "no listener of the command line has TLS: give --listen tls://127.0.0.1:8883 too, or \
                            leave it out";
                self.problem(Place::Flag(flag), text.to_owned());
            }
        }
    }

    fn finish(mut self) -> Result<Config, ConfigError> {
        for at in 0..self.flag_listeners.len() {
            self.origins.0.insert(listener_path(at, "address"), Place::Flag("--listen"));
            for key in LISTENER_KEYS.iter().filter(|key| key.name != "address") {
                self.origins.0.remove(&listener_path(at, key.name));
            }
        }
        self.apply_flag_tls();
        if !self.flag_listeners.is_empty() {
            self.config.listeners.0 = self.flag_listeners;
        } else if !self.file_listeners.is_empty() {
            self.config.listeners.0 = self.file_listeners;
        }
        if self.all_anonymous {
            for listener in &mut self.config.listeners.0 {
                listener.allow_anonymous = Some(true);
            }
        }
        // A key that was refused is at its default, which no combination should be blamed on.
        if self.problems.is_empty() {
            self.problems = check::problems(&self.config, &self.origins);
        }
        ConfigError::check(self.problems)?;
        Ok(self.config)
    }
}

/// The key of listeners that a flag sets.
fn listener_key(flag: &str) -> &'static Key<ListenerConfig> {
    let key = LISTENER_KEYS.iter().find(|key| key.flag == Some(flag));
    key.unwrap_or_else(|| panic!("no key has the flag {flag}"))
}

/// The path of a listener's key, for [`Origins`].
pub(super) fn listener_path(at: usize, name: &str) -> String {
    format!("listener[{at}].{name}")
}

/// The beginning of what was written, in one line.
fn short(shown: &str) -> String {
    const SHOWN_CHARS_MAX: usize = 40;
    let line = shown.lines().next().unwrap_or_default();
    if line.chars().count() <= SHOWN_CHARS_MAX && line.len() == shown.len() {
        return line.to_owned();
    }
    let start: String = line.chars().take(SHOWN_CHARS_MAX).collect();
    format!("{start}...")
}
