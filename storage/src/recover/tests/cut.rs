//! Logs that end anywhere, or of which a byte changed.

use std::fmt::Write;

use proptest::prelude::*;

use super::model::Model;
use super::written::Written;
use super::{reading, text};
use crate::format::BATCH_HEAD_BYTES;

/// A session as far as the making of scripts needs it.
struct Made {
    id: u64,
    next: u64,
    queue: Vec<(u64, Option<String>)>,
}

/// Makes a script that could have been written, from arbitrary numbers.
fn script(choices: &[(u8, u8, u16)]) -> String {
    let (mut script, mut sessions, mut retained) = (String::new(), Vec::<Made>::new(), 0);
    let (mut last_id, mut messages) = (0, 0);
    for (index, &(what, which, detail)) in choices.iter().enumerate() {
        let record = if sessions.is_empty() || what < 20 {
            last_id += 1;
            sessions.push(Made { id: last_id, next: 0, queue: Vec::new() });
            format!("begin {last_id} client{last_id} 0 {}", 1 + detail)
        } else {
            let index = usize::from(which) % sessions.len();
            let session = &mut sessions[index];
            let (id, packet_id) = (session.id, detail % 4);
            match what % 19 {
                0 => format!("sub {id} f{}", detail % 8),
                1 => format!("unsub {id} f{}", detail % 8),
                2 => format!("will {id} w{detail}; close {id} {}", 1 + detail),
                3 => format!("resume {id} {detail}"),
                4 => format!("nowill {id}"),
                5 => format!("take {id} {packet_id} {detail}"),
                6 => format!("rel {id} {packet_id}"),
                7 => format!("came {detail}"),
                8 => format!("went {detail}"),
                9 => {
                    retained += 1;
                    format!("msg r{retained} t{}; ret r{retained}", detail % 3)
                }
                10 => format!("clear t{}", detail % 3),
                11 if detail % 4 == 0 => {
                    sessions.swap_remove(index);
                    format!("end {id}")
                }
                12 => tell(session, detail),
                13 => complete(session, detail),
                14 => receive(session, detail),
                15 => relocate(session, detail),
                _ => {
                    messages += 1;
                    session.next += 1;
                    let (name, number) = (format!("m{messages}"), session.next - 1);
                    session.queue.push((number, Some(name.clone())));
                    let more = if detail % 5 == 0 { " ids" } else { "" };
                    format!("msg {name} t; q {id} {number} {name}{more}")
                }
            }
        };
        let separator = match (which / 16, index) {
            (_, 0) => "",
            (0..3, _) => "; ",
            (3, _) => "| ",
            (4, _) => "|---| ",
            (5, _) => "\n---\n",
            _ => "\n",
        };
        let _ = write!(script, "{separator}{record}");
    }
    script
}

/// All of a session anew, as compaction does it.
fn tell(session: &Made, detail: u16) -> String {
    let id = session.id;
    let mut text = format!("begin {id} client{id} {} {}; sub {id} f{}", session.next, 1 + detail, detail % 8);
    for (number, message) in &session.queue {
        if message.is_none() {
            let _ = write!(text, "; recv {id} {number}");
        }
    }
    text
}

fn complete(session: &mut Made, detail: u16) -> String {
    if session.queue.is_empty() {
        return format!("sub {} x", session.id);
    }
    let index = usize::from(detail) % session.queue.len();
    format!("done {} {}", session.id, session.queue.remove(index).0)
}

fn receive(session: &mut Made, detail: u16) -> String {
    if session.queue.is_empty() {
        return format!("sub {} y", session.id);
    }
    let index = usize::from(detail) % session.queue.len();
    session.queue[index].1 = None;
    format!("recv {} {}", session.id, session.queue[index].0)
}

fn relocate(session: &Made, detail: u16) -> String {
    let waiting: Vec<_> =
        session.queue.iter().filter_map(|(number, name)| Some((number, name.as_ref()?))).collect();
    if waiting.is_empty() {
        return format!("sub {} z", session.id);
    }
    let (number, name) = waiting[usize::from(detail) % waiting.len()];
    format!("msg {name} t; q {} {number} {name}", session.id)
}

fn choices() -> impl Strategy<Value = Vec<(u8, u8, u16)>> {
    prop::collection::vec((any::<u8>(), any::<u8>(), 0u16..256), 1..60)
}

/// The units of a script.
fn units(script: &str) -> Vec<&str> {
    script.lines().map(str::trim).filter(|line| !line.is_empty() && *line != "---").collect()
}

/// What the model says after each unit, that before the first included.
fn states(script: &str) -> Vec<String> {
    let mut model = Model::default();
    let mut states = vec![model.text()];
    for unit in units(script) {
        model.unit(unit);
        states.push(model.text());
    }
    states
}

/// The log up to a byte, with zeroes behind.
fn cut(log: &Written, segment: usize, place: usize) -> Written {
    let mut log = log.clone();
    log.segments.truncate(segment + 1);
    log.segments[segment].1[place..].fill(0);
    log
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 1 } else { 150 }))]

    #[test]
    fn a_log_that_is_cut_holds_the_units_before(choices in choices()) {
        let script = script(&choices);
        let log = Written::new(&script);
        let states = states(&script);
        prop_assert_eq!(text(&log, &reading(&log)), states.last().unwrap().clone(), "{}", script);
        for segment in 0..log.segments.len() {
            let end = log.segments[segment].1.len() - 256;
            for place in (64..=end).step_by(7).chain([end]) {
                let cut = cut(&log, segment, place);
                let here = (log.segments[segment].0, place);
                let whole = log.units.iter().filter(|&&unit| unit <= here).count();
                let reading = reading(&cut);
                let read = text(&cut, &reading);
                // A cut through zeroes at the end of a unit takes nothing away.
                let next = states.get(whole + 1).is_some_and(|next| *next == read);
                prop_assert!(read == states[whole] || next, "cut at {place}: {script}\n{read}");
                prop_assert!(reading.recovered.damage.iter().all(|damage| damage.torn_tail));
                prop_assert!(reading.recovered.losses.is_empty());
            }
        }
    }

    #[test]
    fn a_log_goes_on_behind_its_cut(choices in choices(), at in any::<prop::sample::Index>()) {
        let script = script(&choices);
        let log = Written::new(&script);
        let segment = at.index(log.segments.len());
        let place = 64 + at.index(log.segments[segment].1.len() - 64);
        // Once with the torn end left in the file, and once without.
        for is_cut in [true, false] {
            let mut torn = cut(&log, segment, place);
            let first = reading(&torn);
            if is_cut {
                for damage in &first.recovered.damage {
                    let at = torn.segments.iter().position(|(id, _)| *id == damage.segment).unwrap();
                    torn.segments[at].1[damage.place..damage.place + damage.bytes].fill(0);
                }
            }
            let before = text(&torn, &first);
            torn.next = first.next_record;
            torn.begin_segment(crate::SegmentId(99));
            torn.go_on("begin 9000 last");
            let again = reading(&torn);
            let mut lines: Vec<_> = before.lines().collect();
            let sessions = first.recovered.sessions.len();
            lines.insert(sessions, "9000 last expiry=60 next=0");
            prop_assert_eq!(text(&torn, &again), lines.join("\n"), "{}", script);
            prop_assert_eq!(again.next_record, first.next_record + 1);
            prop_assert!(again.recovered.damage.iter().all(|damage| !damage.torn_tail));
            prop_assert!(!is_cut || again.recovered.damage.is_empty());
        }
    }

    #[test]
    fn a_changed_byte_is_told_and_changes_no_message(choices in choices(), bit in 0u32..8) {
        let script = script(&choices);
        let log = Written::new(&script);
        let whole = text(&log, &reading(&log));
        for segment in 0..log.segments.len() {
            let bytes = log.segments[segment].1.len();
            for place in (0..bytes).step_by(5) {
                let mut log = log.clone();
                log.segments[segment].1[place] ^= 1u8 << bit;
                let reading = reading(&log);
                prop_assert!(!reading.recovered.damage.is_empty(), "{place}: {script}");
                let read = text(&log, &reading);
                let last = log.segments.iter().rposition(|(_, bytes)| bytes.len() > 320).unwrap_or(0);
                let is_padding = place >= bytes - 256 + BATCH_HEAD_BYTES || place < 64;
                prop_assert!(!is_padding || read == whole, "{place} of {segment}, {last}: {script}\n{read}");
                for message in messages(&read) {
                    prop_assert!(script.contains(message), "{message} was never written");
                }
            }
        }
    }
}

/// The payloads in what was read.
fn messages(read: &str) -> impl Iterator<Item = &str> {
    let names =
        read.split([' ', '\n']).filter_map(|word| word.split_once('=').filter(|(key, _)| key.contains(":t")));
    names.map(|(_, name)| name.split('[').next().unwrap_or(name))
}
