//! Very many sessions that expire at once do not stall their shard.

#[path = "../../examples/bare/mod.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod bare;

use bare::Bare;
use ringmq_codec::{
    Connect, PacketId, QoS, Subscribe, SubscribeFilter, SubscriptionOptions, UserProperties, Version,
};
use ringmq_turn::{CloseReason, ConnId, ConnInfo, Core, ListenerId};

const SESSIONS: u32 = 50_000;
/// Sessions that may end in one turn.
const ENDS_PER_TURN_MAX: u64 = 1024;

fn packets(number: u32) -> Vec<u8> {
    let name = format!("sleeper{number}");
    let mut connect = Connect { clean_start: false, ..Connect::new(Version::V5, &name) };
    connect.properties.session_expiry_s = 60;
    let mut bytes = Vec::new();
    connect.encode(&mut bytes);
    let filter = format!("device/{number}/command");
    let filters = [SubscribeFilter { filter: &filter, options: SubscriptionOptions::new(QoS::AtLeastOnce) }];
    let packet_id = PacketId::new(1).expect("it is not 0");
    let (user, filters) = (UserProperties::EMPTY, filters.as_slice().into());
    Subscribe { packet_id, subscription_id: None, user, filters }.encode(Version::V5, &mut bytes);
    bytes
}

#[test]
fn of_fifty_thousand_sessions_takes_many_short_turns() {
    let mut bare = Bare::new();
    let info = ConnInfo { listener: ListenerId(0), remote: None, over_limit: false };
    for number in 0..SESSIONS {
        let conn = ConnId { slot: 0, generation: number + 1 };
        bare.io.open(conn);
        bare.engine.opened(conn, &info, &mut bare.io);
        bare.receive(conn, &packets(number));
        bare.engine.closed(conn, CloseReason::Broken, &mut bare.io);
        bare.turn();
    }
    let sessions = |bare: &Bare| bare.engine.figures().1.sessions;
    assert_eq!(sessions(&bare), u64::from(SESSIONS));
    bare.io.now.mono_ms += 59_000;
    bare.turn();
    assert_eq!(sessions(&bare), u64::from(SESSIONS), "none expires early");
    let mut turns = 0;
    bare.io.now.mono_ms += 2_000;
    while sessions(&bare) > 0 {
        let before = sessions(&bare);
        bare.turn();
        let ended = before - sessions(&bare);
        assert!(ended <= ENDS_PER_TURN_MAX, "{ended} sessions ended in one turn");
        let asks = bare.io.wake_at_ms.is_some_and(|at| at <= bare.io.now.mono_ms);
        assert!(asks || sessions(&bare) == 0, "the rest is not forgotten: {:?}", bare.io.wake_at_ms);
        turns += 1;
        assert!(turns < 1000, "{} sessions never end", sessions(&bare));
    }
    let (ledger, traffic) = bare.engine.figures();
    assert_eq!((traffic.subscriptions, ledger.queued), (0, 0));
}
