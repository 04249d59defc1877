//! The node: takes its run directory and sockets, starts everything, and runs its loop to the end.

use std::{cell::RefCell, fs::File, os::fd::OwnedFd, process::ExitCode, rc::Rc, time::Duration};

use rustix::process::setsid;
use tokio::{runtime::Builder, task::LocalSet};

use self::setup::Setup;
use crate::{
    api::Api,
    inherited,
    output::Watchers,
    owner,
    presence::Presence,
    ready::{self, Failure, Up},
    replicas::Replicas,
    roles,
    service::Service,
    settings::{self, NodeOptions},
    state_directory::Logs,
    state_watch::StateWatch,
    supervisor::{Channels, Services, Supervisor},
    telemetry,
};

mod setup;

/// Threads that may look through `/proc` at a time.
const SCANNING_THREADS: usize = 2;
const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

pub(crate) fn main() -> ExitCode {
    let options: NodeOptions = match settings::own_options() {
        Ok(options) => options,
        Err(message) => return complain(&message),
    };
    // First of all: nothing may be opened under these numbers before.
    let (owner_pipe, ready_pipe) = match (take(options.owner_fd), take(options.ready_fd)) {
        (Ok(owner), Ok(ready)) => (owner, ready.map(File::from)),
        (Err(message), _) | (_, Err(message)) => return complain(&message),
    };
    if let Err(message) = roles::survive_large_files() {
        return complain(&message);
    }
    if !options.foreground {
        // A session of its own, so that Ctrl-C in the terminal reaches the script alone, which ends its node in
        // order. It fails when the starter has seen to it already.
        setsid().ok();
    }
    match Setup::new(&options) {
        Ok(setup) => setup.run(&options, owner_pipe, ready_pipe),
        Err(failure) => report(&options, ready_pipe, &Err(failure)),
    }
}

fn take(number: Option<i32>) -> Result<Option<OwnedFd>, String> {
    number
        .map(inherited::take)
        .transpose()
        .map_err(|error| error.to_string())
}

fn complain(message: &str) -> ExitCode {
    crate::cli::complain(message);
    ExitCode::FAILURE
}

/// Says how the start went: on the pipe that waits for it, else on the terminal.
fn report(
    options: &NodeOptions,
    ready_pipe: Option<File>,
    result: &Result<Up, Failure>,
) -> ExitCode {
    let code = if result.is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    };
    match (ready_pipe, result) {
        (Some(pipe), _) => {
            if let Err(error) = ready::write(pipe, result) {
                tracing::warn!(%error, "nobody waits to hear that the node is up");
            }
        }
        (None, Ok(up)) if options.foreground => crate::cli::announce(up),
        (None, Ok(_)) => {}
        (None, Err(failure)) => crate::cli::complain(&failure.message),
    }
    code
}

impl Setup {
    fn run(
        self,
        options: &NodeOptions,
        owner_pipe: Option<OwnedFd>,
        ready_pipe: Option<File>,
    ) -> ExitCode {
        let runtime = match Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(SCANNING_THREADS)
            .thread_keep_alive(FOR_EVER)
            .build()
        {
            Ok(runtime) => runtime,
            Err(error) => return report(options, ready_pipe, &Err(Failure::from(error))),
        };
        // One of them is there from now on: a replica's death can be seen to when no thread can be made any more.
        runtime.spawn_blocking(|| {});
        let local = LocalSet::new();
        let code = local.block_on(&runtime, self.live(options, owner_pipe, ready_pipe));
        drop(local);
        runtime.shutdown_background();
        code
    }

    async fn live(
        self,
        options: &NodeOptions,
        owner_pipe: Option<OwnedFd>,
        mut ready_pipe: Option<File>,
    ) -> ExitCode {
        let log_directory = self.state.logs();
        let record = self.record(options);
        let up = self.up(&record);
        let info = Rc::new(RefCell::new(self.info(options)));
        let watchers = Rc::new(Watchers::default());
        let channels = Channels::new();
        let recipes = match self.recipes(options) {
            Ok(recipes) => recipes,
            Err(error) => return report(options, ready_pipe, &Err(Failure::from(error))),
        };
        // From here on the only copies are those that the services hold, so that they can be closed.
        drop((self.http, self.controller_socket));
        let [reaper, controller, proxy] =
            recipes.map(|recipe| Service::start(recipe, channels.service_sender.clone()));
        let logs = self.logs;
        let replicas = Replicas::new(
            self.directory.path(),
            &log_directory,
            &self.node_id,
            Rc::clone(&watchers),
            logs.clone(),
            channels.replica_sender.clone(),
        );
        let api = Api {
            info: Rc::clone(&info),
            watchers,
            shutdown: channels.shutdown_sender.clone(),
            counters: channels.counters_sender.clone(),
        };
        let directory = Rc::new(RefCell::new(self.directory));
        let presence = Presence::new(
            Rc::clone(&directory),
            StateWatch::new(self.state),
            record.clone(),
            api,
            self.node_socket,
        );
        let presence = match presence {
            Ok(presence) => presence,
            Err(error) => return report(options, ready_pipe, &Err(Failure::from(error))),
        };
        let owner = owner::gone(options.owner_pid, owner_pipe);
        let services = Services {
            reaper,
            controller,
            proxy,
        };
        let mut supervisor = Supervisor::new(
            services,
            replicas,
            presence,
            info,
            log_directory,
            logs.clone(),
        );
        let announce = |result: Result<(), Failure>| {
            let result =
                result.and_then(|()| Ok(directory.borrow().publish(&record).map(|()| up)?));
            report(options, ready_pipe.take(), &result)
        };
        let outcome = supervisor.run(channels, owner, announce).await;
        tracing::info!("the node ends");
        telemetry::finish(&logs);
        if !outcome.in_order {
            // The reaper sees the pipe close, and ends the rest.
            return ExitCode::FAILURE;
        }
        // Directories last: a line logged after that has no place to go.
        supervisor.dismiss_reaper().await;
        let kept = if supervisor.any_replica_failed() {
            Logs::Keep
        } else {
            Logs::Remove
        };
        if let Err(error) = supervisor.leave(kept).await {
            tracing::warn!(%error, "what the node had on disk was not removed");
            telemetry::finish(&logs);
        }
        outcome.code
    }
}
