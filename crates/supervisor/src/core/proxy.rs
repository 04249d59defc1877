//! The proxy: it is told what routers know, asked whether it turns, and what it says is passed on.

use std::time::Duration;

use bytes::Bytes;
use eagleray_types::control::{
    ConfigureProxy, Empty, Loads, NodeCounters, ProxyConfigured, ProxyEvent, Tallies,
    node_event::Body, proxy_command, proxy_event,
};
use prost::Message;

use super::{
    Accepting, Command, Core, Level, Role, Trouble,
    proxy_watch::{Look, ProxyWatch},
    publisher::Published,
};

/// What the proxy's settings are called among troubles.
const HTTP_OPTIONS: &str = "http_options";

impl Core {
    /// A new proxy is told all that its predecessor was.
    pub(super) fn greet_proxy(&mut self) {
        let told = self.proxy_settings.clone();
        if told != ConfigureProxy::default() {
            self.out.tell_proxy(proxy_command::Body::Configure(told));
        }
        for update in self.publisher.replay() {
            let update = proxy_command::Body::Update(update.to_vec());
            self.out.tell_proxy(update);
        }
        if self.phase.is_ending() {
            self.out.ask_proxy(proxy_command::Body::Drain(Empty {}));
        }
        self.let_proxy_accept();
    }

    pub(super) fn forget_proxy(&mut self) {
        if let Some(pid) = self.proxy.pid() {
            let tallies = Vec::new();
            self.out.report(Body::Tallied(Tallies {
                pid,
                tallies,
                gone: true,
            }));
            self.out.report(Body::Loads(Loads {
                router: format!("proxy {pid}"),
                gone: true,
                ..Loads::default()
            }));
        }
        self.accepting = Accepting::NotYet;
        self.watch = ProxyWatch::default();
        self.troubles.set_proxy("STARTING");
        self.out.push(Command::Counted(None));
    }

    /// The proxy is to go by other settings, and so is each after it.
    pub(super) fn configure_proxy(&mut self, told: ConfigureProxy) {
        // What a proxy serves with is its own word alone.
        let kept = std::mem::take(&mut self.proxy_settings.kept);
        self.proxy_settings = ConfigureProxy { kept, ..told };
        if self.proxy.is_running() {
            let told = ConfigureProxy {
                kept: Vec::new(),
                ..self.proxy_settings.clone()
            };
            self.out.tell_proxy(proxy_command::Body::Configure(told));
        }
    }

    /// What the proxy goes by, and what it serves with, which its successor may need.
    fn on_configured(&mut self, mut said: ProxyConfigured, now: Duration) {
        let kept = std::mem::take(&mut said.kept);
        if !kept.is_empty() {
            self.proxy_settings.kept = kept;
        }
        if said.problem.is_empty() {
            self.troubles.clear(HTTP_OPTIONS);
        } else {
            let trouble = Trouble {
                code: "http_options_not_taken".to_owned(),
                sentence: format!(
                    "What the proxy had before is in force, since {}.",
                    said.problem
                ),
                help: "Mend the file, which is noticed within seconds, or deploy other http_options; nothing has to be \
                       started again."
                    .to_owned(),
                since: now,
            };
            self.troubles.set(HTTP_OPTIONS, trouble);
        }
        self.out.report(Body::ProxyConfigured(said));
    }

    pub(super) fn publish(&mut self, snapshot: bool, update: &Bytes) {
        if self.publisher.publish(snapshot, update.clone()) == Published::SnapshotWanted {
            self.out.report(Body::SnapshotWanted(Empty {}));
        }
        if self.proxy.is_running() {
            let update = proxy_command::Body::Update(update.to_vec());
            self.out.tell_proxy(update);
            self.let_proxy_accept();
        }
    }

    /// A proxy accepts connections when it knows what its predecessor knew, or the first snapshot: before, it would
    /// answer that there is no such application.
    fn let_proxy_accept(&mut self) {
        if self.accepting == Accepting::NotYet && !self.publisher.replay().is_empty() {
            self.accepting = Accepting::Told;
            self.out.tell_proxy(proxy_command::Body::Accept(Empty {}));
        }
    }

    pub(super) fn on_proxy(&mut self, message: Bytes, now: Duration) {
        match ProxyEvent::decode(message).map(|event| event.body) {
            Ok(Some(proxy_event::Body::Ready(Empty {}))) => {
                self.accepting = Accepting::Yes;
                self.troubles.clear(Role::Proxy.name());
                self.troubles.set_proxy("HEALTHY");
            }
            Ok(Some(proxy_event::Body::SnapshotWanted(Empty {}))) => {
                self.out.report(Body::SnapshotWanted(Empty {}));
            }
            Ok(Some(proxy_event::Body::Applied(applied))) => {
                self.out.report(Body::Published(applied));
            }
            Ok(Some(proxy_event::Body::Counted(counters))) => {
                let counters = NodeCounters {
                    proxies: vec![counters],
                };
                self.out.push(Command::Counted(Some(counters)));
            }
            Ok(Some(proxy_event::Body::Turns(Empty {}))) => self.proxy_turns(),
            Ok(Some(proxy_event::Body::Tallied(tallies))) => {
                self.out.report(Body::Tallied(tallies));
            }
            Ok(Some(proxy_event::Body::Loads(loads))) => {
                self.out.report(Body::Loads(loads));
            }
            Ok(Some(proxy_event::Body::Configured(said))) => self.on_configured(said, now),
            Ok(Some(proxy_event::Body::Unreachable(report))) => {
                self.out.report(Body::Unreachable(report));
            }
            Ok(None) => {}
            Err(error) => {
                let message =
                    format!("a message of the proxy that cannot be read is ignored: {error}");
                self.out.log(Level::Error, message);
            }
        }
    }

    /// Asks the proxy; whoever waits already gets the same answer.
    pub(super) fn count(&mut self) {
        if self.proxy.is_running() {
            self.out.ask_proxy(proxy_command::Body::Count(Empty {}));
        } else {
            self.out.push(Command::Counted(None));
        }
    }

    /// Asks the proxy whether its threads turn, and says so in the status when it does not answer.
    pub(super) fn look_at_proxy(&mut self, now: Duration) {
        let Some(pid) = self.proxy.pid() else { return };
        if self.accepting != Accepting::Yes {
            return;
        }
        match self.watch.look(now) {
            Look::Ask => {
                let ask = proxy_command::Body::LookWhetherItTurns(Empty {});
                // A full queue is seen to when the next update finds it so.
                self.out.ask_proxy(ask);
            }
            Look::Silent(time) => {
                let trouble = Trouble {
                    code: "proxy_silent".to_owned(),
                    sentence: format!(
                        "The proxy (pid {pid}) has not answered for {} s, so requests may wait.",
                        time.as_secs()
                    ),
                    help: format!(
                        "If it was stopped, `kill -CONT {pid}` lets it go on; `kill -KILL {pid}` has another one started."
                    ),
                    since: now.saturating_sub(time),
                };
                if !self.watch.said {
                    let log = format!("{} {}", trouble.sentence, trouble.help);
                    self.out.log(Level::Warning, log);
                    self.watch.said = true;
                }
                self.troubles.set_proxy("UNHEALTHY");
                self.troubles.set(Role::Proxy.name(), trouble);
            }
            Look::Wait => {}
        }
    }

    fn proxy_turns(&mut self) {
        if std::mem::take(&mut self.watch).said {
            self.out.log(Level::Info, "the proxy turns again");
            self.troubles.clear(Role::Proxy.name());
            self.troubles.set_proxy("HEALTHY");
        }
    }
}
