//! Names that differ from client to client and from message to message.

use std::fmt;

/// Text with places to fill in: `site/{i}/sensor/{k%100}`.
///
/// - `{i}` is the client's number in its group, from 0.
/// - `{k}` is the filter's number over all clients of the group, or of the topic that a message goes to.
/// - `{run}` is a word that differs from run to run, `{group}` the group's name.
///
/// A number may be divided and reduced, from left to right: `{k/100%10}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Number(Variable, Vec<Step>),
    Word(Word),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Variable {
    Client,
    Topic,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    Run,
    Group,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Divide(u64),
    Reduce(u64),
}

/// What a pattern is filled in with.
#[derive(Clone, Copy, Debug, Default)]
pub struct Values<'a> {
    /// `{i}`
    pub client: u64,
    /// `{k}`
    pub topic: u64,
    /// `{run}`
    pub run: &'a str,
    /// `{group}`
    pub group: &'a str,
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// What is wrong with it, and what to write instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(open) = rest.find(['{', '}']) {
            if rest.as_bytes()[open] == b'}' {
                return Err(format!("the pattern {text:?} has a `}}` without a `{{` before it"));
            }
            if open > 0 {
                parts.push(Part::Text(rest[..open].to_owned()));
            }
            let inside = &rest[open + 1..];
            let Some(close) = inside.find('}') else {
                return Err(format!("the pattern {text:?} has a `{{` that no `}}` closes"));
            };
            parts.push(part(&inside[..close])?);
            rest = &inside[close + 1..];
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self { text: text.to_owned(), parts })
    }

    /// Whether messages of one client go to different topics.
    pub fn has_topic(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Number(Variable::Topic, _)))
    }

    /// Whether it differs from client to client.
    pub fn has_client(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Number(Variable::Client, _)))
    }

    /// Appends the text for these values.
    pub fn write(&self, values: &Values<'_>, out: &mut Vec<u8>) {
        for part in &self.parts {
            match part {
                Part::Text(text) => out.extend_from_slice(text.as_bytes()),
                Part::Word(Word::Run) => out.extend_from_slice(values.run.as_bytes()),
                Part::Word(Word::Group) => out.extend_from_slice(values.group.as_bytes()),
                Part::Number(variable, steps) => {
                    let mut value = match variable {
                        Variable::Client => values.client,
                        Variable::Topic => values.topic,
                    };
                    for step in steps {
                        match step {
                            Step::Divide(by) => value /= by,
                            Step::Reduce(by) => value %= by,
                        }
                    }
                    write_number(value, out);
                }
            }
        }
    }

    /// The text for these values.
    pub fn fill(&self, values: &Values<'_>) -> String {
        let mut out = Vec::new();
        self.write(values, &mut out);
        String::from_utf8(out).expect("text and digits are UTF-8")
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn write_number(mut value: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            return out.extend_from_slice(&digits[at..]);
        }
    }
}

fn part(inside: &str) -> Result<Part, String> {
    let name_end = inside.find(['/', '%']).unwrap_or(inside.len());
    let (name, mut rest) = inside.split_at(name_end);
    let variable = match name {
        "i" => Variable::Client,
        "k" => Variable::Topic,
        "run" if rest.is_empty() => return Ok(Part::Word(Word::Run)),
        "group" if rest.is_empty() => return Ok(Part::Word(Word::Group)),
        _ => {
            return Err(format!(
                "`{{{inside}}}` is not known in a pattern: write {{i}} for the client's number, {{k}} for the \
                 topic's, {{run}} or {{group}}; {{i/10%4}} divides and reduces a number"
            ));
        }
    };
    let mut steps = Vec::new();
    while !rest.is_empty() {
        let (operator, after) = rest.split_at(1);
        let end = after.find(['/', '%']).unwrap_or(after.len());
        let by = after[..end].parse().ok().filter(|by| *by > 0);
        let by: u64 = by.ok_or_else(|| {
            format!(
                "`{{{inside}}}` needs a number from 1 up after `{operator}`, as in {{{name}{operator}10}}"
            )
        })?;
        steps.push(if operator == "/" { Step::Divide(by) } else { Step::Reduce(by) });
        rest = &after[end..];
    }
    Ok(Part::Number(variable, steps))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_filled_in() {
        let table = [
            ("a/b", "a/b"),
            ("{i}", "17"),
            ("a/{i}/b", "a/17/b"),
            ("{i%10}{i/10}", "71"),
            ("{k/100%10}/{k%100}", "3/45"),
            ("{run}-{group}-{i}", "ab12-pubs-17"),
        ];
        let values = Values { client: 17, topic: 12_345, run: "ab12", group: "pubs" };
        for (pattern, expected) in table {
            assert_eq!(Pattern::parse(pattern).unwrap().fill(&values), expected, "{pattern}");
        }
        let zero = Values { client: 0, topic: u64::MAX, ..values };
        assert_eq!(Pattern::parse("{i}/{k}").unwrap().fill(&zero), format!("0/{}", u64::MAX));
    }

    #[test]
    fn mistakes_are_answered_with_the_fix() {
        let table = [
            ("a/{x}", "{i} for the client's number"),
            ("a/{i", "no `}` closes"),
            ("a}", "without a `{`"),
            ("{i%0}", "a number from 1 up after `%`"),
            ("{i/}", "a number from 1 up after `/`"),
            ("{run%2}", "is not known"),
        ];
        for (pattern, expected) in table {
            let error = Pattern::parse(pattern).unwrap_err();
            assert!(error.contains(expected), "{pattern}: {error}");
        }
    }

    #[test]
    fn a_pattern_knows_what_it_depends_on() {
        let depends = |text: &str| {
            let pattern = Pattern::parse(text).unwrap();
            (pattern.has_client(), pattern.has_topic())
        };
        assert_eq!(depends("a/{run}"), (false, false));
        assert_eq!(depends("{i}/{k}"), (true, true));
    }
}
