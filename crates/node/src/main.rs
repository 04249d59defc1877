//! The native executable: node, controller, proxy and reaper, and the command line tool. Which of them it is stands
//! in the environment, so that the whole command line of a process can be its title.
//!
//! This is the composition root: the only place that knows every part. A reader begins in [`supervisor`].

mod api;
mod cli;
mod directory;
mod inherited;
mod link;
mod listener;
mod node;
mod output;
mod owner;
mod phase;
mod pidfd;
mod presence;
mod processes;
mod proxy_watch;
mod publisher;
mod ready;
mod reaper;
mod replicas;
mod restarts;
mod roles;
mod run_directory;
mod service;
mod settings;
mod spawn;
mod state_directory;
mod state_watch;
mod supervisor;
mod telemetry;

use std::process::ExitCode;

fn main() -> ExitCode {
    // Children are started through /proc/self/exe, after which the kernel would call them `exe`.
    rustix::thread::set_name(c"eagleray").ok();
    let result = match settings::set(settings::ROLE).as_deref() {
        None => return cli::main(),
        Some("node") => return node::main(),
        Some("controller") => roles::controller(),
        Some("proxy") => roles::proxy(),
        Some("reaper") => reaper::main().map(|()| ExitCode::SUCCESS),
        Some(other) => Err(format!("{}={other} is not a role", settings::ROLE)),
    };
    match result {
        Ok(code) => code,
        Err(message) => {
            cli::complain(&message);
            ExitCode::FAILURE
        }
    }
}
