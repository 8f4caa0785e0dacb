//! How fast sessions carry messages through a broker, and what that costs on both sides.
//!
//! Run it with `cargo run --release --example client_speed -- ADDRESS [NAME=VALUE ...]`, for instance
//! `mqtt://127.0.0.1:1883 broker_pid=4711 messages=1000000`:
//!
//! - `run`: which measurements, of `qos0,qos1,many,forward`; default all.
//! - `messages` (200000) of `bytes` (64) each, with at most `window` (16384) of them under way.
//! - `sessions` (256): publishers of `many`.
//! - `target`: the address that `forward` forwards to; default the first one.
//! - `broker_pid`: whose CPU time to count as the broker's.
//! - `cpu`: where to pin the I/O thread; default nowhere. The other threads go where `taskset` allows.
//!
//! CPU time is that of all threads, by `/proc/PID/task/*/schedstat`.

use std::collections::HashMap;
use std::error::Error;
use std::path::Path;
use std::str::FromStr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use ringmq::QoS;
use ringmq::client::{Forwarder, Manager, Message, Overflow, RouteOptions, Session, SessionBuilder, Source};

type Failure = Box<dyn Error + Send + Sync>;

/// A deadline for each step; nothing takes this long unless something is wrong.
const DEADLINE: Duration = Duration::from_secs(60);

/// What the command line says.
#[derive(Default)]
struct Settings {
    address: String,
    given: HashMap<String, String>,
}

impl Settings {
    fn read(mut arguments: impl Iterator<Item = String>) -> Result<Self, Failure> {
        const KNOWN: [&str; 8] =
            ["run", "messages", "bytes", "window", "sessions", "target", "broker_pid", "cpu"];
        let address =
            arguments.next().ok_or("give the broker's address first, as in mqtt://127.0.0.1:1883")?;
        let mut given = HashMap::new();
        for argument in arguments {
            match argument.split_once('=') {
                Some((name, value)) if KNOWN.contains(&name) => given.insert(name.into(), value.into()),
                Some(_) | None => {
                    return Err(
                        format!("{argument:?} is unknown: write NAME=VALUE, with one of {KNOWN:?}").into()
                    );
                }
            };
        }
        Ok(Self { address, given })
    }

    fn number<T: FromStr>(&self, name: &str, default: T) -> Result<T, Failure> {
        let Some(value) = self.given.get(name) else { return Ok(default) };
        value.parse().map_err(|_| format!("{name}={value} is no number that fits").into())
    }

    fn runs(&self, name: &str) -> bool {
        self.given.get("run").is_none_or(|list| list.split(',').any(|run| run == name))
    }
}

/// Nanoseconds of CPU that the threads of a process have had.
fn cpu_ns(process: &str) -> Result<u64, Failure> {
    let mut sum = 0;
    for task in std::fs::read_dir(Path::new("/proc").join(process).join("task"))? {
        // A thread may end meanwhile.
        let Ok(text) = std::fs::read_to_string(task?.path().join("schedstat")) else { continue };
        sum += text.split_whitespace().next().ok_or("an empty schedstat")?.parse::<u64>()?;
    }
    Ok(sum)
}

/// Sessions that are ready, and what is sent through them.
struct Bench<'a> {
    manager: Manager,
    settings: &'a Settings,
    messages: usize,
    window: usize,
    payload: Vec<u8>,
}

impl<'a> Bench<'a> {
    fn new(settings: &'a Settings) -> Result<Self, Failure> {
        let mut builder = Manager::builder();
        if settings.given.contains_key("cpu") {
            builder = builder.pin_to([settings.number("cpu", 0)?]);
        }
        Ok(Self {
            manager: builder.start()?,
            settings,
            messages: settings.number("messages", 200_000)?,
            window: settings.number("window", 16_384)?.max(1),
            payload: vec![b'x'; settings.number("bytes", 64)?],
        })
    }

    fn session(&self, name: String, address: &str) -> Result<Session, Failure> {
        let client_id = format!("speed-{}-{name}", std::process::id());
        let builder = SessionBuilder::quick(name, address).client_id(client_id);
        Ok(self.manager.add(builder.queue_messages_max(self.window))?)
    }

    /// Publishes by these sessions in turn to `into`, takes from `from`, and says how long it took.
    fn measure(
        &self,
        name: &str,
        qos: QoS,
        publishers: &[Session],
        (into, from): (&str, &str),
    ) -> Result<(), Failure> {
        let address = self.settings.given.get("target").filter(|_| into != from);
        let reader = self.session(format!("{name}-reader"), address.unwrap_or(&self.settings.address))?;
        let route = RouteOptions::new(from).qos(qos).capacity(2 * self.window).overflow(Overflow::Pause);
        let listener = reader.listen(route)?;
        self.manager.wait_all(DEADLINE)?;
        listener.wait_subscribed(DEADLINE)?;

        let broker = self.settings.given.get("broker_pid");
        let broker_ns = || broker.map_or(Ok(0), |pid| cpu_ns(pid));
        let taken = AtomicUsize::new(0);
        let (before, broker_before, began) = (cpu_ns("self")?, broker_ns()?, Instant::now());
        let outcome = std::thread::scope(|scope| {
            // The publisher's thread stays until its time was read.
            let (measured, wait) = channel::<()>();
            let taken = &taken;
            let publisher = scope.spawn(move || -> Result<(), Failure> {
                let message = Message::new(into, self.payload.clone()).qos(qos);
                for n in 0..self.messages {
                    while n - taken.load(Ordering::Acquire) >= self.window
                        && wait.try_recv() != disconnected()
                    {
                        std::thread::park();
                    }
                    publishers[n % publishers.len()].send(message.clone())?;
                }
                let _ = wait.recv();
                Ok(())
            });
            let take = || -> Result<(Duration, u64, u64), Failure> {
                let mut batch = Vec::new();
                let mut count = 0;
                while count < self.messages {
                    let received = listener.recv_many(&mut batch, 4096, DEADLINE);
                    count +=
                        received.map_err(|error| format!("{count} of {} came: {error}", self.messages))?;
                    batch.clear();
                    taken.store(count, Ordering::Release);
                    publisher.thread().unpark();
                }
                Ok((began.elapsed(), cpu_ns("self")? - before, broker_ns()? - broker_before))
            };
            let taken = take();
            drop(measured);
            publisher.thread().unpark();
            publisher.join().map_err(|_| "the publisher's thread panicked")??;
            taken
        });
        let (time, client, broker_time) = outcome?;
        let each = |ns: u64| ns / self.messages as u64;
        let rate = self.messages as f64 / time.as_secs_f64();
        print!("{name:8} {rate:>11.0} messages/s   client {:>6} ns each", each(client));
        match broker {
            Some(_) => println!("   broker {:>6} ns each", each(broker_time)),
            None => println!(),
        }
        self.manager.remove(reader.name())?;
        Ok(())
    }

    fn publishers(&self, name: &str, count: usize) -> Result<Vec<Session>, Failure> {
        (0..count).map(|n| self.session(format!("{name}-writer-{n}"), &self.settings.address)).collect()
    }

    fn direct(&self, name: &str, qos: QoS, sessions: usize) -> Result<(), Failure> {
        let topic = format!("speed/{}/{name}", std::process::id());
        let publishers = self.publishers(name, sessions)?;
        self.measure(name, qos, &publishers, (&topic, &topic))?;
        publishers.iter().try_for_each(|session| self.manager.remove(session.name()))?;
        Ok(())
    }

    fn forward(&self) -> Result<(), Failure> {
        let [into, from] = ["in", "out"].map(|end| format!("speed/{}/{end}", std::process::id()));
        let publishers = self.publishers("forward", 1)?;
        let source = self.session("forward-source".to_owned(), &self.settings.address)?;
        let address = self.settings.given.get("target").unwrap_or(&self.settings.address);
        let target = self.session("forward-target".to_owned(), address)?;
        let builder = Forwarder::builder("speed").source(Source::new(&source, &*into)).target(&target);
        let forwarder = builder.map(&into, &from).start()?;
        forwarder.wait_subscribed(DEADLINE)?;
        self.measure("forward", QoS::AtLeastOnce, &publishers, (&into, &from))?;
        let stats = forwarder.stop(DEADLINE);
        let (dropped, failed) = (stats.dropped(), stats.failed());
        println!(
            "         received {} = sent {} + dropped {dropped} + failed {failed}",
            stats.received, stats.sent
        );
        if stats.received != stats.sent + dropped + failed || dropped + failed > 0 {
            return Err("something was lost".into());
        }
        Ok(())
    }
}

/// What a channel says whose other end is gone.
fn disconnected() -> Result<(), std::sync::mpsc::TryRecvError> {
    Err(std::sync::mpsc::TryRecvError::Disconnected)
}

fn run(settings: &Settings) -> Result<(), Failure> {
    let bench = Bench::new(settings)?;
    if settings.runs("qos0") {
        bench.direct("qos0", QoS::AtMostOnce, 1)?;
    }
    if settings.runs("qos1") {
        bench.direct("qos1", QoS::AtLeastOnce, 1)?;
    }
    if settings.runs("many") {
        bench.direct("many", QoS::AtLeastOnce, settings.number("sessions", 256)?.max(1))?;
    }
    if settings.runs("forward") {
        bench.forward()?;
    }
    bench.manager.shutdown(DEADLINE)?;
    Ok(())
}

fn main() -> Result<(), Failure> {
    run(&Settings::read(std::env::args().skip(1))?)
}

#[test]
fn the_example_runs() {
    let broker =
        ringmq::Broker::builder().listen("127.0.0.1:0".parse().expect("an address")).shards(1).start();
    let broker = broker.expect("a broker");
    let address = format!("mqtt://{}", broker.addresses()[0]);
    let pid = format!("broker_pid={}", std::process::id());
    let arguments = [&*address, "messages=5000", "sessions=8", "window=500", &pid].map(str::to_owned);
    let settings = Settings::read(arguments.into_iter()).expect("the arguments make sense");
    run(&settings).expect("every measurement of the example works");
    assert!(Settings::read(["mqtt://x", "message=1"].map(str::to_owned).into_iter()).is_err());
}
