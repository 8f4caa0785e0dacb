//! Packet ids, flights and queues.

use super::*;

fn id(n: u16) -> PacketId {
    PacketId::new(n).unwrap()
}

#[test]
fn ids_start_at_one_and_wrap_past_zero() {
    let mut out = Outgoing::new(10);
    for n in (1..=65_535).chain(1..=3) {
        assert_eq!(out.launch(Progress::AwaitsPubAck, None), id(n));
        assert!(out.land(id(n), Progress::AwaitsPubAck).is_some());
    }
    assert_eq!(out.unacked(), 0);
}

#[test]
fn acks_in_any_order_free_their_flights() {
    let mut out = Outgoing::new(3);
    for _ in 0..3 {
        out.launch(Progress::AwaitsPubAck, None);
    }
    assert!(!out.has_room());
    assert!(out.land(id(2), Progress::AwaitsPubAck).is_some());
    assert!(out.land(id(2), Progress::AwaitsPubAck).is_none(), "a second ack finds nothing");
    assert!(out.land(id(1), Progress::AwaitsPubComp).is_none(), "the wrong ack ends nothing");
    assert!(out.has_room());
    assert_eq!(out.in_flight().map(|(id, _)| id.get()).collect::<Vec<_>>(), [1, 3]);
}

#[test]
fn flights_go_again_in_order_and_within_the_new_bound() {
    let mut out = Outgoing::new(10);
    for progress in [Progress::AwaitsPubAck, Progress::AwaitsPubComp, Progress::AwaitsPubAck] {
        out.launch(progress, None);
    }
    out.launch(Progress::AwaitsPubAck, None);
    out.set_limit(2);
    out.plan_resends();
    assert_eq!(out.next_resend().map(|(id, _)| id), Some(id(1)));
    assert!(out.next_resend().is_none(), "the released one takes room too");
    assert!(out.land(id(3), Progress::AwaitsPubAck).is_some(), "a late answer spares the repetition");
    assert!(out.land(id(1), Progress::AwaitsPubAck).is_some());
    assert!(!out.has_room() && out.has_waiting(), "old messages go before new ones");
    assert_eq!(out.next_resend().map(|(id, _)| id), Some(id(4)));
    assert!(out.land(id(2), Progress::AwaitsPubComp).is_some());
    assert!(out.has_room());
}

#[test]
fn an_id_that_is_never_acknowledged_is_never_used_twice() {
    let mut out = Outgoing::new(1000);
    let stuck = out.launch(Progress::AwaitsPubRec, None);
    let mut others = 0;
    while out.has_room() {
        let next = out.launch(Progress::AwaitsPubAck, None);
        assert_ne!(next, stuck);
        assert!(out.land(next, Progress::AwaitsPubAck).is_some());
        others += 1;
    }
    assert_eq!(others, WINDOW_SPAN_MAX - 1);
    assert!(out.land(stuck, Progress::AwaitsPubRec).is_some());
    assert!(out.has_room() && out.unacked() == 0);
}

#[test]
fn numbers_survive_what_is_dropped_and_what_is_put_in_anew() {
    let entry = |at: u64| Queued::new(LogOffset::new(at), QoS::AtLeastOnce, false);
    let mut out = Outgoing::new(10);
    out.begin_at(QueueNumber(65_533), 0);
    for at in 0..5 {
        out.push(entry(at), 1);
    }
    out.take_front(1);
    assert_eq!(out.launch(Progress::AwaitsPubAck, Some(entry(0))), id(65_534));
    assert_eq!(out.drop_front(), QueueNumber(65_534));
    out.vacate(1, 1);
    assert_eq!(out.front(), Some(entry(2)));
    out.take_front(1);
    assert_eq!(out.launch(Progress::AwaitsPubAck, Some(entry(2))), id(1));
    assert_eq!(out.entry_mut(QueueNumber(65_536)), None, "its place is empty");
    assert_eq!(out.entry_mut(QueueNumber(65_537)).copied(), Some(entry(4)));
    assert_eq!(out.entry_mut(QueueNumber(65_533)).copied(), Some(entry(0)));
    assert_eq!(out.front(), Some(entry(4)));
    assert_eq!(out.next(), QueueNumber(65_538));
    assert_eq!(out.land(id(65_534), Progress::AwaitsPubAck).map(|landed| landed.number.0), Some(65_533));
    assert_eq!(out.first(), QueueNumber(65_535));
    let (flights, queue) = out.clear();
    assert_eq!(flights.iter().map(|landed| landed.number.0).collect::<Vec<_>>(), [65_535]);
    assert_eq!(queue, [(QueueNumber(65_537), entry(4))]);
}

#[test]
fn a_queue_entry_takes_sixteen_bytes_and_gives_back_what_it_holds() {
    assert_eq!(size_of::<Queued>(), 16);
    let entry = Queued::new(LogOffset::new(OFFSET_MASK), QoS::ExactlyOnce, true)
        .with(Some(GroupId(7)), IdsRef::one(9));
    assert_eq!(entry.message().get(), OFFSET_MASK);
    assert_eq!((entry.qos(), entry.retain(), entry.group()), (QoS::ExactlyOnce, true, Some(GroupId(7))));
    assert_eq!(entry.ids.resolve(&[]), [9]);
}
