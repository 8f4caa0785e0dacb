//! All shards together: start, reach, stop.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use glommio::ExecutorJoinHandle;
use ringmq_turn::{Core, SHARDS_MAX, ShardId};

use crate::config::{ListenAddress, RuntimeConfig};
use crate::driver::OnEvent;
use crate::error::{ShardFailure, StartError};
use crate::listen::{Bound, bind_all};
use crate::mesh::meshes;
use crate::shard::{Left, MakeCore, Setup, spawn};
use crate::shared::{Handle, Shared};
use crate::sys;
use crate::unix::SocketFile;

/// Shards that run. Dropping it stops them without grace.
pub struct Runtime<C: Core> {
    shared: Arc<Shared<C::Command>>,
    listening: Vec<ListenAddress>,
    addresses: Vec<SocketAddr>,
    files: Vec<SocketFile>,
    shards: Vec<ExecutorJoinHandle<Left>>,
}

/// What a stopped runtime left undone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShutdownReport {
    /// Connections that were still open when the grace was over, and were cut.
    pub connections_cut: usize,
    /// Bytes that their peers had not taken.
    pub bytes_unsent: usize,
}

/// A shard on its way up.
struct Starting {
    id: ShardId,
    cpu: Option<usize>,
    thread: ExecutorJoinHandle<Left>,
    progress: Receiver<Result<(), StartError>>,
    go: Sender<()>,
}

/// Starts the shards and returns once each of them listens on every address, or none of them is left.
///
/// `make_core` is called once for each shard, on the shard's thread. `on_event` is called on the threads
/// of the shards and holds them up for as long as it takes.
pub fn start<C: Core + 'static>(
    config: RuntimeConfig,
    make_core: impl Fn(ShardId) -> C + Send + Sync + 'static,
    on_event: impl Fn(ShardId, C::Event) + Send + Sync + 'static,
) -> Result<Runtime<C>, StartError> {
    if let Some(fault) = config.fault() {
        return Err(StartError::Config(fault));
    }
    let cpus = shard_cpus(&config)?;
    let Bound { listeners, addresses: listening, files } = bind_all(&config, cpus.len())?;
    let shared = Shared::new(cpus.len(), config.commands_max).map_err(|error| {
        StartError::Config(format!("no eventfd for each shard: {error}; raise `ulimit -n`"))
    })?;
    let shared = Arc::new(shared);
    let config = Arc::new(config);
    let make_core: MakeCore<C> = Arc::new(make_core);
    let on_event: OnEvent<C::Event> = Arc::new(on_event);
    let lanes = meshes(cpus.len(), config.lane_messages_max);
    let mut starting: Vec<Starting> = Vec::with_capacity(cpus.len());
    for (index, ((&cpu, mesh), listeners)) in cpus.iter().zip(lanes).zip(listeners).enumerate() {
        let (progress, progressed) = channel();
        let (go, started) = channel();
        let id = ShardId::new(index);
        let spawned = spawn(Setup {
            me: id,
            cpu,
            config: Arc::clone(&config),
            make_core: Arc::clone(&make_core),
            on_event: Arc::clone(&on_event),
            shared: Arc::clone(&shared),
            mesh,
            listeners,
            progress,
            go: started,
        });
        match spawned {
            Ok(thread) => starting.push(Starting { id, cpu, thread, progress: progressed, go }),
            Err(error) => return Err(give_up(&shared, starting, error)),
        }
    }
    for step in [Step::Ready, Step::Listening] {
        if step == Step::Listening {
            for shard in &starting {
                // One that hung up is noticed below.
                let _ = shard.go.send(());
            }
        }
        if let Some(error) = starting.iter().find_map(|shard| shard.failed_step()) {
            return Err(give_up(&shared, starting, error));
        }
    }
    let names: Vec<_> = listening.iter().map(ListenAddress::to_string).collect();
    let addresses = format_args!("[{}]", names.join(", "));
    let pinned: Vec<usize> = cpus.iter().copied().flatten().collect();
    tracing::info!(shards = cpus.len(), cpus = ?pinned, addresses, "listening");
    let addresses = listening.iter().filter_map(ListenAddress::as_tcp).collect();
    let shards = starting.into_iter().map(|shard| shard.thread).collect();
    Ok(Runtime { shared, listening, addresses, files, shards })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Ready,
    Listening,
}

impl Starting {
    /// Waits for the shard's next step; what went wrong with it.
    fn failed_step(&self) -> Option<StartError> {
        match self.progress.recv() {
            Ok(step) => step.err(),
            // The thread ended without a word: its executor could not be made. The reason comes with it.
            Err(_) => Some(StartError::Executor { shard: self.id, cpu: self.cpu, cause: String::new() }),
        }
    }
}

/// Ends the shards that were started, and says why.
fn give_up<Command>(shared: &Shared<Command>, starting: Vec<Starting>, mut error: StartError) -> StartError {
    shared.stop(Duration::ZERO);
    for shard in starting {
        drop(shard.go);
        drop(shard.progress);
        let ended = shard.thread.join();
        if let (StartError::Executor { shard: failed, cause, .. }, Err(reason)) = (&mut error, ended)
            && *failed == shard.id
        {
            *cause = reason.to_string();
        }
    }
    error
}

/// The CPU of each shard that is to be pinned.
fn shard_cpus(config: &RuntimeConfig) -> Result<Vec<Option<usize>>, StartError> {
    let allowed = sys::affinity()
        .map_err(|error| StartError::Config(format!("cannot read the CPU affinity: {error}")))?;
    let cpus = if config.cpus.is_empty() { &allowed } else { &config.cpus };
    if let Some(cpu) = cpus.iter().find(|cpu| !allowed.contains(cpu)) {
        return Err(StartError::Config(format!("CPU {cpu} is not among those of this process, {allowed:?}")));
    }
    let shards = config.shards.unwrap_or(cpus.len().min(SHARDS_MAX));
    if shards == 0 || shards > SHARDS_MAX {
        return Err(StartError::Config(format!("{shards} shards, but 1 to {SHARDS_MAX} can run")));
    }
    if shards > cpus.len() {
        tracing::warn!(shards, cpus = cpus.len(), "more shards than CPUs: some share one");
    }
    Ok(cpus.iter().map(|&cpu| config.pinned.then_some(cpu)).cycle().take(shards).collect())
}

impl<C: Core> Runtime<C> {
    /// The TCP addresses listened on, in the order of the configuration, with the ports that the kernel
    /// chose.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// All addresses listened on, by [`ringmq_turn::ListenerId`].
    pub fn listening(&self) -> &[ListenAddress] {
        &self.listening
    }

    /// Reaches the shards from other threads.
    pub fn handle(&self) -> Handle<C::Command> {
        Handle::new(Arc::clone(&self.shared))
    }

    /// Waits for a shard to fail, for `timeout` at most. When one has, all are stopping already, and
    /// [`Runtime::shutdown`] is all that is left to call.
    pub fn wait_failure(&self, timeout: Duration) -> Option<ShardFailure> {
        self.shared.wait_failure(timeout)
    }

    /// Stops: no more connections are accepted, each core says goodbye, what they wrote goes out until
    /// nothing is left or the grace is over, and all threads end.
    ///
    /// # Errors
    /// A shard had failed, or failed now.
    pub fn shutdown(mut self, grace: Duration) -> Result<ShutdownReport, ShardFailure> {
        let report = self.stop(grace);
        match self.shared.failure() {
            Some(failure) => Err(failure),
            None => Ok(report),
        }
    }

    fn stop(&mut self, grace: Duration) -> ShutdownReport {
        self.files.clear();
        self.shared.stop(grace);
        let mut report = ShutdownReport::default();
        for thread in self.shards.drain(..) {
            match thread.join() {
                Ok(left) => {
                    report.connections_cut += left.connections;
                    report.bytes_unsent += left.bytes;
                }
                Err(error) => tracing::error!(%error, "a shard's executor failed"),
            }
        }
        report
    }
}

impl<C: Core> Drop for Runtime<C> {
    fn drop(&mut self) {
        if !self.shards.is_empty() {
            self.stop(Duration::ZERO);
        }
    }
}
