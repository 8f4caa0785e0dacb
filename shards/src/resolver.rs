//! Names to addresses, on a thread of its own: the system's lookup blocks.

use std::collections::VecDeque;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use ringmq_turn::{ConnectTicket, ShardId};

/// A name that a shard wants to know the addresses of.
#[derive(Clone, Debug)]
pub(crate) struct Query {
    pub host: Box<str>,
    pub port: u16,
    pub shard: ShardId,
    /// Whom it is for; the number tells users of one ticket apart.
    pub dial: (ConnectTicket, u64),
}

/// What came of a [`Query`].
#[derive(Clone, Debug)]
pub(crate) struct Resolved {
    pub dial: (ConnectTicket, u64),
    /// In the system's order, at least one; or what is wrong, as a sentence.
    pub outcome: Result<Vec<SocketAddr>, Box<str>>,
}

#[derive(Default)]
struct Waiting {
    queries: VecDeque<Query>,
    runs: bool,
    ends: bool,
}

/// What waits for the thread, which starts when there is something for the first time.
#[derive(Default)]
pub(crate) struct Resolver {
    waiting: Mutex<Waiting>,
    news: Condvar,
}

impl Resolver {
    // What the lock guards is whole after each statement, so a panic of a holder spoils nothing.
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a name looked up. `answer` is called on the thread, once for each query of this resolver; that
    /// of the first call is used for all.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn ask(
        self: &Arc<Self>,
        query: Query,
        answer: impl Fn(ShardId, Resolved) + Send + 'static,
    ) -> std::io::Result<()> {
        let mut waiting = self.waiting();
        if !waiting.runs {
            let resolver = Arc::clone(self);
            // Not joined: a lookup may take as long as its name servers let it.
            std::thread::Builder::new().name("resolver".to_owned()).spawn(move || resolver.run(answer))?;
            waiting.runs = true;
        }
        waiting.queries.push_back(query);
        self.news.notify_one();
        Ok(())
    }

    /// Ends the thread, after the lookup that it is at.
    pub fn end(&self) {
        self.waiting().ends = true;
        self.news.notify_one();
    }

    /// The oldest query, and all others for the same name; none at the end.
    fn next(&self) -> Option<(Query, Vec<Query>)> {
        let mut waiting = (self.news)
            .wait_while(self.waiting(), |waiting| !waiting.ends && waiting.queries.is_empty())
            .unwrap_or_else(PoisonError::into_inner);
        if waiting.ends {
            waiting.queries.clear();
            return None;
        }
        let first = waiting.queries.pop_front()?;
        let (same, other) = std::mem::take(&mut waiting.queries)
            .into_iter()
            .partition(|query| query.host == first.host && query.port == first.port);
        waiting.queries = other;
        Some((first, Vec::from_iter::<VecDeque<_>>(same)))
    }

    fn run(&self, answer: impl Fn(ShardId, Resolved)) {
        while let Some((first, others)) = self.next() {
            let outcome = look_up(&first.host, first.port);
            for query in std::iter::once(first).chain(others) {
                answer(query.shard, Resolved { dial: query.dial, outcome: outcome.clone() });
            }
        }
    }
}

fn look_up(host: &str, port: u16) -> Result<Vec<SocketAddr>, Box<str>> {
    let remedy = "check the name, and whether this machine can look names up (`getent hosts` does the same)";
    match (host, port).to_socket_addrs().map(Vec::from_iter) {
        Ok(addresses) if !addresses.is_empty() => Ok(addresses),
        Ok(_) => Err(format!("the name {host:?} has no address; {remedy}").into()),
        Err(cause) => Err(format!("cannot find the address of {host:?}: {cause}; {remedy}").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    fn query(host: &str, number: u64) -> Query {
        let dial = (ConnectTicket(number), number);
        Query { host: host.into(), port: 1883, shard: ShardId::new(0), dial }
    }

    #[test]
    fn each_query_has_its_answer() {
        let resolver = Arc::new(Resolver::default());
        let (tell, told) = channel();
        for number in 0..20 {
            let tell = tell.clone();
            let host = if number % 2 == 0 { "localhost" } else { "no such name" };
            let answer = move |_, resolved| tell.send(resolved).unwrap();
            resolver.ask(query(host, number), answer).unwrap();
        }
        let mut seen: Vec<Resolved> = told.iter().take(20).collect();
        seen.sort_by_key(|resolved| resolved.dial);
        for (number, resolved) in seen.iter().enumerate() {
            assert_eq!(resolved.dial.1, number as u64);
            match &resolved.outcome {
                Ok(addresses) => assert!(addresses.iter().all(|addr| addr.ip().is_loopback())),
                Err(text) => assert!(text.contains("\"no such name\"") && text.contains("getent"), "{text}"),
            }
            assert_eq!(resolved.outcome.is_ok(), number % 2 == 0);
        }
        resolver.end();
    }

    #[test]
    fn queries_for_one_name_are_answered_at_once() {
        let resolver = Resolver::default();
        for (number, host) in ["one", "two", "one", "three", "one"].into_iter().enumerate() {
            resolver.waiting().queries.push_back(query(host, number as u64));
        }
        let mut order = Vec::new();
        for _ in 0..3 {
            let (first, others) = resolver.next().unwrap();
            order.push([first].iter().chain(&others).map(|query| query.dial.1).collect::<Vec<_>>());
        }
        assert_eq!(order, [vec![0, 2, 4], vec![1], vec![3]]);
    }
}
