//! Handlers that behave, and those that do not.

use std::sync::mpsc::{Receiver, channel};

use super::*;
use crate::link::Overflow;

/// A deadline, not a pace: everything comes far sooner.
const DEADLINE: Duration = Duration::from_secs(30);

impl Item for u32 {
    type Waiter = ();

    fn dropped(self) {}

    fn is_kept(&self) -> bool {
        true
    }

    fn room_again((): ()) {}
}

fn worker(pool: &Arc<Pool>, call: impl FnMut(u32) + Send + 'static) -> (Arc<Worker<u32>>, Receiver<String>) {
    let (report, reports) = channel();
    let report = Mutex::new(report);
    let report = move |said: &str| report.lock().unwrap().send(said.to_owned()).unwrap();
    let inbox = Inbox::new(100_000, Overflow::Withhold);
    (Arc::new(Worker::new(inbox, pool, Box::new(call), Box::new(report))), reports)
}

#[test]
fn a_handler_gets_its_items_in_order_one_at_a_time() {
    let pool = Pool::new(8);
    let (seen, receiver) = channel();
    let workers: Vec<_> = (0..16)
        .map(|name| {
            let seen = seen.clone();
            let mut next = 0;
            let call = move |number| {
                assert_eq!(number, next);
                next += 1;
                if next == 2_000 {
                    seen.send(name).unwrap();
                }
            };
            worker(&pool, call)
        })
        .collect();
    for start in (0..2_000).step_by(10) {
        for (worker, _) in &workers {
            worker.put(&mut (start..start + 10).collect());
        }
    }
    let mut done: Vec<u32> = (0..16).map(|_| receiver.recv_timeout(DEADLINE).unwrap()).collect();
    done.sort_unstable();
    assert_eq!(done, (0..16).collect::<Vec<_>>());
    assert!(workers.iter().all(|(worker, _)| worker.panics() == 0));
}

#[test]
fn a_panic_is_counted_and_the_next_item_handled() {
    let pool = Pool::new(2);
    let (seen, receiver) = channel();
    let (worker, reports) = worker(&pool, move |number| {
        assert!(number % 2 == 0, "odd: {number}");
        seen.send(number).unwrap();
    });
    worker.put(&mut vec![1, 2, 3, 4]);
    assert_eq!(receiver.recv_timeout(DEADLINE), Ok(2));
    assert_eq!(receiver.recv_timeout(DEADLINE), Ok(4));
    assert_eq!(reports.recv_timeout(DEADLINE).unwrap(), "odd: 1");
    assert_eq!(reports.recv_timeout(DEADLINE).unwrap(), "odd: 3");
    assert_eq!(worker.panics(), 2);
}

#[test]
fn handlers_that_block_hold_up_themselves_only() {
    let pool = Pool::new(64);
    let (open, gate) = channel::<()>();
    let gate = Arc::new(Mutex::new(gate));
    let blocked: Vec<_> = (0..40)
        .map(|_| {
            let gate = Arc::clone(&gate);
            // Until the other end is dropped.
            let call = move |_| assert!(gate.lock().unwrap().recv().is_err());
            worker(&pool, call).0
        })
        .collect();
    blocked.iter().for_each(|worker| worker.put(&mut vec![1]));
    let (seen, receiver) = channel();
    let (free, _) = worker(&pool, move |number| seen.send(number).unwrap());
    free.put(&mut vec![7]);
    assert_eq!(receiver.recv_timeout(DEADLINE), Ok(7));
    assert!(!pool.wait_idle(Instant::now()));
    drop(open);
    assert!(pool.wait_idle(Instant::now() + DEADLINE));
}

#[test]
fn threads_without_work_go_away() {
    let pool = Pool::with_idle_time(4, Duration::from_millis(1));
    let (seen, receiver) = channel();
    pool.run(move || seen.send(()).unwrap());
    receiver.recv_timeout(DEADLINE).unwrap();
    let until = Instant::now() + DEADLINE;
    while pool.threads() > 0 {
        assert!(Instant::now() < until);
        std::thread::yield_now();
    }
    let (seen, receiver) = channel();
    pool.run(move || seen.send(()).unwrap());
    receiver.recv_timeout(DEADLINE).expect("one is started again");
}

#[test]
fn a_handler_may_stop_itself_and_is_dropped() {
    let pool = Pool::new(2);
    let (seen, receiver) = channel();
    let own: Arc<Mutex<Option<Arc<Worker<u32>>>>> = Arc::default();
    let inside = Arc::clone(&own);
    // Hangs up when it is dropped.
    let (worker, _) = worker(&pool, move |number| {
        inside.lock().unwrap().take().unwrap().stop();
        seen.send(number).unwrap();
    });
    *own.lock().unwrap() = Some(Arc::clone(&worker));
    worker.put(&mut vec![1, 2, 3]);
    assert_eq!(receiver.recv_timeout(DEADLINE), Ok(1));
    assert!(receiver.recv_timeout(DEADLINE).is_err(), "2 and 3 are dropped, and then the handler is");
}

#[test]
fn an_ended_handler_handles_what_came_before() {
    let pool = Pool::new(2);
    let (go, wait) = channel::<()>();
    let (seen, receiver) = channel();
    let (worker, _) = worker(&pool, move |number| {
        wait.recv().unwrap();
        seen.send(number).unwrap();
    });
    worker.put(&mut vec![1, 2]);
    worker.end();
    worker.put(&mut vec![3]);
    go.send(()).unwrap();
    go.send(()).unwrap();
    assert_eq!(receiver.recv_timeout(DEADLINE), Ok(1));
    assert_eq!(receiver.recv_timeout(DEADLINE), Ok(2));
    assert!(receiver.recv_timeout(DEADLINE).is_err(), "and then is dropped");
}
