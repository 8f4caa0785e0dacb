//! Strings, Topic Names and Topic Filters, MQTT 5 sections 1.5.4, 4.7 and 4.8.2.

use thiserror::Error;

use crate::{DecodeError, ReasonCode};

/// The longest Topic Name or Topic Filter, in bytes [MQTT-4.7.3-3].
const TOPIC_BYTES_MAX: usize = 65_535;

const SHARE_PREFIX: &str = "$share/";

/// Checks a UTF-8 Encoded String: well-formed [MQTT-1.5.4-1], without U+0000 [MQTT-1.5.4-2].
///
/// U+FEFF stays where it is [MQTT-1.5.4-3]. Control and non-characters are let through, as section
/// 1.5.4 leaves open.
#[inline]
pub(crate) fn check_string(bytes: &[u8]) -> Result<&str, DecodeError> {
    let string = std::str::from_utf8(bytes).map_err(|_| DecodeError::StringInvalid)?;
    if bytes.contains(&0) { Err(DecodeError::StringInvalid) } else { Ok(string) }
}

/// Checks a Topic Name: a UTF-8 Encoded String [MQTT-3.3.2-1] of 1 to 65,535 bytes [MQTT-4.7.3-1],
/// [MQTT-4.7.3-3], with neither wildcard [MQTT-3.3.2-2] nor U+0000 [MQTT-4.7.3-2].
///
/// A PUBLISH whose Topic Alias stands for its topic has an empty name, which is an error here.
#[inline]
pub fn check_name(name: &[u8]) -> Result<&str, DecodeError> {
    // No early exit: topics are short, and a loop without one compiles to vector instructions.
    let special = name.iter().fold(false, |any, &b| any | (b == 0) | (b == b'+') | (b == b'#'));
    if special || name.is_empty() || name.len() > TOPIC_BYTES_MAX {
        return Err(name_error(name));
    }
    std::str::from_utf8(name).map_err(|_| DecodeError::StringInvalid)
}

/// Which of the faults that `check_name` looks for in one go it was.
#[cold]
fn name_error(name: &[u8]) -> DecodeError {
    if name.is_empty() {
        DecodeError::TopicNameEmpty
    } else if name.len() > TOPIC_BYTES_MAX {
        DecodeError::TopicNameTooLong
    } else if check_string(name).is_err() {
        DecodeError::StringInvalid
    } else {
        DecodeError::TopicNameWildcard
    }
}

/// A Topic Filter that obeys the rules of section 4.7, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TopicFilter<'a> {
    /// What topics are matched against: for a Shared Subscription, the part after the group.
    pub filter: &'a str,
    /// The ShareName of a Shared Subscription, `$share/{ShareName}/{filter}` [MQTT-4.8.2-1].
    pub share: Option<&'a str>,
    /// Whether `filter` holds `+` or `#`, and so matches more topics than one.
    pub has_wildcards: bool,
}

/// What is wrong with a Topic Filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FilterError {
    /// [MQTT-4.7.3-1]: it has no characters.
    #[error("the topic filter is empty")]
    Empty,
    /// [MQTT-4.7.3-3]: it has more than 65,535 bytes.
    #[error("the topic filter is too long")]
    TooLong,
    /// [MQTT-4.7.3-2]: it holds U+0000.
    #[error("the topic filter holds a null character")]
    NullCharacter,
    /// [MQTT-4.7.1-1]: `#` is not alone in its level, or not in the last one.
    #[error("# must be the whole last level of a topic filter")]
    MultiLevelWildcard,
    /// [MQTT-4.7.1-2]: `+` is not alone in its level.
    #[error("+ must be a whole level of a topic filter")]
    SingleLevelWildcard,
    /// [MQTT-4.8.2-1], [MQTT-4.8.2-2]: the ShareName is empty or holds a wildcard.
    #[error("the share name is empty or holds a wildcard")]
    ShareName,
    /// [MQTT-4.8.2-1]: nothing follows the ShareName.
    #[error("a shared subscription lacks its topic filter")]
    ShareFilterEmpty,
}

impl FilterError {
    /// The reason code of a SUBACK or UNSUBACK for this filter.
    #[must_use]
    pub const fn reason(&self) -> ReasonCode {
        match self {
            Self::Empty
            | Self::TooLong
            | Self::NullCharacter
            | Self::MultiLevelWildcard
            | Self::SingleLevelWildcard
            | Self::ShareName
            | Self::ShareFilterEmpty => ReasonCode::TopicFilterInvalid,
        }
    }
}

/// Checks a Topic Filter by the rules of sections 4.7 and 4.8.2 and takes it apart.
///
/// `$share` means nothing to MQTT 3.x. Servers honour it there all the same; one that does not should
/// look at [`TopicFilter::share`].
pub fn check_filter(filter: &str) -> Result<TopicFilter<'_>, FilterError> {
    if filter.is_empty() {
        return Err(FilterError::Empty);
    }
    if filter.len() > TOPIC_BYTES_MAX {
        return Err(FilterError::TooLong);
    }
    if filter.as_bytes().contains(&0) {
        return Err(FilterError::NullCharacter);
    }
    let (share, filter) = split_share(filter)?;
    let has_wildcards = check_levels(filter)?;
    Ok(TopicFilter { filter, share, has_wildcards })
}

fn split_share(filter: &str) -> Result<(Option<&str>, &str), FilterError> {
    let Some(rest) = filter.strip_prefix(SHARE_PREFIX) else {
        return Ok((None, filter));
    };
    let (name, filter) = rest.split_once('/').unwrap_or((rest, ""));
    if name.is_empty() || name.contains(['+', '#']) {
        return Err(FilterError::ShareName);
    }
    if filter.is_empty() {
        return Err(FilterError::ShareFilterEmpty);
    }
    Ok((Some(name), filter))
}

/// Whether the filter has wildcards, all of them in their places.
fn check_levels(filter: &str) -> Result<bool, FilterError> {
    let mut has_wildcards = false;
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        if level.contains('#') {
            if level.len() > 1 || levels.peek().is_some() {
                return Err(FilterError::MultiLevelWildcard);
            }
            has_wildcards = true;
        } else if level.contains('+') {
            if level.len() > 1 {
                return Err(FilterError::SingleLevelWildcard);
            }
            has_wildcards = true;
        }
    }
    Ok(has_wildcards)
}

/// Whether `$share` makes a Shared Subscription of this filter, well-formed or not.
pub(crate) fn is_shared(filter: &str) -> bool {
    filter.starts_with(SHARE_PREFIX)
}

/// Whether a Topic Filter, without its `$share` part, matches a Topic Name. Both must be valid.
///
/// This walks both level by level and is the model that faster matchers are tested against.
/// Filters that start with a wildcard match no topic that starts with `$` [MQTT-4.7.2-1]; `sport/#`
/// matches `sport` itself (section 4.7.1.2); nothing is normalised [MQTT-4.7.3-4].
#[must_use]
pub fn matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut topic_levels = topic.split('/');
    for level in filter.split('/') {
        if level == "#" {
            return true;
        }
        match topic_levels.next() {
            Some(name) if level == "+" || level == name => {}
            Some(_) | None => return false,
        }
    }
    topic_levels.next().is_none()
}
