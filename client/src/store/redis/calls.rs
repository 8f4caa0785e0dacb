//! Connections to Redis, and what is tried again.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hashbrown::HashSet;
use redis::{
    Client, Connection, ErrorKind, FromRedisValue, Pipeline, RedisError, RedisResult, ServerErrorKind,
};

use super::RedisOptions;
use crate::store::StoreError;

/// The pause before a call is tried again; twice as long each time.
const PAUSE_FIRST: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_millis(500);
/// For so long after a call gave up, others fail at once; twice as long each time.
const DOWN_FIRST: Duration = Duration::from_millis(100);
const DOWN_MAX: Duration = Duration::from_secs(2);

/// Connections that are not in use, and how many are.
#[derive(Default)]
struct Pool {
    idle: Vec<Connection>,
    in_use: usize,
}

/// Redis could not be reached.
#[derive(Debug)]
struct Down {
    detail: String,
    until: Instant,
    span: Duration,
}

/// The way to a Redis.
pub(super) struct Calls {
    pub(super) options: RedisOptions,
    client: Client,
    pool: Mutex<Pool>,
    given_back: Condvar,
    down: Mutex<Option<Down>>,
    /// Sessions that are open.
    claimed: Mutex<HashSet<Box<str>>>,
}

impl std::fmt::Debug for Calls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Calls")
            .field("store", &self.name())
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What our locks guard is whole after each statement, so a panic of a holder spoils nothing.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A connection on loan; without one it counts as given back, and the connection as lost.
struct Loan<'a> {
    calls: &'a Calls,
    connection: Option<Connection>,
}

impl Drop for Loan<'_> {
    fn drop(&mut self) {
        let mut pool = lock(&self.calls.pool);
        pool.in_use -= 1;
        pool.idle.extend(self.connection.take());
        drop(pool);
        self.calls.given_back.notify_one();
    }
}

impl Calls {
    pub(super) fn new(address: &str, options: RedisOptions) -> Result<Self, StoreError> {
        let refused = |detail: String| StoreError::Failed { store: "the store in Redis".to_owned(), detail };
        // The error may quote the address, which may have a password.
        let client = Client::open(address).map_err(|error| {
            let why = error.category().to_owned();
            refused(format!(
                "its address makes no sense ({why}): write redis://[user:password@]host[:port][/database]"
            ))
        })?;
        if options.connections_max == 0 {
            return Err(refused("connections_max is 0: make it 1 or more".to_owned()));
        }
        if options.timeout.is_zero() || options.ttl.is_some_and(|ttl| ttl.is_zero()) {
            return Err(refused(
                "a timeout or a time to live of 0 makes no sense: leave it out, or raise it".to_owned(),
            ));
        }
        Ok(Self {
            options,
            client,
            pool: Mutex::default(),
            given_back: Condvar::new(),
            down: Mutex::default(),
            claimed: Mutex::default(),
        })
    }

    /// What the store is called in errors: without a password.
    pub(super) fn name(&self) -> String {
        format!("the store in Redis at {}", self.client.get_connection_info().addr())
    }

    pub(super) fn too_large(&self, bytes: usize, bytes_max: usize) -> StoreError {
        StoreError::TooLarge { store: self.name(), bytes, bytes_max }
    }

    /// Whether a session was free, and is taken now.
    pub(super) fn claim(&self, session: &str) -> bool {
        lock(&self.claimed).insert(session.into())
    }

    pub(super) fn give_up(&self, session: &str) {
        lock(&self.claimed).remove(session);
    }

    pub(super) fn claimed(&self) -> Vec<Box<str>> {
        lock(&self.claimed).iter().cloned().collect()
    }

    /// Has commands carried out.
    pub(super) fn run(&self, fill: &dyn Fn(&mut Pipeline)) -> Result<(), StoreError> {
        self.call(fill, &|pipeline, connection| pipeline.exec(connection))
    }

    /// Has commands carried out, and their answers.
    pub(super) fn query<T: FromRedisValue>(&self, fill: &dyn Fn(&mut Pipeline)) -> Result<T, StoreError> {
        self.call(fill, &|pipeline, connection| pipeline.query(connection))
    }

    /// Every call may be repeated, so it is when what became of it is not known.
    fn call<T>(
        &self,
        fill: &dyn Fn(&mut Pipeline),
        send: &dyn Fn(&Pipeline, &mut Connection) -> RedisResult<T>,
    ) -> Result<T, StoreError> {
        self.fail_while_down()?;
        let mut pipeline = redis::pipe();
        fill(&mut pipeline);
        let deadline = Instant::now() + self.options.retry_for;
        let mut pause = PAUSE_FIRST;
        loop {
            let error = match self.try_once(&pipeline, send) {
                Ok(value) => {
                    *lock(&self.down) = None;
                    return Ok(value);
                }
                Err(error) => error,
            };
            if !is_passing(&error) {
                return Err(self.refusal(&error));
            }
            if Instant::now() + pause >= deadline {
                return Err(self.give_up_for_now(error.to_string()));
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    fn try_once<T>(
        &self,
        pipeline: &Pipeline,
        send: &dyn Fn(&Pipeline, &mut Connection) -> RedisResult<T>,
    ) -> RedisResult<T> {
        let mut loan = self.borrow();
        let mut connection = match loan.connection.take() {
            Some(connection) => connection,
            None => self.connect()?,
        };
        let outcome = send(pipeline, &mut connection);
        // After any other failure, what is still under way on it is not known.
        if outcome.as_ref().map_or_else(|error| matches!(error.kind(), ErrorKind::Server(_)), |_| true) {
            loan.connection = Some(connection);
        }
        outcome
    }

    /// An idle connection or the place of one, waiting for it.
    fn borrow(&self) -> Loan<'_> {
        let mut pool = lock(&self.pool);
        while pool.in_use >= self.options.connections_max {
            pool = self.given_back.wait(pool).unwrap_or_else(PoisonError::into_inner);
        }
        pool.in_use += 1;
        Loan { calls: self, connection: pool.idle.pop() }
    }

    fn connect(&self) -> RedisResult<Connection> {
        let timeout = self.options.timeout;
        let connection = self.client.get_connection_with_timeout(timeout)?;
        connection.set_read_timeout(Some(timeout))?;
        connection.set_write_timeout(Some(timeout))?;
        Ok(connection)
    }

    /// An outage is waited for once, not by each call.
    fn fail_while_down(&self) -> Result<(), StoreError> {
        match &*lock(&self.down) {
            Some(Down { detail, until, .. }) if Instant::now() < *until => {
                Err(self.unavailable(detail.clone()))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn give_up_for_now(&self, detail: String) -> StoreError {
        lock(&self.pool).idle.clear();
        let mut down = lock(&self.down);
        let span = down.as_ref().map_or(DOWN_FIRST, |down| (down.span * 2).min(DOWN_MAX));
        *down = Some(Down { detail: detail.clone(), until: Instant::now() + span, span });
        self.unavailable(detail)
    }

    fn unavailable(&self, detail: String) -> StoreError {
        StoreError::Unavailable { store: self.name(), detail }
    }

    fn refusal(&self, error: &RedisError) -> StoreError {
        let detail = error.to_string();
        if detail.contains("OOM") {
            // Redis's own word for it: "OOM command not allowed when used memory > 'maxmemory'".
            return StoreError::Full {
                store: self.name(),
                holds: "all that its maxmemory allows".to_owned(),
            };
        }
        StoreError::Failed {
            store: self.name(),
            detail: format!("{detail}; see its log and its configuration"),
        }
    }
}

/// Whether it may work when tried again.
fn is_passing(error: &RedisError) -> bool {
    match error.kind() {
        ErrorKind::Io | ErrorKind::Parse => true,
        // A transaction has one for each command that was refused.
        ErrorKind::Server(_) => error
            .clone()
            .into_server_errors()
            .is_some_and(|errors| errors.iter().all(|(_, error)| error.kind().is_some_and(is_passing_kind))),
        // Another crate's, and open: what is not known to pass does not.
        _ => false,
    }
}

fn is_passing_kind(kind: ServerErrorKind) -> bool {
    matches!(
        kind,
        ServerErrorKind::BusyLoading
            | ServerErrorKind::TryAgain
            | ServerErrorKind::ClusterDown
            | ServerErrorKind::MasterDown
    )
}
