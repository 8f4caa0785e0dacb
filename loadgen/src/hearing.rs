//! Which subscribers are to get which publishers' messages.

use std::collections::HashMap;
use std::sync::Arc;

use ringmq_codec::{check_filter, matches};

use crate::pattern::Values;
use crate::plan::{Copies, Lists, Topics, Voice};
use crate::scenario::{Expect, Group, Subscribe};

/// Comparisons of a filter with a topic before a run that are worth it.
const COMPARISONS_MAX: u64 = 50_000_000;
/// Pairs of a publisher and a subscriber whose messages are checked one by one.
const STREAMS_MAX: usize = 20_000_000;

/// Whom the clients of a group hear.
#[derive(Clone, Debug)]
pub(crate) enum Hearing {
    /// Each client gets every message of these publishers, whose numbers rise.
    Each(Vec<Arc<[u32]>>),
    /// Of each message of these publishers, one client gets a copy.
    Together(Arc<[u32]>),
    /// That is not known.
    Anything,
}

/// What was found out.
pub(crate) struct Heard {
    pub hearing: Hearing,
    /// By publisher.
    pub copies: Vec<Copies>,
    /// What cannot be checked.
    pub notice: Option<String>,
}

impl Heard {
    pub fn anything(voices: &[Voice], notice: Option<&str>) -> Self {
        let copies = vec![Copies::default(); voices.len()];
        Self { hearing: Hearing::Anything, copies, notice: notice.map(str::to_owned) }
    }
}

/// The filters of a group, and which clients have them.
#[derive(Default)]
struct Ears {
    exact: HashMap<String, Vec<u32>>,
    wild: HashMap<String, Vec<u32>>,
}

impl Ears {
    fn of(group: &Group, subscribe: &Subscribe, run: &str) -> Self {
        let mut ears = Self::default();
        for client in 0..group.count {
            for filter in filters(group, subscribe, run, client) {
                let has_wildcards = check_filter(&filter).is_ok_and(|filter| filter.has_wildcards);
                let table = if has_wildcards { &mut ears.wild } else { &mut ears.exact };
                let clients = table.entry(filter).or_default();
                if clients.last() != Some(&client) {
                    clients.push(client);
                }
            }
        }
        ears
    }

    /// The clients that a topic reaches, each once.
    fn hear(&self, topic: &str) -> Vec<u32> {
        let mut clients = self.exact.get(topic).cloned().unwrap_or_default();
        let is_alone = clients.is_empty();
        let wild = self.wild.iter().filter(|(filter, _)| matches(filter, topic));
        let mut found = 0;
        for (_, more) in wild {
            clients.extend(more);
            found += 1;
        }
        if found > 1 || (found == 1 && !is_alone) {
            clients.sort_unstable();
            clients.dedup();
        }
        clients
    }
}

/// The filters of one client, without a share's name.
pub(crate) fn filters<'a>(
    group: &'a Group,
    subscribe: &'a Subscribe,
    run: &'a str,
    client: u32,
) -> impl Iterator<Item = String> + 'a {
    let first = u64::from(client) * u64::from(subscribe.each);
    subscribe.filters.iter().flat_map(move |filter| {
        let count = if filter.has_topic() { u64::from(subscribe.each) } else { 1 };
        (first..first + count).map(move |topic| {
            filter.fill(&Values { client: u64::from(client), topic, run, group: &group.name })
        })
    })
}

/// Finds out whom a group hears.
pub(crate) fn hear(group: &Group, subscribe: &Subscribe, run: &str, voices: &[Voice]) -> Heard {
    let expect = match (subscribe.expect, &subscribe.share) {
        (Expect::Matching, Some(_)) => Expect::One,
        (expect, _) => expect,
    };
    match expect {
        Expect::Anything => Heard::anything(voices, None),
        Expect::Every => every(group, voices),
        Expect::One if subscribe.expect == Expect::One => {
            together((0..voices.len() as u32).collect(), voices)
        }
        Expect::One | Expect::Matching => {
            let ears = Ears::of(group, subscribe, run);
            let topics: u64 = voices
                .iter()
                .map(|voice| match &voice.topics {
                    Topics::One(_) => 1,
                    Topics::Many(examples) => examples.len() as u64,
                })
                .sum();
            if ears.wild.len() as u64 * topics > COMPARISONS_MAX {
                return Heard::anything(
                    voices,
                    Some(
                        "too many filters and topics to find out beforehand who gets what: arrivals are only counted \
                          (say what to expect, expect = \"one\" or \"every\", to have them checked)",
                    ),
                );
            }
            match expect {
                Expect::One => shared(&ears, voices),
                Expect::Matching | Expect::Every | Expect::Anything => matching(group, &ears, voices),
            }
        }
    }
}

fn every(group: &Group, voices: &[Voice]) -> Heard {
    let all: Arc<[u32]> = (0..voices.len() as u32).collect();
    if all.len() * group.count as usize > STREAMS_MAX {
        return Heard::anything(voices, Some(TOO_MANY));
    }
    let copies = vec![Copies { count: group.count }; voices.len()];
    Heard { hearing: Hearing::Each(vec![all; group.count as usize]), copies, notice: None }
}

const TOO_MANY: &str =
    "too many pairs of publishers and subscribers to check each: arrivals are only counted";

fn together(heard: Vec<u32>, voices: &[Voice]) -> Heard {
    let mut copies = vec![Copies::default(); voices.len()];
    for publisher in &heard {
        copies[*publisher as usize].count = 1;
    }
    Heard { hearing: Hearing::Together(heard.into()), copies, notice: None }
}

fn shared(ears: &Ears, voices: &[Voice]) -> Heard {
    let is_heard = |voice: &&Voice| match &voice.topics {
        Topics::One(topic) => !ears.hear(topic).is_empty(),
        Topics::Many(topics) => topics.iter().all(|topic| !ears.hear(topic).is_empty()),
    };
    together(voices.iter().filter(is_heard).map(|voice| voice.publisher).collect(), voices)
}

fn matching(group: &Group, ears: &Ears, voices: &[Voice]) -> Heard {
    let mut heard: Vec<Vec<u32>> = vec![Vec::new(); group.count as usize];
    let mut copies = vec![Copies::default(); voices.len()];
    let (mut streams, mut alone) = (0, Vec::new());
    for (voice, copies) in voices.iter().zip(&mut copies) {
        let clients = match &voice.topics {
            Topics::One(topic) => ears.hear(topic),
            Topics::Many(topics) => {
                let all: Vec<Vec<u32>> = topics.iter().map(|topic| ears.hear(topic)).collect();
                if all.windows(2).all(|pair| pair[0] == pair[1]) {
                    all.into_iter().next().unwrap_or_default()
                } else if all.iter().all(|clients| clients.len() == 1) {
                    alone.push(voice.publisher);
                    continue;
                } else {
                    return Heard::anything(
                        voices,
                        Some("topics reach different numbers of its clients: arrivals are only counted"),
                    );
                }
            }
        };
        streams += clients.len();
        if streams > STREAMS_MAX {
            return Heard::anything(voices, Some(TOO_MANY));
        }
        copies.count = clients.len() as u32;
        for client in clients {
            heard[client as usize].push(voice.publisher);
        }
    }
    if !alone.is_empty() {
        return match streams {
            0 => together(alone, voices),
            _ => Heard::anything(
                voices,
                Some(
                    "some publishers reach all of its clients and others one at a time: arrivals are only counted",
                ),
            ),
        };
    }
    let mut lists = Lists::default();
    let heard = heard.into_iter().map(|list| lists.share(list)).collect();
    Heard { hearing: Hearing::Each(heard), copies, notice: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pattern::Pattern;
    use crate::presets;

    fn group(count: u32, filter: &str, each: u32, share: Option<&str>) -> Group {
        let mut group = presets::subscribers("subs", count, filter);
        let subscribe = group.subscribe.as_mut().unwrap();
        (subscribe.each, subscribe.share) = (each, share.map(str::to_owned));
        group
    }

    fn voices(topics: &[&str]) -> Vec<Voice> {
        let voice = |(publisher, topic): (usize, &&str)| Voice {
            publisher: publisher as u32,
            topics: match topic.split_once("{k}") {
                None => Topics::One((*topic).to_owned()),
                Some(_) => {
                    let pattern = Pattern::parse(topic).unwrap();
                    let values = |topic| Values { topic, ..Values::default() };
                    Topics::Many((0..8).map(|topic| pattern.fill(&values(topic))).collect())
                }
            },
        };
        topics.iter().enumerate().map(voice).collect()
    }

    fn check(group: Group, topics: &[&str]) -> (String, Vec<u32>) {
        let heard = hear(&group, group.subscribe.as_ref().unwrap(), "run", &voices(topics));
        let words = match heard.hearing {
            Hearing::Each(lists) => format!("each {lists:?}"),
            Hearing::Together(list) => format!("together {list:?}"),
            Hearing::Anything => "anything".to_owned(),
        };
        (words, heard.copies.iter().map(|copies| copies.count).collect())
    }

    #[test]
    fn who_hears_whom_follows_from_filters_and_topics() {
        let table: Vec<(Group, &[&str], &str, &[u32])> = vec![
            (group(2, "a", 1, None), &["a", "b"], "each [[0], [0]]", &[2, 0]),
            (group(2, "p/{i}", 1, None), &["p/0", "p/1"], "each [[0], [1]]", &[1, 1]),
            (group(1, "p/+", 1, None), &["p/0", "p/1"], "each [[0, 1]]", &[1, 1]),
            (group(2, "p/#", 1, None), &["p/{k}"], "each [[0], [0]]", &[2]),
            (group(2, "p/{k}", 4, None), &["p/{k}"], "together [0]", &[1]),
            (group(2, "p/{k}", 3, None), &["p/{k}"], "anything", &[0]),
            (group(3, "p/+", 1, Some("g")), &["p/0", "p/1", "q"], "together [0, 1]", &[1, 1, 0]),
        ];
        for (group, topics, words, copies) in table {
            let name = format!("{:?} {topics:?}", group.subscribe.as_ref().unwrap().filters[0].to_string());
            assert_eq!(check(group, topics), (words.to_owned(), copies.to_vec()), "{name}");
        }
    }
}
