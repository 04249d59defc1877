//! Controller, proxy and reaper: started, started again, and given up only before the node is up.

use std::time::Duration;

use rustix::process::Signal;

use super::{
    Core, DEATHS_WHILE_STARTING, Level, Role, ServiceCommand, ServiceNews, Trouble,
    phase::Phase,
    service::{Again, Service},
};

impl Core {
    pub(super) fn service(&mut self, role: Role) -> &mut Service {
        match role {
            Role::Controller => &mut self.controller,
            Role::Proxy => &mut self.proxy,
            Role::Reaper => &mut self.reaper,
        }
    }

    pub(super) fn start_service(&mut self, role: Role, now: Duration) {
        self.service(role).start(now);
        self.out.service(role, ServiceCommand::Start);
    }

    pub(super) fn on_service(&mut self, role: Role, news: ServiceNews, now: Duration) {
        match (role, news) {
            (_, ServiceNews::Started { pid }) => {
                self.service(role).started(pid);
                if role == Role::Proxy {
                    self.greet_proxy();
                }
            }
            (_, ServiceNews::NotStarted { error }) => {
                self.service_is_down(role, &format!("cannot be started: {error}"), now);
            }
            (_, ServiceNews::Ended { reason }) => self.service_is_down(role, &reason, now),
            (_, ServiceNews::DoesNotRead) => {
                if self.service(role).give_up() {
                    let what = if role == Role::Proxy {
                        "updates"
                    } else {
                        "events"
                    };
                    let message = format!(
                        "the {} does not read its {what} and is started again",
                        role.name()
                    );
                    self.out.log(Level::Error, message);
                    self.signal(role, Signal::KILL);
                }
            }
            (Role::Controller, ServiceNews::Said(message)) => self.on_controller(message, now),
            (Role::Proxy, ServiceNews::Said(message)) => self.on_proxy(message, now),
            (Role::Reaper, ServiceNews::Said(_)) => {}
        }
    }

    fn service_is_down(&mut self, role: Role, reason: &str, now: Duration) {
        if role == Role::Proxy {
            self.forget_proxy();
        }
        let Some(again) = self.service(role).ended(now) else {
            return;
        };
        let trouble = self.of_one_that_ended(role, reason, &again, now);
        let message = format!(
            "the {} ended ({reason}) and is started again in {:?}",
            role.name(),
            again.delay
        );
        self.out.log(Level::Warning, message);
        if role == Role::Proxy && again.crash_loop.is_some() {
            self.troubles.set_proxy("UNHEALTHY");
        }
        self.troubles.set(role.name(), trouble);
        if matches!(self.phase, Phase::Starting { .. }) {
            self.deaths_while_starting += 1;
            if self.deaths_while_starting >= DEATHS_WHILE_STARTING {
                let message = format!("the {} does not start ({reason})", role.name());
                self.fail_to_start(role, message, now);
            }
        }
    }

    /// What people are told until it is there again.
    fn of_one_that_ended(&self, role: Role, reason: &str, again: &Again, now: Duration) -> Trouble {
        let (name, delay) = (role.name(), again.delay.as_secs_f64());
        let meanwhile = match role {
            Role::Controller => {
                "Requests are served meanwhile; deploys, and replicas that died, wait for it."
            }
            Role::Proxy => "Connections wait until then.",
            Role::Reaper => "Nothing else waits for it.",
        };
        let (kind, sentence) = match &again.crash_loop {
            Some(words) => (
                "crash_loop",
                format!(
                    "The {name} is in a {words}, last: {reason}; next start in {delay:.1} s. {meanwhile}"
                ),
            ),
            None => (
                "restarting",
                format!("The {name} ended ({reason}) and is being started again. {meanwhile}"),
            ),
        };
        Trouble {
            code: format!("{name}_{kind}"),
            sentence,
            help: format!("Its log says why: {}", self.troubles.log_of(role).display()),
            since: now,
        }
    }

    pub(super) fn signal(&mut self, role: Role, signal: Signal) {
        if self.service(role).is_running() {
            self.out.service(role, ServiceCommand::Signal(signal));
        }
    }
}
