//! One thread of the proxy: a runtime, a clone of the listener, a router, and tasks that share a [`Shard`].
//!
//! Targets and the order to drain come over a bounded queue; the thread answers each when it has been carried out,
//! so that the control side knows when an update holds everywhere.

use std::{io, net::TcpListener, rc::Rc, sync::Arc, time::Duration};

use eagleray_router::service::{Applied, Handle, Reporter};
use eagleray_types::control::{TargetUpdate, Unreachable};
use tokio::{
    runtime::{Builder, LocalOptions},
    sync::mpsc,
    task::JoinSet,
};

use crate::{
    accept::{accept, unpace},
    access_log::FLUSH_AFTER,
    connection::Patience,
    loads::Loads,
    options::Options,
    settings::Settings,
    shard::{Shard, Shared},
};

/// A sweep of all connections, at most.
const TICK: Duration = Duration::from_secs(1);

/// To a thread.
#[derive(Clone, Debug)]
pub(crate) enum Order {
    Update(Arc<TargetUpdate>),
    /// Begin to accept connections.
    Accept,
    /// Say something.
    Turn,
    /// These hold from now on.
    Configure(Arc<Settings>),
    Drain,
}

/// From a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Done {
    Started,
    Accepting,
    Turned,
    Configured,
    Update(Applied),
    Drained,
    Failed,
}

/// What a thread is started with.
pub(crate) struct Start {
    /// Among the threads of the process.
    pub(crate) index: usize,
    /// `None`: no HTTP.
    pub(crate) listener: Option<TcpListener>,
    pub(crate) options: Options,
    pub(crate) seed: u64,
    pub(crate) settings: Settings,
    pub(crate) shared: Shared,
    pub(crate) orders: mpsc::Receiver<Order>,
    pub(crate) done: mpsc::Sender<Done>,
    /// Replicas that the thread cannot connect to.
    pub(crate) unreachable: mpsc::Sender<Unreachable>,
}

/// Runs a thread until it has drained or the control side is gone.
pub(crate) fn run(start: Start) -> io::Result<()> {
    let done = start.done.clone();
    let result = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())
        .and_then(|runtime| runtime.block_on(serve(start)));
    if result.is_err() && done.blocking_send(Done::Failed).is_err() {
        tracing::debug!("the control side is gone");
    }
    result
}

fn for_tokio(listener: TcpListener) -> io::Result<tokio::net::TcpListener> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    unpace(&listener);
    Ok(listener)
}

async fn serve(start: Start) -> io::Result<()> {
    let Start {
        index,
        listener,
        options,
        seed,
        settings,
        shared,
        mut orders,
        done,
        unreachable,
    } = start;
    let mut listener = listener.map(for_tokio).transpose()?;
    let (router, driver) = Handle::with_driver(eagleray_router::service::Options {
        seed,
        limits: Arc::clone(&shared.router_limits),
        regions: None,
        unreachable: Some(unreachable),
    });
    let name = format!("proxy {}/{index}", std::process::id());
    let reporter = Rc::new(Reporter::new(router.clone(), name));
    let loads = Arc::clone(&shared.loads);
    let shard = Rc::new(Shard::new(router, &options, seed, settings, shared));
    // Dropped with this function, and its tasks with it. None of them ends by itself.
    let mut tasks = JoinSet::new();
    tasks.spawn_local(async {
        if let Err(error) = driver.await {
            tracing::error!(%error, "the router's driver ended");
        }
    });
    tasks.spawn_local(sweep(Rc::clone(&shard)));
    tasks.spawn_local(write_access_log(Rc::clone(&shard)));
    tasks.spawn_local(read_abandoned(Rc::clone(&shard)));
    tasks.spawn_local(report(index, Rc::clone(&reporter), Arc::clone(&loads)));
    tell(&done, Done::Started).await;
    let mut is_accepting = false;
    loop {
        let order = tokio::select! {
            // A task first: without it no order can be carried out.
            biased;
            Some(ended) = tasks.join_next() => {
                return Err(io::Error::other(format!("one of its tasks ended: {ended:?}")));
            }
            order = orders.recv() => order,
        };
        match order {
            Some(Order::Update(update)) => {
                let applied = shard.apply(&update);
                if update.snapshot && applied == Applied::Applied {
                    // Of a controller that may know nothing yet: before it hears that this was applied.
                    loads.say(index, reporter.whole());
                }
                tell(&done, Done::Update(applied)).await;
            }
            Some(Order::Accept) => {
                if let Some(listener) = listener.take() {
                    tasks.spawn_local(accept(Rc::clone(&shard), listener));
                    is_accepting = true;
                }
                tell(&done, Done::Accepting).await;
            }
            Some(Order::Turn) => tell(&done, Done::Turned).await,
            Some(Order::Configure(settings)) => {
                // Its own: those of another thread would share the count of who uses them.
                shard.configure(Settings::clone(&settings));
                tell(&done, Done::Configured).await;
            }
            Some(Order::Drain) => {
                drop(listener.take());
                shard.begin_drain();
                if is_accepting {
                    // The only task that ends by itself: when the backlog is empty and the socket closed.
                    tasks.join_next().await;
                }
                shard.drain().await;
                break;
            }
            None => break,
        }
    }
    shard.flush_access_log();
    tell(&done, Done::Drained).await;
    Ok(())
}

/// The control side may be gone; then there is nobody to tell, and the orders end too.
async fn tell(done: &mpsc::Sender<Done>, what: Done) {
    if done.send(what).await.is_err() {
        tracing::debug!("the control side is gone");
    }
}

async fn sweep(shard: Rc<Shard>) {
    loop {
        let (patience, period) = patience(&shard.settings());
        let mut interval = tokio::time::interval(period);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = shard.settings_changed() => break,
                _ = interval.tick() => shard.sweep(&patience),
            }
        }
    }
}

/// The time limits of connections, and how often they are looked at.
fn patience(settings: &Settings) -> (Patience, Duration) {
    let limits = &settings.limits;
    let shortest = [
        settings.keep_alive,
        limits.header_read_s,
        limits.body_idle_s,
        limits.answer_idle_s,
    ]
    .into_iter()
    .fold(TICK * 4, Duration::min);
    let mut period = shortest / 4;
    if !limits.half_close_s.is_zero() {
        period = period.min(limits.half_close_s);
    }
    let period = period.max(Duration::from_millis(1));
    (Patience::new(settings.keep_alive, limits, period), period)
}

async fn report(index: usize, reporter: Rc<Reporter>, loads: Arc<Loads>) {
    loop {
        loads.say(index, reporter.next().await);
    }
}

async fn write_access_log(shard: Rc<Shard>) {
    loop {
        shard.access_log_has_lines().await;
        tokio::time::sleep(FLUSH_AFTER).await;
        shard.flush_access_log();
    }
}

async fn read_abandoned(shard: Rc<Shard>) {
    shard.abandoned.read(|| shard.notice_end()).await;
}
