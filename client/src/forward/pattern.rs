//! Topic filters that capture what their wildcards stand for, and templates that put it into other topics.

use std::fmt;

use ringmq_codec::{check_filter, check_name};

use crate::error::Error;

/// Most groups that a template may name, by number.
const GROUPS_MAX: usize = 256;

/// What a pattern captured of a topic.
#[derive(Debug)]
pub(crate) struct Captures<'t> {
    /// Group 0 is the whole topic; then one for each group of the pattern, absent where an optional one took no part.
    pub groups: Vec<Option<&'t str>>,
    /// What `#` stands for; none where it stands for nothing, not even an empty level.
    pub rest: Option<&'t str>,
}

/// A Topic Filter. `+` is captured as group 1, 2, ...; `#` as the rest.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Pattern {
    filter: Box<str>,
    groups: usize,
    has_rest: bool,
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.filter, f)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.filter)
    }
}

impl Pattern {
    pub fn new(filter: &str) -> Result<Self, Error> {
        let bad = |remedy: String| Error::Invalid { what: "the topic filter", given: filter.into(), remedy };
        let checked = check_filter(filter).map_err(|error| bad(error.to_string()))?;
        if checked.share.is_some() {
            return Err(bad("topics have no share name: leave $share and the name away here".into()));
        }
        let groups = filter.split('/').filter(|level| *level == "+").count();
        Ok(Self { filter: filter.into(), groups, has_rest: filter.ends_with('#') })
    }

    pub fn as_str(&self) -> &str {
        &self.filter
    }

    pub fn matches(&self, topic: &str) -> bool {
        ringmq_codec::matches(&self.filter, topic)
    }

    /// What the wildcards stand for in this topic, if it matches.
    pub fn captures<'t>(&self, topic: &'t str) -> Option<Captures<'t>> {
        if topic.starts_with('$') && self.filter.starts_with(['+', '#']) {
            return None;
        }
        let mut groups = Vec::with_capacity(1 + self.groups);
        groups.push(Some(topic));
        let mut left = Some(topic);
        for level in self.filter.split('/') {
            if level == "#" {
                return Some(Captures { groups, rest: left });
            }
            let (name, after) = match left?.split_once('/') {
                Some((name, after)) => (name, Some(after)),
                None => (left?, None),
            };
            if level == "+" {
                groups.push(Some(name));
            } else if level != name {
                return None;
            }
            left = after;
        }
        left.is_none().then_some(Captures { groups, rest: None })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(Box<str>),
    Group(usize),
    Rest,
}

/// A topic with places for what a pattern captured: `{1}`, `{2}`, ... for groups, `{0}` for the whole topic, `{#}` for
/// the rest; `{{` and `}}` are braces.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Template {
    text: Box<str>,
    pieces: Vec<Piece>,
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

impl Template {
    /// A template for what this pattern captures.
    pub fn of_pattern(text: &str, pattern: &Pattern) -> Result<Self, Error> {
        let have = format!("the filter {pattern} has {} +", pattern.groups);
        Self::parse(text, &have, |name| match name {
            "#" if pattern.has_rest => Ok(Piece::Rest),
            "#" => Err(format!("{{#}} stands for what # matches, and the filter {pattern} has none")),
            _ => match name.parse() {
                Ok(group) if group <= pattern.groups => Ok(Piece::Group(group)),
                Ok(_) | Err(_) => Err(format!("{{{name}}} names nothing: {have}")),
            },
        })
    }

    /// A template for what this regular expression captures, by number or by name.
    pub fn of_regex(text: &str, regex: &regex::Regex) -> Result<Self, Error> {
        let groups = regex.captures_len() - 1;
        let have = format!("the regular expression has {groups} groups");
        Self::parse(text, &have, |name| {
            let named = regex.capture_names().position(|known| known == Some(name));
            match named.or_else(|| name.parse().ok().filter(|group| *group <= groups)) {
                Some(group) => Ok(Piece::Group(group)),
                None => Err(format!("{{{name}}} names nothing: {have}")),
            }
        })
    }

    fn parse(text: &str, have: &str, piece: impl Fn(&str) -> Result<Piece, String>) -> Result<Self, Error> {
        let bad = |remedy: String| Error::Invalid { what: "the topic template", given: text.into(), remedy };
        let (mut pieces, mut plain) = (Vec::new(), String::new());
        let mut left = text;
        while let Some(at) = left.find(['{', '}']) {
            plain.push_str(&left[..at]);
            let brace = &left[at..=at];
            let after = &left[at + 1..];
            if let Some(after) = after.strip_prefix(brace) {
                plain.push_str(brace);
                left = after;
                continue;
            }
            let Some((name, after)) = after.split_once('}').filter(|_| brace == "{") else {
                return Err(bad(format!(
                    "its braces do not match: write {{1}} for what was captured, {{{{ or }}}} for a brace; {have}"
                )));
            };
            if !plain.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut plain).into()));
            }
            pieces.push(piece(name).map_err(&bad)?);
            left = after;
        }
        plain.push_str(left);
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain.into()));
        }
        if pieces.is_empty() {
            return Err(bad("a topic has at least one character".into()));
        }
        if pieces.len() > GROUPS_MAX {
            return Err(bad(format!("it has more than {GROUPS_MAX} parts")));
        }
        let is_wild = |piece: &Piece| matches!(piece, Piece::Text(text) if text.contains(['+', '#', '\0']));
        if pieces.iter().any(is_wild) {
            return Err(bad(format!("topics hold no + and no #: write {{1}} for what was captured; {have}")));
        }
        Ok(Self { text: text.into(), pieces })
    }

    /// The topic, which may turn out to be none.
    pub fn fill(&self, captures: &Captures<'_>) -> Result<String, BadTopic> {
        let mut topic = String::with_capacity(self.text.len() + 32);
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => topic.push_str(text),
                Piece::Group(group) => topic.push_str(captures.groups[*group].unwrap_or("")),
                Piece::Rest => match captures.rest {
                    Some(rest) => topic.push_str(rest),
                    // `a/#` matches `a` too; then the slash that leads to the rest goes with it.
                    None if topic.ends_with('/') => drop(topic.pop()),
                    None => {}
                },
            }
        }
        match check_name(topic.as_bytes()) {
            Ok(_) => Ok(topic),
            Err(error) => Err(BadTopic { topic, why: error.to_string() }),
        }
    }

    /// A Topic Filter that matches every topic that may come out.
    pub fn reach(&self) -> String {
        let mut levels = vec![String::new()];
        for piece in &self.pieces {
            let level = levels.last_mut().expect("there is a level");
            match piece {
                Piece::Text(text) => {
                    let mut parts = text.split('/');
                    level.push_str(parts.next().expect("a split has a first part"));
                    levels.extend(parts.map(String::from));
                }
                // Within one level. A character that no topic holds stands for it.
                Piece::Group(group) if *group > 0 => level.push('\0'),
                // Any number of levels, of which a filter can say no more.
                Piece::Group(_) | Piece::Rest => {
                    *level = "#".into();
                    break;
                }
            }
        }
        let wild = |level: String| if level.contains('\0') { "+".into() } else { level };
        levels.into_iter().map(wild).collect::<Vec<String>>().join("/")
    }
}

/// A template gave what is no topic name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BadTopic {
    pub topic: String,
    pub why: String,
}

/// Whether some topic matches both Topic Filters.
pub(crate) fn overlap(a: &str, b: &str) -> bool {
    // A wildcard in the first level matches no topic that begins with `$`.
    let dollar = |filter: &str| filter.starts_with('$');
    let wild = |filter: &str| filter.starts_with(['+', '#']);
    if (dollar(a) && wild(b)) || (dollar(b) && wild(a)) {
        return false;
    }
    let (mut a, mut b) = (a.split('/'), b.split('/'));
    loop {
        match (a.next(), b.next()) {
            (Some("#"), _) | (_, Some("#")) | (None, None) => return true,
            (Some(a), Some(b)) if a == b || a == "+" || b == "+" => {}
            (Some(_), Some(_) | None) | (None, Some(_)) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_rewritten() {
        for (filter, template, topic, expected) in [
            ("rooms/+/t", "house/{1}/temp", "rooms/7/t", Some("house/7/temp")),
            ("rooms/+/t", "house/{1}/temp", "rooms/7/h", None),
            ("rooms/+/t", "house/{1}/temp", "rooms/7/t/x", None),
            ("rooms/+/t", "house/{1}/temp", "rooms", None),
            ("+/+", "{2}/{1}", "a/b", Some("b/a")),
            ("+/+", "{2}-{1}-{2}", "a/b", Some("b-a-b")),
            ("+", "x{1}", "", Some("x")),
            ("+/+", "x/{1}/{2}", "/", Some("x//")),
            ("a/#", "b/{#}", "a/1/2", Some("b/1/2")),
            ("a/#", "b/{#}", "a", Some("b")),
            ("a/#", "b/{#}", "a/", Some("b/")),
            ("a/#", "b-{#}", "a", Some("b-")),
            ("a/#", "b/{#}", "ab", None),
            ("#", "up/{#}", "x/y", Some("up/x/y")),
            ("#", "up/{#}", "$SYS/y", None),
            ("+/x", "up/{1}", "$SYS/x", None),
            ("$SYS/#", "sys/{#}", "$SYS/y", Some("sys/y")),
            ("a/+/#", "b/{#}/{1}", "a/1/2/3", Some("b/2/3/1")),
            ("exact", "other", "exact", Some("other")),
            ("a/+", "{0}/copy", "a/1", Some("a/1/copy")),
            ("a/+", "{{{1}}}", "a/1", Some("{1}")),
        ] {
            let pattern = Pattern::new(filter).unwrap();
            let template = Template::of_pattern(template, &pattern).unwrap();
            let captures = pattern.captures(topic);
            assert_eq!(captures.is_some(), pattern.matches(topic), "{filter} {topic}");
            let result = captures.map(|captures| template.fill(&captures).unwrap());
            assert_eq!(result.as_deref(), expected, "{filter} {topic}");
        }
    }

    #[test]
    fn what_comes_out_may_be_no_topic() {
        let pattern = Pattern::new("a/+").unwrap();
        let template = Template::of_pattern("{1}", &pattern).unwrap();
        let error = template.fill(&pattern.captures("a/").unwrap()).unwrap_err();
        assert_eq!(error.topic, "");
    }

    #[test]
    fn bad_templates() {
        for (filter, template, why) in [
            ("a/+", "b/{2}", "{2} names nothing: the filter a/+ has 1 +"),
            ("a/+", "b/{x}", "{x} names nothing"),
            ("a/+", "b/{}", "{} names nothing"),
            ("a/+", "b/{#}", "the filter a/+ has none"),
            ("a/+", "b/{1", "braces do not match"),
            ("a/+", "b/1}", "braces do not match"),
            ("a/+", "b/+", "topics hold no +"),
            ("a/#", "b/#", "topics hold no + and no #"),
            ("a", "", "at least one character"),
        ] {
            let pattern = Pattern::new(filter).unwrap();
            let error = Template::of_pattern(template, &pattern).unwrap_err().to_string();
            assert!(error.contains(why), "{template}: {error}");
        }
        for (filter, why) in [("", "empty"), ("a/#/b", "# must"), ("$share/g/a", "leave $share")] {
            let error = Pattern::new(filter).unwrap_err().to_string();
            assert!(error.contains(why), "{filter}: {error}");
        }
    }

    #[test]
    fn filters_overlap() {
        for (a, b, expected) in [
            ("a/b", "a/b", true),
            ("a/b", "a/c", false),
            ("a/+", "+/b", true),
            ("a/+", "b/+", false),
            ("a/#", "a", true),
            ("a/#", "+/x/y", true),
            ("a/#", "b/#", false),
            ("a/b", "a/b/c", false),
            ("#", "x", true),
            ("#", "$SYS/x", false),
            ("+/x", "$SYS/x", false),
            ("$SYS/#", "$SYS/x", true),
        ] {
            assert_eq!(overlap(a, b), expected, "{a} {b}");
            assert_eq!(overlap(b, a), expected, "{b} {a}");
        }
    }

    #[test]
    fn what_a_template_reaches() {
        for (filter, template, expected) in [
            ("rooms/+/t", "house/{1}/temp", "house/+/temp"),
            ("rooms/+/t", "house-{1}/temp", "+/temp"),
            ("a/#", "b/{#}", "b/#"),
            ("a/#", "b{#}", "#"),
            ("a/#", "b/{#}/c", "b/#"),
            ("a/+", "{0}/copy", "#"),
            ("a/+", "x", "x"),
        ] {
            let pattern = Pattern::new(filter).unwrap();
            let template = Template::of_pattern(template, &pattern).unwrap();
            assert_eq!(template.reach(), expected, "{filter} {template:?}");
        }
    }
}
