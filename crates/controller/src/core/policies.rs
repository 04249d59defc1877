//! Policy hosts: processes that run the autoscaling policies of users, one for each application whose newest revision has any.
//!
//! A host is started as a build is, with the code of the revision, and asks the controller for questions as any client: its
//! call is answered when there is one, and its next call brings the answer. So nothing here waits: a host that does not
//! answer in time is ended, one that ends is started again after a pause that grows, and meanwhile the number of replicas
//! stays, with the reason in the status. What policies keep between two questions is kept here too, opaque, for the host
//! after this. A host that finds another controller is told to end, so that no two of one application answer.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use eagleray_types::{
    DeploymentKey,
    control::{ListedReplica, PolicyAnswer, PolicyHost, PolicyQuestion, api_response},
};

use super::{
    Core,
    command::Level,
    event::CallId,
    outbox::{About, EventLevel, Outbox},
    policy_host,
    policy_host::contexts,
    validate::api_error,
};
use crate::books::{Books, events::EventKind, policy, revision::Revision};

/// A policy is asked this often where nothing has changed, for it may go by more than we know, and at most so often.
const EVERY: Duration = Duration::from_secs(1);
const SOONEST: Duration = Duration::from_millis(100);
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);
/// As for a build: the import of what a policy needs.
const STARTS_WITHIN: Duration = Duration::from_secs(300);
/// Pauses between starts.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
const NOT_WANTED: &str = "this policy host is not wanted any more";
/// Of what policies keep.
const MOST_KEPT: usize = 64 * 1024;

/// What has become known of a deployment's policy: a number, nothing, or why there is none.
pub(super) type Said = (DeploymentKey, Result<Option<f64>, String>);

#[derive(Debug, Default)]
pub(super) struct Policies {
    /// By application.
    hosts: BTreeMap<String, Host>,
    /// Processes that were told to end.
    ending: BTreeSet<String>,
    question: u64,
}

#[derive(Debug)]
struct Host {
    revision: Arc<Revision>,
    process: Option<Process>,
    kept: Option<Vec<u8>>,
    failures: u32,
    /// Without a process: when there shall be one.
    starts_at: Duration,
    asked_at: Duration,
    /// Something that it goes by is another since it was asked.
    changed: bool,
}

#[derive(Debug)]
struct Process {
    id: String,
    epoch: u64,
    phase: Phase,
    /// It has asked for no question yet.
    is_new: bool,
}

#[derive(Debug)]
enum Phase {
    Starting { until: Duration },
    Ready(CallId),
    Asked { question: u64, until: Duration },
}

impl Core {
    /// Policies have said so, or could not.
    pub(super) fn on_policies(&mut self, said: Vec<Said>, now: Duration) {
        for (key, said) in said {
            let Some(deployment) = self.books.deployment_mut(&key) else {
                continue;
            };
            let autoscaling = deployment.autoscaling.as_mut();
            let Some(policy) = autoscaling.and_then(|one| one.policy.as_mut()) else {
                continue;
            };
            if policy.hear(said) {
                let message = format!(
                    "the autoscaling policy {} has failed, so the number of replicas stays: {}",
                    policy.name, policy.error
                );
                let about = About::deployment(&key);
                self.out
                    .event(EventKind::Scale, EventLevel::Warning, about, &message);
                self.out.log(Level::Warning, format!("{key}: {message}"));
            }
            self.rescale_one(&key, now);
        }
    }
}

impl Policies {
    /// An application shall run as this revision has it; `None`: it shall not.
    pub(super) fn follow(
        &mut self,
        application: &str,
        aim: Option<&Arc<Revision>>,
        out: &mut Outbox,
    ) {
        let aim = aim.filter(|revision| policy::is_asked(revision));
        let known = self.hosts.get(application).map(|host| &host.revision);
        if known == aim {
            return;
        }
        if let Some(host) = self.hosts.remove(application) {
            self.end(host.process, out);
        }
        if let Some(revision) = aim {
            let host = Host {
                revision: Arc::clone(revision),
                process: None,
                kept: None,
                failures: 0,
                starts_at: out.now,
                asked_at: Duration::ZERO,
                changed: true,
            };
            self.hosts.insert(application.to_owned(), host);
        }
    }

    /// Something that its policies go by is another now.
    pub(super) fn on_change(&mut self, application: &str) {
        if let Some(host) = self.hosts.get_mut(application) {
            host.changed = true;
        }
    }

    /// Starts, asks and ends what is due.
    pub(super) fn run(&mut self, books: &Books, now: Duration, out: &mut Outbox) -> Vec<Said> {
        let mut said = Vec::new();
        for (application, host) in &mut self.hosts {
            match &host.process {
                None if host.starts_at <= now => host.start(application, now, out),
                Some(process) if process.is_overdue(now) => {
                    let error = process.overdue();
                    let process = host.fail(now);
                    said.extend(of_all(application, &host.revision, &error));
                    end(&mut self.ending, process, out);
                }
                Some(Process {
                    phase: Phase::Ready(_),
                    ..
                }) if host.due_at() <= now => {
                    self.question += 1;
                    host.ask(
                        self.question,
                        contexts(books, application, now, out),
                        now,
                        out,
                    );
                }
                _ => {}
            }
        }
        said
    }

    pub(super) fn next_timeout(&self) -> Option<Duration> {
        let hosts = self.hosts.values();
        hosts
            .map(|host| match &host.process {
                None => host.starts_at,
                Some(process) => match process.phase {
                    Phase::Starting { until } | Phase::Asked { until, .. } => until,
                    Phase::Ready(_) => host.due_at(),
                },
            })
            .min()
    }

    /// A host answers, and asks for the next question.
    pub(super) fn on_said(
        &mut self,
        call: CallId,
        said: PolicyHost,
        out: &mut Outbox,
    ) -> Vec<Said> {
        let mut hosts = self.hosts.iter_mut();
        let found = hosts.find_map(|(application, host)| {
            let is_it = host.process.as_ref().is_some_and(|one| one.id == said.host);
            is_it.then_some((application, host))
        });
        let Some((application, host)) = found else {
            out.refuse(call, api_error("conflict", NOT_WANTED));
            return Vec::new();
        };
        let Some(process) = &mut host.process else {
            return Vec::new();
        };
        let answers =
            matches!(process.phase, Phase::Asked { question, .. } if question == said.question);
        process.phase = Phase::Ready(call);
        if !answers {
            return Vec::new();
        }
        host.failures = 0;
        if let Some(kept) = said.kept.filter(|kept| kept.len() <= MOST_KEPT) {
            host.kept = Some(kept);
        }
        let heard = |answer: PolicyAnswer| {
            let key = DeploymentKey::new(application.as_str(), answer.deployment.as_str());
            let said = match (answer.error.as_str(), answer.replicas.as_str()) {
                ("", "") => Ok(None),
                ("", text) => policy::number(text).map(Some),
                (error, _) => Err(error.to_owned()),
            };
            (key, said)
        };
        said.answers.into_iter().map(heard).collect()
    }

    /// A client is gone that may have been a host whose call waits for a question: it dies, or asks again.
    pub(super) fn on_client_gone(&mut self, connection: u64, now: Duration) {
        let processes = self
            .hosts
            .values_mut()
            .filter_map(|host| host.process.as_mut());
        for process in processes {
            if matches!(process.phase, Phase::Ready(call) if call.connection == connection) {
                process.phase = Phase::Starting {
                    until: now + ANSWERS_WITHIN,
                };
            }
        }
    }

    /// A process has ended. `None`: it was no policy host.
    pub(super) fn on_exited(&mut self, id: &str, reason: &str, now: Duration) -> Option<Vec<Said>> {
        if self.ending.remove(id) {
            return Some(Vec::new());
        }
        let is_it = |host: &Host| host.process.as_ref().is_some_and(|one| one.id == id);
        let (application, host) = self.hosts.iter_mut().find(|(_, host)| is_it(host))?;
        host.fail(now);
        let error = format!("its process has ended: {reason}");
        Some(of_all(application, &host.revision, &error).collect())
    }

    /// One of an earlier controller: its successor starts its own.
    pub(super) fn on_listed(&mut self, listed: &ListedReplica, out: &mut Outbox) {
        self.ending.insert(listed.replica_id.clone());
        if !listed.stopping {
            policy_host::stop(&listed.replica_id, listed.epoch, out);
        }
    }

    fn end(&mut self, process: Option<Process>, out: &mut Outbox) {
        end(&mut self.ending, process, out);
    }
}

fn end(ending: &mut BTreeSet<String>, process: Option<Process>, out: &mut Outbox) {
    let Some(process) = process else { return };
    policy_host::stop(&process.id, process.epoch, out);
    if let Phase::Ready(call) = process.phase {
        out.refuse(call, api_error("conflict", NOT_WANTED));
    }
    ending.insert(process.id);
}

/// The same failure for everything that the policies of this revision decide about.
fn of_all(application: &str, revision: &Revision, error: &str) -> impl Iterator<Item = Said> {
    let scaling = revision.spec.deployments.iter();
    scaling
        .filter(|one| !one.autoscaling_config.is_empty())
        .map(|one| DeploymentKey::new(application, one.name.as_str()))
        .map(|key| (key, Err(error.to_owned())))
        .collect::<Vec<_>>()
        .into_iter()
}

impl Host {
    fn start(&mut self, application: &str, now: Duration, out: &mut Outbox) {
        let id = out.draw_id();
        policy_host::start(application, &self.revision, &id, out);
        let message = format!(
            "application '{application}' has autoscaling policies of its own; their process {id} starts, and what it \
             prints is in {}",
            policy_host::log_path(application, &id, out)
        );
        out.log(Level::Info, message);
        self.process = Some(Process {
            id,
            epoch: out.options.epoch,
            phase: Phase::Starting {
                until: now + STARTS_WITHIN,
            },
            is_new: true,
        });
    }

    fn ask(&mut self, question: u64, contexts: String, now: Duration, out: &mut Outbox) {
        let Some(process) = &mut self.process else {
            return;
        };
        let Phase::Ready(call) = process.phase else {
            return;
        };
        let asked = PolicyQuestion {
            question,
            contexts,
            kept: self.kept.clone().filter(|_| process.is_new),
        };
        process.is_new = false;
        process.phase = Phase::Asked {
            question,
            until: now + ANSWERS_WITHIN,
        };
        self.changed = false;
        self.asked_at = now;
        out.reply(call, api_response::Body::Policy(asked));
    }

    fn due_at(&self) -> Duration {
        if self.asked_at.is_zero() {
            return Duration::ZERO;
        }
        self.asked_at + if self.changed { SOONEST } else { EVERY }
    }

    /// It has no process from now on, for a while.
    fn fail(&mut self, now: Duration) -> Option<Process> {
        let pause = PAUSE.0 * 2_u32.saturating_pow(self.failures.min(6));
        self.failures = self.failures.saturating_add(1);
        self.starts_at = now + pause.min(PAUSE.1);
        self.process.take()
    }
}

impl Process {
    fn is_overdue(&self, now: Duration) -> bool {
        match self.phase {
            Phase::Starting { until } | Phase::Asked { until, .. } => until <= now,
            Phase::Ready(_) => false,
        }
    }

    fn overdue(&self) -> String {
        match self.phase {
            Phase::Asked { .. } => format!(
                "it has not answered within {} s, so its process was ended",
                ANSWERS_WITHIN.as_secs()
            ),
            _ => format!(
                "its process has not asked for a question in time ({} s from its start), and was ended",
                STARTS_WITHIN.as_secs()
            ),
        }
    }
}
