//! Topic Names, Topic Filters and matching, MQTT 5 sections 4.7 and 4.8.2.

use proptest::prelude::*;
use ringmq_codec::{DecodeError, FilterError, ReasonCode, TopicFilter, check_filter, check_name, matches};

/// [MQTT-4.7.0-1], [MQTT-4.7.3-1], [MQTT-4.7.3-2], [MQTT-4.7.3-3], [MQTT-1.5.4-1], [MQTT-1.5.4-2],
/// [MQTT311-4.7.3-1], [MQTT311-4.7.3-2], [MQTT311-4.7.3-3]
#[test]
fn topic_names() {
    let long = vec![b'a'; 65_536];
    let cases: &[(&[u8], Option<DecodeError>)] = &[
        (b"a", None),
        (b"/", None),
        (b"a//b", None),
        (b" ", None),
        (b"$SYS/x", None),
        ("\u{feff}ü/日本/🦀".as_bytes(), None),
        ("\u{1}\u{ffff}".as_bytes(), None),
        (&long[1..], None),
        (b"", Some(DecodeError::TopicNameEmpty)),
        (&long, Some(DecodeError::TopicNameTooLong)),
        (b"a/+", Some(DecodeError::TopicNameWildcard)),
        (b"#", Some(DecodeError::TopicNameWildcard)),
        (b"a\0", Some(DecodeError::StringInvalid)),
        (b"+\0", Some(DecodeError::StringInvalid)),
        (b"\xff", Some(DecodeError::StringInvalid)),
        (b"\xc0\x80", Some(DecodeError::StringInvalid)),
        (b"\xed\xa0\x80", Some(DecodeError::StringInvalid)),
        (b"#\xed\xa0\x80", Some(DecodeError::StringInvalid)),
    ];
    for (name, error) in cases {
        assert_eq!(check_name(name).err(), *error, "{:?}", String::from_utf8_lossy(name));
        assert!(error.is_some() || check_name(name).map(str::as_bytes) == Ok(name));
    }
}

/// [MQTT-4.7.1-1], [MQTT-4.7.1-2], [MQTT-4.7.3-1], [MQTT-4.7.3-3], [MQTT-4.8.2-1], [MQTT-4.8.2-2],
/// [MQTT311-4.7.1-2], [MQTT311-4.7.1-3]
#[test]
fn topic_filters() {
    const fn plain(filter: &str) -> Result<TopicFilter<'_>, FilterError> {
        Ok(TopicFilter { filter, share: None, has_wildcards: false })
    }
    const fn wild(filter: &str) -> Result<TopicFilter<'_>, FilterError> {
        Ok(TopicFilter { filter, share: None, has_wildcards: true })
    }
    const fn shared<'a>(group: &'a str, filter: &'a str, wild: bool) -> Result<TopicFilter<'a>, FilterError> {
        Ok(TopicFilter { filter, share: Some(group), has_wildcards: wild })
    }
    let long = "a".repeat(65_536);
    let cases = [
        ("a", plain("a")),
        ("/", plain("/")),
        ("a//b", plain("a//b")),
        ("$SYS/x", plain("$SYS/x")),
        ("#", wild("#")),
        ("+", wild("+")),
        ("/#", wild("/#")),
        ("+/+", wild("+/+")),
        ("/+", wild("/+")),
        ("+/a/#", wild("+/a/#")),
        ("a/+/b", wild("a/+/b")),
        ("", Err(FilterError::Empty)),
        (&long[1..], plain(&long[1..])),
        (&long, Err(FilterError::TooLong)),
        ("a\0", Err(FilterError::NullCharacter)),
        ("a#", Err(FilterError::MultiLevelWildcard)),
        ("a/#b", Err(FilterError::MultiLevelWildcard)),
        ("#/a", Err(FilterError::MultiLevelWildcard)),
        ("#/", Err(FilterError::MultiLevelWildcard)),
        ("##", Err(FilterError::MultiLevelWildcard)),
        ("+#", Err(FilterError::MultiLevelWildcard)),
        ("a+", Err(FilterError::SingleLevelWildcard)),
        ("+a/b", Err(FilterError::SingleLevelWildcard)),
        ("a/++", Err(FilterError::SingleLevelWildcard)),
        ("$share", plain("$share")),
        ("$shared/g/a", plain("$shared/g/a")),
        ("$SHARE/g/a", plain("$SHARE/g/a")),
        ("$share/g/a", shared("g", "a", false)),
        ("$share/g/a/b", shared("g", "a/b", false)),
        ("$share/g/#", shared("g", "#", true)),
        ("$share/g//", shared("g", "/", false)),
        ("$share/$g/$SYS/x", shared("$g", "$SYS/x", false)),
        ("$share/g/$share/h/a", shared("g", "$share/h/a", false)),
        ("$share/", Err(FilterError::ShareName)),
        ("$share//a", Err(FilterError::ShareName)),
        ("$share/+/a", Err(FilterError::ShareName)),
        ("$share/g#/a", Err(FilterError::ShareName)),
        ("$share/#", Err(FilterError::ShareName)),
        ("$share/g", Err(FilterError::ShareFilterEmpty)),
        ("$share/g/", Err(FilterError::ShareFilterEmpty)),
        ("$share/g/a#", Err(FilterError::MultiLevelWildcard)),
    ];
    for (filter, expected) in cases {
        assert_eq!(check_filter(filter), expected, "{filter:.40}");
        if let Err(error) = expected {
            assert_eq!(error.reason(), ReasonCode::TopicFilterInvalid);
        }
    }
}

/// [MQTT-4.7.2-1], [MQTT-4.7.3-4], [MQTT311-4.7.2-1], [MQTT311-4.7.3-4]
#[test]
fn matching() {
    let cases = [
        ("a", "a", true),
        ("a", "b", false),
        ("a", "A", false),
        ("a", "a/", false),
        ("a/", "a", false),
        ("/a", "a", false),
        ("a", "/a", false),
        ("/a", "/a", true),
        ("a//b", "a//b", true),
        ("sport/#", "sport", true),
        ("sport/#", "sport/", true),
        ("sport/#", "sport/tennis/player1", true),
        ("sport/#", "sports", false),
        ("sport/tennis/player1/#", "sport/tennis/player1", true),
        ("#", "a/b/c", true),
        ("#", "/", true),
        ("/#", "/", true),
        ("/#", "a", false),
        ("+", "a", true),
        ("+", "a/b", false),
        ("+", "/a", false),
        ("+/+", "/finance", true),
        ("/+", "/finance", true),
        ("+", "/finance", false),
        ("sport/+", "sport", false),
        ("sport/+", "sport/", true),
        ("sport/tennis/+", "sport/tennis/player1", true),
        ("sport/tennis/+", "sport/tennis/player1/ranking", false),
        ("+/tennis/#", "sport/tennis", true),
        ("a/+/c", "a//c", true),
        ("+/+/#", "a", false),
        ("#", "$SYS/x", false),
        ("+/x", "$SYS/x", false),
        ("+/#", "$SYS/x", false),
        ("$SYS/#", "$SYS/x", true),
        ("$SYS/+", "$SYS/x", true),
        ("$SYS/#", "$SYS", true),
        ("a/#", "a/$SYS", true),
        ("a/+", "a/$SYS", true),
        ("a/b", "a/b\u{feff}", false),
    ];
    for (filter, topic, expected) in cases {
        assert!(check_filter(filter).is_ok() && check_name(topic.as_bytes()).is_ok());
        assert_eq!(matches(filter, topic), expected, "{filter} against {topic}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// A topic matches itself, and what wildcards make of it.
    #[test]
    fn a_topic_matches_its_generalisations(levels in prop::collection::vec("[ab]{0,2}", 1..5), at in 0_usize..5) {
        let topic = levels.join("/");
        prop_assume!(!topic.is_empty());
        let at = at % levels.len();
        let mut single = levels.clone();
        single[at] = "+".into();
        let mut multi = levels[..at].to_vec();
        multi.push("#".into());
        let mut below = levels.clone();
        below.push("#".into());
        for filter in [topic.clone(), single.join("/"), multi.join("/"), below.join("/")] {
            prop_assert!(check_filter(&filter).is_ok());
            prop_assert!(matches(&filter, &topic), "{} against {}", filter, topic);
        }
    }

    /// Any string is taken or refused, and `matches` is total.
    #[test]
    fn nothing_panics(filter in "[a$+#/\\PC]{0,8}", topic in "[a$/\\PC]{0,8}") {
        let _ = check_filter(&filter);
        let _ = check_name(topic.as_bytes());
        let _ = matches(&filter, &topic);
    }
}
