//! Reads a TOML file into a draft of the configuration.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::source::{Draft, Raw, Written};
use super::suggest::nearest;
use super::{KEYS, LISTENER_KEYS, Place, Value};

/// A file's name and text, to say where things are.
struct File<'a> {
    name: &'a str,
    text: &'a str,
}

impl<'a> File<'a> {
    fn place(&self, span: &Range<usize>) -> Place {
        let before = &self.text[..self.text.floor_char_boundary(span.start.min(self.text.len()))];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Place::File {
            file: self.name.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }

    fn written(&self, value: &'a Spanned<DeValue<'_>>) -> Written<'a> {
        let shown = &self.text[value.span()];
        let place = self.place(&value.span());
        let raw = match value.get_ref() {
            DeValue::String(text) => Raw::Text(text),
            DeValue::Integer(number) => match u64::from_str_radix(number.as_str(), number.radix()) {
                Ok(number) => Raw::Value(Value::Number(number)),
                Err(_) => Raw::Unfit,
            },
            DeValue::Boolean(answer) => Raw::Value(Value::Bool(*answer)),
            DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => Raw::Unfit,
        };
        Written { raw, shown, place }
    }
}

/// Reads the file's text. Every problem is noted in the draft, with its place.
pub fn read(name: &str, text: &str, draft: &mut Draft) {
    let file = File { name, text };
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let place = file.place(&error.span().unwrap_or(0..0));
        draft.problem(place, format!("not TOML: {}", error.message()));
    }
    // What was made up to recover from a broken line is not worth a second message.
    if !errors.is_empty() {
        return;
    }
    for (key, value) in document.get_ref() {
        let name = key.get_ref().as_ref();
        if name == "listener" {
            listeners(&file, value, draft);
        } else if KEYS.iter().any(|key| !key.section.is_empty() && key.section == name) {
            section(&file, name, value, draft);
        } else if let Some(key) = KEYS.iter().find(|key| key.section.is_empty() && key.name == name) {
            draft.set(key, &file.written(value));
        } else {
            draft.problem(file.place(&key.span()), unknown_at_top(name));
        }
    }
}

fn section(file: &File<'_>, section: &str, value: &Spanned<DeValue<'_>>, draft: &mut Draft) {
    let Some(table) = value.get_ref().as_table() else {
        let text = format!("{section} is a table: write [{section}] on a line of its own, its keys below it");
        return draft.problem(file.place(&value.span()), text);
    };
    for (key, value) in table {
        let name = key.get_ref().as_ref();
        match KEYS.iter().find(|key| key.section == section && key.name == name) {
            Some(key) => draft.set(key, &file.written(value)),
            None => draft.problem(file.place(&key.span()), unknown_in(section, name)),
        }
    }
}

fn listeners(file: &File<'_>, value: &Spanned<DeValue<'_>>, draft: &mut Draft) {
    let items = value.get_ref().as_array();
    let tables: Option<Vec<_>> = items
        .map(|items| items.iter().map(|item| Some((item.span(), item.get_ref().as_table()?))).collect())
        .unwrap_or_default();
    let Some(tables) = tables else {
        let text = "listeners are a list of tables: write [[listener]], with two brackets, once for each";
        return draft.problem(file.place(&value.span()), text.to_owned());
    };
    for (span, table) in tables {
        draft.begin_listener();
        for (key, value) in table {
            let name = key.get_ref().as_ref();
            match LISTENER_KEYS.iter().find(|key| key.name == name) {
                Some(key) => draft.set_in_listener(key, &file.written(value)),
                None => draft.problem(file.place(&key.span()), unknown_in("listener", name)),
            }
        }
        if !table.keys().any(|key| key.get_ref() == "address") {
            let text = "a listener needs an address: write address = \"127.0.0.1:1883\"";
            draft.problem(file.place(&span), text.to_owned());
        }
    }
}

/// What to say of a name at the top of the file that is no key.
fn unknown_at_top(name: &str) -> String {
    let at_home = KEYS.iter().find(|key| key.name == name).map(|key| (key.section, key.name));
    let in_listener = LISTENER_KEYS.iter().find(|key| key.name == name);
    if let Some((section, name)) = at_home {
        return format!("unknown key {name} at the top of the file: it belongs below [{section}]");
    }
    if in_listener.is_some() {
        return format!("unknown key {name} at the top of the file: it belongs below [[listener]]");
    }
    let mut known: Vec<&str> = vec!["listener"];
    for key in KEYS {
        let name = if key.section.is_empty() { key.name } else { key.section };
        if !known.contains(&name) {
            known.push(name);
        }
    }
    match nearest(name, known.iter().copied()) {
        Some(meant) => format!("unknown key {name}: did you mean {meant}?"),
        None => format!("unknown key {name}: the top of the file has {}", known.join(", ")),
    }
}

/// What to say of a name in a table that is no key of it.
fn unknown_in(section: &str, name: &str) -> String {
    let listener = LISTENER_KEYS.iter().map(|key| (key.section, key.name));
    let all = || KEYS.iter().map(|key| (key.section, key.name)).chain(listener.clone());
    let here: Vec<&str> = all().filter(|(home, _)| *home == section).map(|(_, name)| name).collect();
    let table = if section == "listener" { "[[listener]]".to_owned() } else { format!("[{section}]") };
    if let Some(meant) = nearest(name, here.iter().copied()) {
        return format!("unknown key {name} in {table}: did you mean {meant}?");
    }
    match all().find(|(_, other)| *other == name) {
        Some(("", _)) => format!("unknown key {name} in {table}: it belongs at the top of the file"),
        Some(("listener", _)) => format!("unknown key {name} in {table}: it belongs below [[listener]]"),
        Some((home, _)) => format!("unknown key {name} in {table}: it belongs below [{home}]"),
        None => format!("unknown key {name} in {table}: it has {}", here.join(", ")),
    }
}
