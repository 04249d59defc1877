//! The native executable: node, controller, proxy and reaper, and the command line tool. Which of them it is stands
//! in the environment, so that the whole command line of a process can be its title.
//!
//! This is the composition root: the only place that knows every part. What a node does is in
//! [`eagleray_supervisor`].

mod cli;
mod control_port;
mod inherited;
mod marks;
mod metrics;
mod metrics_port;
mod node;
mod reaper;
mod rest;
mod roles;
mod series;
mod settings;
mod taking;
mod telemetry;

use std::process::ExitCode;

use eagleray_supervisor::environment::{ROLE, set};

fn main() -> ExitCode {
    // Children are started through /proc/self/exe, after which the kernel would call them `exe`.
    rustix::thread::set_name(c"eagleray").ok();
    let result = match set(ROLE).as_deref() {
        None => return cli::main(),
        Some("node") => return node::main(),
        Some("controller") => roles::controller(),
        Some("proxy") => roles::proxy(),
        Some("reaper") => reaper::main().map(|()| ExitCode::SUCCESS),
        Some(other) => Err(format!("{ROLE}={other} is not a role")),
    };
    match result {
        Ok(code) => code,
        Err(message) => {
            eagleray_cli::complain(&message);
            ExitCode::FAILURE
        }
    }
}
