//! What kind of loss it is that a message did not come.

use std::collections::BTreeMap;

use ringmq_codec::QoS;

use crate::check::Run;
use crate::core::messages::Lacking;
use crate::plan::Plan;
use crate::report::Messages;

/// Counts what one subscriber lacks of one publisher.
pub(super) fn count(
    plan: &Plan,
    lacking: &Lacking,
    unconfirmed: &BTreeMap<u32, Vec<Run>>,
    messages: &mut Messages,
) {
    let (group, _) = plan.publisher(lacking.publisher);
    let publish_qos =
        plan.scenario.groups[group].publish.as_ref().map_or(QoS::AtMostOnce, |publish| publish.qos);
    let subscribe = plan.scenario.groups[lacking.group].subscribe.as_ref();
    let qos = subscribe.map_or(QoS::AtMostOnce, |subscribe| subscribe.qos).min(publish_qos);
    let all = lacking.missing.count();
    // What the broker never took, nobody can miss; at QoS 0 that is not known.
    let open = unconfirmed.get(&lacking.publisher).map_or(0, |open| overlap(&lacking.missing.runs, open));
    let taken = all - open;
    messages.lost_unacknowledged += open;
    match qos {
        QoS::AtMostOnce => messages.lost_qos0 += taken,
        QoS::AtLeastOnce | QoS::ExactlyOnce => messages.lost_acknowledged += taken,
    }
}

/// How many numbers are in both.
fn overlap(missing: &[Run], open: &[Run]) -> u64 {
    let common = |a: Run, b: Run| a.to.min(b.to).saturating_sub(a.from.max(b.from));
    missing.iter().map(|run| open.iter().map(|other| common(*run, *other)).sum::<u64>()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Missing;
    use crate::payload::Tag;
    use crate::presets::Options;

    #[test]
    fn a_loss_is_of_one_kind() {
        let run = |from, to| Run { from, to };
        let table = [
            // QoS of publisher and subscriber; lost at QoS 0, acknowledged, not acknowledged
            (QoS::AtMostOnce, QoS::AtLeastOnce, (10, 0, 0)),
            (QoS::AtLeastOnce, QoS::AtMostOnce, (7, 0, 3)),
            (QoS::AtLeastOnce, QoS::ExactlyOnce, (0, 7, 3)),
        ];
        for (publish_qos, subscribe_qos, expected) in table {
            let options = Options { publish_qos, subscribe_qos, ..Options::default() };
            let plan = Plan::new(options.pairs(1).unwrap(), "run".to_owned(), Tag(0)).unwrap();
            let missing = Missing { runs: vec![run(0, 5), run(10, 14)], others: 1 };
            let mut unconfirmed = BTreeMap::new();
            if publish_qos != QoS::AtMostOnce {
                unconfirmed.insert(0, vec![run(4, 12), run(20, 30)]);
            }
            let mut messages = Messages::default();
            count(&plan, &Lacking { group: 0, publisher: 0, missing }, &unconfirmed, &mut messages);
            let found = (messages.lost_qos0, messages.lost_acknowledged, messages.lost_unacknowledged);
            assert_eq!(found, expected, "{publish_qos:?} {subscribe_qos:?}");
        }
    }
}
