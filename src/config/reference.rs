//! Writes `docs/configuration.md` from the table of keys.

use super::{Config, KEYS, Key, Kind, LISTENER_KEYS, ListenerConfig, Value};

const INTRODUCTION: &str = "\
# Configuration

<!-- Generated from the table of keys in src/config/keys.rs by `ringmq config-reference`. -->

`ringmq --config FILE` reads one TOML file. Every key has a default, so that an empty file is a valid
one. A flag, where a key has one, wins over the file. Unknown keys, values out of range and combinations
that could not work are refused, all at once, each with its file, line, column and what to write instead;
`ringmq check FILE` does that without starting anything, and prints the configuration in effect.

Sizes are numbers of bytes, or texts such as `\"64MiB\"` (`B`, `kB`, `KiB`, `MB`, `MiB`, `GB`, `GiB`, `TB`,
`TiB`). Times are numbers of the unit in the key's name, or texts such as `\"10s\"` (`us`, `ms`, `s`, `m`, `h`,
`d`).

Limits that hold \"for the whole broker\" are divided evenly among its shards, rounded up. A shard that has
used up its part refuses more, even while others have room.

```toml
# All CPUs, two ports and a socket, sessions that survive a restart, and room for one million messages for a client
# that is away.
shards = \"auto\"
data_dir = \"/var/lib/ringmq\"

[[listener]]
address = \"127.0.0.1:1883\"

[[listener]]
address = \"[::]:1884\"
allow_anonymous = true      # whoever reaches the port is let in

[[listener]]
address = \"unix:/run/ringmq.sock\"
unix_mode = \"0660\"

[limits]
memory_bytes_max = \"2GiB\"
queue_messages_max = 1_000_000
overflow = \"drop_oldest\"
```
";

/// The reference of all keys, in Markdown.
pub fn reference() -> String {
    let mut out = INTRODUCTION.to_owned();
    let defaults = Config::default();
    let mut section = None;
    for key in KEYS {
        if section != Some(key.section) {
            if section == Some("") {
                listeners(&mut out);
            }
            section = Some(key.section);
            out.push_str(&heading(key.section));
        }
        out.push_str(&entry(key, &(key.get)(&defaults)));
    }
    out
}

fn listeners(out: &mut String) {
    out.push_str(
        "\n## `[[listener]]`\n\nOnce for each address. Without any, the broker listens on 127.0.0.1:1883. \
         `--listen`, which may be\nrepeated, replaces all listeners of the file; `--allow-anonymous` counts \
         for every listener.\n[operations.md](operations.md) shows TLS, WebSocket and Unix sockets at work.\n",
    );
    for key in LISTENER_KEYS {
        out.push_str(&entry(key, &(key.get)(&ListenerConfig::default())));
    }
}

fn heading(section: &str) -> String {
    if section.is_empty() { "\n## Top of the file\n".to_owned() } else { format!("\n## `[{section}]`\n") }
}

fn entry<T>(key: &Key<T>, default: &Value) -> String {
    let default = match default {
        Value::Unset => "not set".to_owned(),
        Value::Number(_) | Value::Text(_) | Value::Bool(_) => format!("`{}`", key.kind.show(default)),
    };
    let flag = key.flag.map(|flag| format!("; flag: `{flag}`")).unwrap_or_default();
    let kind = accepted(&key.kind);
    format!("\n### `{}`\n\n{}\n\n{kind}; default: {default}{flag}\n", key.name, wrap(key.doc))
}

fn accepted(kind: &Kind) -> String {
    match kind {
        Kind::Number { unit, min, max, word } => {
            let word = word.map(|(word, _)| format!(", or `\"{word}\"`")).unwrap_or_default();
            let (min, max) = (unit.show(*min), unit.show(*max));
            let name = unit.name();
            let name = name.strip_prefix("a ").unwrap_or(name);
            format!("Type: {name}, {min} to {max}{word}")
        }
        Kind::PowerOfTwo { max } => format!("Type: a power of two, up to {max}"),
        Kind::Cpus => "Type: CPUs, such as `\"0-3,6\"`".to_owned(),
        Kind::Choice(words) => {
            let words: Vec<String> = words.iter().map(|word| format!("`\"{word}\"`")).collect();
            format!("Type: one of {}", words.join(", "))
        }
        Kind::Levels => "Type: a level, or levels by module".to_owned(),
        Kind::Address => "Type: an address, as above".to_owned(),
        Kind::Path => "Type: a path".to_owned(),
        Kind::Mode => "Type: permissions in octal, such as `\"0660\"`".to_owned(),
        Kind::Filters => "Type: topic filters, separated by commas".to_owned(),
        Kind::Bool => "Type: `true` or `false`".to_owned(),
    }
}

/// Breaks a text into lines of at most 100 characters.
fn wrap(text: &str) -> String {
    const LINE_CHARS_MAX: usize = 100;
    let mut out = String::new();
    let mut used = 0;
    for word in text.split_whitespace() {
        if used > 0 && used + 1 + word.len() > LINE_CHARS_MAX {
            out.push('\n');
            used = 0;
        } else if used > 0 {
            out.push(' ');
            used += 1;
        }
        out.push_str(word);
        used += word.len();
    }
    out
}
