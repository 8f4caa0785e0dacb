//! One shard's thread: its executor, and the task that turns and sleeps.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::time::Duration;

use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement};
use ringmq_turn::{Core, ShardId};

use crate::config::{FAILURE_GRACE_MS, RuntimeConfig};
use crate::driver::{Driver, Next, OnEvent, Parts};
use crate::error::{ShardFailure, StartError};
use crate::listen::{Listener, listen_error};
use crate::mesh::Mesh;
use crate::ring::Ring;
use crate::shared::Shared;

/// Makes the core of a shard, on its thread.
pub(crate) type MakeCore<C> = Arc<dyn Fn(ShardId) -> C + Send + Sync>;

/// What a shard's thread is started with.
pub(crate) struct Setup<C: Core> {
    pub me: ShardId,
    /// Where to run; absent leaves it to the kernel.
    pub cpu: Option<usize>,
    pub config: Arc<RuntimeConfig>,
    pub make_core: MakeCore<C>,
    pub on_event: OnEvent<C::Event>,
    pub shared: Arc<Shared<C::Command>>,
    pub mesh: Mesh<C::Message>,
    pub listeners: Vec<Listener>,
    /// Told when the shard is ready, and again when it listens.
    pub progress: Sender<Result<(), StartError>>,
    /// Says when all are ready; hangs up when one is not.
    pub go: Receiver<()>,
}

/// What a shard left undone.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Left {
    pub connections: usize,
    pub bytes: usize,
}

/// Starts the thread of a shard.
pub(crate) fn spawn<C: Core + 'static>(setup: Setup<C>) -> Result<ExecutorJoinHandle<Left>, StartError> {
    let (shard, cpu) = (setup.me, setup.cpu);
    LocalExecutorBuilder::new(cpu.map_or(Placement::Unbound, Placement::Fixed))
        .name(&format!("shard-{shard}"))
        // The data path does not use glommio's rings.
        .io_memory(64 * 1024)
        .spawn(move || run(setup))
        .map_err(|error| StartError::Executor { shard, cpu, cause: error.to_string() })
}

async fn run<C: Core + 'static>(setup: Setup<C>) -> Left {
    let (me, shared) = (setup.me, Arc::clone(&setup.shared));
    let left = match start(setup) {
        Some(driver) => drive(driver),
        None => Left::default(),
    };
    shared.set_quiet(me, true);
    left
}

/// Everything up to the first turn; `None` when this shard or another could not start.
fn start<C: Core>(setup: Setup<C>) -> Option<Driver<C>> {
    let Setup { me, config, make_core, on_event, shared, mesh, listeners, progress, go, .. } = setup;
    let ring = match Ring::new(&config) {
        Ok(ring) => ring,
        Err(source) => {
            let _ = progress.send(Err(StartError::Ring { shard: me, source }));
            return None;
        }
    };
    let core = match catch_unwind(AssertUnwindSafe(|| make_core(me))) {
        Ok(core) => core,
        Err(panic) => {
            let failure = ShardFailure { shard: me, message: panic_message(panic.as_ref()) };
            let _ = progress.send(Err(failure.into()));
            return None;
        }
    };
    // No one listens when another shard could not start.
    progress.send(Ok(())).ok()?;
    go.recv().ok()?;
    let wanted = Arc::clone(&config);
    let mut driver = Driver::new(Parts { me, core, ring, mesh, shared, on_event, listeners, config });
    let listening =
        driver.listen().map_err(|(index, error)| listen_error(&wanted.listeners[index].address, error));
    let listens = listening.is_ok();
    let _ = progress.send(listening);
    listens.then_some(driver)
}

/// Runs a shard to its end. Its executor has no other task, so it need not be given a turn: the shard
/// sleeps in its own ring.
fn drive<C: Core>(mut driver: Driver<C>) -> Left {
    let spin = driver.spin_time();
    let mut failed = None;
    let mut busy = false;
    while failed.is_none() {
        match catch_unwind(AssertUnwindSafe(|| driver.turn())) {
            Ok(Next::Turn) => busy = true,
            Ok(Next::Sleep) => {
                if std::mem::take(&mut busy) && !spin.is_zero() && driver.spin(spin) {
                    continue;
                }
                driver.sleep();
                // Woken for something: what follows it comes soon, if at all.
                busy = true;
            }
            Ok(Next::End) => break,
            Err(panic) => failed = Some(panic_message(panic.as_ref())),
        }
    }
    if let Some(message) = failed {
        let failure = ShardFailure { shard: driver.me, message };
        driver.shared.fail(failure, Duration::from_millis(FAILURE_GRACE_MS));
    }
    finish(driver)
}

/// Lets go of everything. A core that panicked may panic again when it is dropped.
fn finish<C: Core>(mut driver: Driver<C>) -> Left {
    let shard = driver.me;
    catch_unwind(AssertUnwindSafe(move || {
        let left = driver.abandon();
        drop(driver);
        left
    }))
    .unwrap_or_else(|panic| {
        tracing::error!(%shard, message = panic_message(panic.as_ref()), "a shard failed while it ended");
        Left::default()
    })
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_else(|| "a panic without a message".to_owned())
}
