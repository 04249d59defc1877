//! From the first word of the end to the last process: the phases of [`Phase`](crate::phase), carried out.

use std::{
    fs,
    time::{Duration, Instant},
};

use eagleray_types::control::{Empty, proxy_command};
use rustix::process::Signal;
use tokio::time;

use super::{Outcome, START_WITHIN, Supervisor, encode_proxy};
use crate::{
    phase::{Patience, Phase},
    ready::{Failure, Kind},
    service::Role,
};

/// What is shown of the log of a process that does not start.
const LOG_TAIL_BYTES: usize = 2000;

impl Supervisor {
    /// Tells the reaper that nothing is left, and waits for it a moment.
    pub(crate) async fn dismiss_reaper(&self) {
        let reaper = &self.services.reaper;
        reaper.tell_all_is_well();
        let over = async {
            while !reaper.is_over() {
                time::sleep(Duration::from_millis(1)).await;
            }
        };
        if time::timeout(Patience::SERVICES, over).await.is_err() {
            reaper.signal(Signal::KILL);
        }
    }

    /// The second signal: whoever sent it does not want to wait. Returns whether this is it.
    pub(super) fn on_signal(&mut self, name: &str) -> bool {
        if self.phase.is_ending() {
            tracing::warn!(signal = name, "second signal: the node ends at once");
            return true;
        }
        self.begin_end(name, Patience::ORDERLY);
        false
    }

    pub(super) fn abandon(&mut self) -> Outcome {
        self.replicas.kill_all();
        self.services.controller.signal(Signal::KILL);
        self.services.proxy.signal(Signal::KILL);
        Outcome {
            as_asked: false,
            in_order: false,
        }
    }

    pub(super) fn begin_end(&mut self, reason: &str, patience: Patience) {
        if self.phase.is_ending() {
            return;
        }
        tracing::info!(reason, "the node begins to end");
        if matches!(self.phase, Phase::Starting { .. }) && self.failure.is_none() {
            self.failure = Some(Failure::new(
                Kind::Failed,
                format!("the node was ended while it started: {reason}"),
            ));
        }
        self.patience = patience;
        // The controller is not listened to from here on, nor told anything: it would replace what ends. It lives
        // on for those who wait for its answers, and is not started again.
        self.services.controller.end();
        self.services.proxy.end();
        self.services.proxy.close_listeners();
        match &self.proxy {
            // Not sent: then there is nobody to drain, and the time of this phase ends it.
            Some(proxy) => {
                proxy
                    .send(0, encode_proxy(proxy_command::Body::Drain(Empty {})))
                    .ok();
            }
            None => self.services.proxy.signal(Signal::KILL),
        }
        self.phase = Phase::Draining {
            until: Instant::now() + patience.draining,
        };
    }

    /// Goes on to the next phase when what the present one waits for has come.
    pub(super) fn advance(&mut self) {
        match self.phase {
            Phase::Starting { .. } if self.proxy_ready && self.controller_spoke => {
                tracing::info!(address = self.info.borrow().http_address, "the node is up");
                self.phase = Phase::Up;
            }
            Phase::Draining { .. } if self.services.proxy.is_over() => {
                self.replicas.stop_all(self.patience.replicas);
                // The time of a replica is kept by `Replicas`; this one is for processes that cannot be killed.
                let until = Instant::now() + self.patience.replicas + Patience::SERVICES;
                self.phase = Phase::StoppingReplicas { until };
                self.advance();
            }
            Phase::StoppingReplicas { .. } if self.replicas.is_empty() => {
                self.services.controller.signal(Signal::TERM);
                self.phase = Phase::EndingServices {
                    until: Instant::now() + Patience::SERVICES,
                };
            }
            Phase::EndingServices { .. } if self.services.controller.is_over() => {
                self.phase = Phase::Over;
            }
            _ => {}
        }
    }

    pub(super) fn on_deadline(&mut self) {
        match self.phase {
            Phase::Starting { .. } => {
                let silent = if self.proxy_ready {
                    Role::Controller
                } else {
                    Role::Proxy
                };
                let message = format!(
                    "the {} did not come up within {START_WITHIN:?}",
                    silent.name()
                );
                self.fail_to_start(silent, message);
            }
            Phase::Draining { .. } => {
                tracing::warn!("the proxy has not finished in time and is killed");
                self.services.proxy.signal(Signal::KILL);
                self.phase = Phase::Draining {
                    until: Instant::now() + Patience::SERVICES,
                };
            }
            Phase::StoppingReplicas { .. } => {
                tracing::error!(replicas = ?self.replicas.ids(), "replicas could not be ended and are left to the reaper");
                self.replicas.kill_all();
                self.services.controller.signal(Signal::KILL);
                self.phase = Phase::EndingServices {
                    until: Instant::now() + Patience::SERVICES,
                };
            }
            Phase::EndingServices { .. } => {
                self.services.controller.signal(Signal::KILL);
                self.phase = Phase::EndingServices {
                    until: Instant::now() + Patience::SERVICES,
                };
            }
            Phase::Up | Phase::Over => {}
        }
    }

    pub(super) fn fail_to_start(&mut self, role: Role, message: String) {
        let path = self.log_directory.join(format!("{}.log", role.name()));
        let log = fs::read(&path).unwrap_or_default();
        let tail = log
            .get(log.len().saturating_sub(LOG_TAIL_BYTES)..)
            .unwrap_or_default();
        let tail = String::from_utf8_lossy(tail);
        let message = match tail.trim() {
            "" => message,
            tail => format!("{message}; the end of its log:\n{tail}"),
        };
        tracing::error!(message, "the node does not come up");
        self.failure = Some(Failure::new(Kind::Failed, message));
        self.begin_end("it does not come up", Patience::ABANDONED);
    }
}
