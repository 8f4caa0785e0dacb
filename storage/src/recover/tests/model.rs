//! What a script says, worked out in the plainest way.

use std::collections::BTreeMap;

#[derive(Clone, Default)]
struct Session {
    client: String,
    expiry: u64,
    closed: Option<u64>,
    next: u64,
    subscriptions: Vec<String>,
    will: Option<String>,
    taken: BTreeMap<u64, u64>,
    /// What each place of the queue holds, as text.
    queue: BTreeMap<u64, String>,
}

/// Sessions, retained messages and marks.
#[derive(Clone, Default)]
pub(super) struct Model {
    sessions: BTreeMap<u64, Session>,
    topics: BTreeMap<String, String>,
    retained: BTreeMap<String, String>,
    came: Vec<u64>,
}

impl Model {
    /// Takes in a line of a script, for which every session has begun that it names.
    pub(super) fn unit(&mut self, line: &str) {
        for record in line.split(['|', ';']).map(str::trim).filter(|record| *record != "---") {
            self.record(&record.split_whitespace().collect::<Vec<_>>());
        }
    }

    fn record(&mut self, words: &[&str]) {
        let number = |index: usize| words.get(index).map_or(0, |word| word.parse::<u64>().unwrap());
        let what = words[0];
        match what {
            "msg" => drop(self.topics.insert(words[1].to_owned(), words[2].to_owned())),
            "ret" => {
                let topic = &self.topics[words[1]];
                self.retained.insert(topic.clone(), format!("{topic}={}", words[1]));
            }
            "clear" => drop(self.retained.remove(words[1])),
            "came" => self.came.push(number(1)),
            "went" => self.came.retain(|&one| one != number(1)),
            "end" => drop(self.sessions.remove(&number(1))),
            "begin" => self.begin(words),
            _ => {
                let Some(session) = self.sessions.get_mut(&number(1)) else { return };
                session.record(words, &self.topics);
            }
        }
    }

    fn begin(&mut self, words: &[&str]) {
        let number = |index: usize| words.get(index).map_or(0, |word| word.parse::<u64>().unwrap());
        let mut queue = self.sessions.remove(&number(1)).map(|session| session.queue).unwrap_or_default();
        queue.retain(|_, message| message != "received");
        let session = Session {
            client: words[2].to_owned(),
            expiry: 60,
            closed: words.get(4).map(|_| number(4)),
            next: number(3),
            queue,
            ..Session::default()
        };
        self.sessions.insert(number(1), session);
    }

    /// As the tests print what was read.
    pub(super) fn text(&self) -> String {
        let mut lines: Vec<_> = self.sessions.iter().map(|(id, session)| session.text(*id)).collect();
        let mut retained: Vec<_> = self.retained.values().collect();
        retained.sort();
        lines.extend(retained.into_iter().map(|message| format!("retained {message}")));
        let mut came = self.came.clone();
        came.sort_unstable();
        came.dedup();
        lines.extend(came.into_iter().map(|came| format!("came {came}")));
        lines.join("\n")
    }
}

impl Session {
    fn record(&mut self, words: &[&str], topics: &BTreeMap<String, String>) {
        let number = |index: usize| words.get(index).map_or(0, |word| word.parse::<u64>().unwrap());
        let name = || words[2].to_owned();
        match words[0] {
            "resume" => (self.expiry, self.closed, self.will) = (number(2), None, None),
            "close" => (self.expiry, self.closed) = (50, Some(number(2))),
            "will" => self.will = Some(name()),
            "nowill" => self.will = None,
            "sub" => {
                self.subscriptions.retain(|one| one != words[2]);
                self.subscriptions.push(name());
            }
            "unsub" => self.subscriptions.retain(|one| one != words[2]),
            "take" => drop(self.taken.insert(number(2), number(3))),
            "rel" => drop(self.taken.remove(&number(2))),
            "q" => {
                let more = if words.len() > 4 { "[7, 9]" } else { "" };
                let message = format!("{}={}{more}", topics[words[3]], words[3]);
                self.queue.insert(number(2), message);
                self.next = self.next.max(number(2) + 1);
            }
            "recv" => drop(self.queue.insert(number(2), "received".to_owned())),
            "done" => drop(self.queue.remove(&number(2))),
            other => panic!("no record is called {other}"),
        }
    }

    fn text(&self, id: u64) -> String {
        let mut text = format!("{id} {} expiry={}", self.client, self.expiry);
        if let Some(at) = self.closed {
            text += &format!(" closed={at}");
        }
        text += &format!(" next={}", self.next);
        let mut subscriptions = self.subscriptions.clone();
        subscriptions.sort_unstable();
        for filter in subscriptions {
            text += &format!(" sub={filter}");
        }
        if let Some(will) = &self.will {
            text += &format!(" will={will}");
        }
        for (packet_id, publication) in &self.taken {
            text += &format!(" taken={packet_id}/{publication}");
        }
        for (number, message) in &self.queue {
            text += &format!(" {number}:{message}");
        }
        text
    }
}
