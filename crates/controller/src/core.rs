//! What should run becomes commands: a state machine without I/O, clock or randomness of its own.
//!
//! [`Core::on_events`] takes events and the time and returns commands in the order in which they are to be
//! carried out. The same events in the same order give the same commands, replica ids included: they come from a
//! generator seeded at construction, and nothing iterates in hash order.
//!
//! Two rules shape the flow. *Nothing changes before it is durable*: a deploy or delete is checked, becomes
//! [`Command::Save`], and takes effect on [`Event::Saved`]; meanwhile further changes wait in a bounded queue.
//! *Nothing is decided before the node has listed what lives*: until then events only change state, so a restarted
//! controller neither starts a second set of replicas nor takes any from the routers.
//!
//! Who decides what: [`rollout`] how many start and stop, [`crate::books::attempts`] when, [`health`] who is asked and
//! who is replaced, [`render`] what people are told. What should run changes by one function,
//! [`crate::books::desired::Desired::apply`], and how many of it by one field, `wanted` of a deployment, which [`autoscale`]
//! sets where it follows the load.

mod adopt;
mod apply;
mod autoscale;
mod builds;
mod clip;
mod cold_start;
mod command;
mod configure;
mod declared;
mod departure;
mod effect;
mod event;
mod failures;
mod fault;
mod health;
mod http_options;
mod hung;
mod imports;
mod label;
mod lifecycle;
mod loads;
mod notes;
mod outbox;
mod pending;
mod plan;
mod planning;
mod policies;
mod policy_host;
mod ranks;
mod reaching;
mod reconcile;
mod records;
mod recycling;
mod render;
mod reports;
mod requests;
mod rollback;
mod rollout;
mod room;
mod routed;
mod scaling;
mod stacks;
mod summary;
mod timers;
mod trial;
mod validate;
mod waits;
mod why;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    mem,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use eagleray_types::{
    NodeId,
    control::{ApplicationStatus, EventRecord, Status, TargetUpdate, api_response},
};

pub use command::{Command, Level, Save, Span};
pub use event::{CallId, Event, Origin, Reached, Request, SaveError, Source};
pub use label::Label;
pub use summary::{ApplicationSummary, AutoscalingSummary, DeploymentSummary};

pub use crate::books::{
    events::EVENTS_KEPT,
    history::{Entry, REVISIONS_KEPT},
    planning::Planning,
    replica_state::{ReplicaInput, ReplicaState},
    revision::Revision,
};
use crate::{
    books::{
        Books,
        deployment::Deployment,
        desired::{Change, Desired, Plan},
        events::Events,
        loads::Speaker,
    },
    store::checkpoint::Loaded,
    targets::{ApplicationTargets, Targets},
};
use builds::Builds;
use http_options::Settings;
use outbox::Outbox;
use planning::Plannings;
use policies::Policies;
use requests::{Saving, Unsaved};
use stacks::Questions;
use timers::Timers;
use waits::Waits;

#[derive(Clone, Debug)]
pub struct CoreOptions {
    /// The node that replicas start on.
    pub node: NodeId,
    /// This life of the controller, one above the last.
    pub epoch: u64,
    pub seed: u64,
    pub blob_directory: PathBuf,
    pub log_directory: PathBuf,
    pub run_directory: PathBuf,
    /// The interpreter of replicas whose application names none.
    pub python: String,
    /// `http_options` as the node runs with them.
    pub http: serde_json::Map<String, serde_json::Value>,
}

#[derive(Debug)]
pub struct Core {
    books: Books,
    out: Outbox,
    targets: Targets,
    /// The highest update that the proxy has applied.
    applied: u64,
    /// The node has said what lives.
    listed: bool,
    /// Applications to look at before this event is over.
    touched: BTreeSet<String>,
    /// Applications that wait for a prefix that another still has.
    held: BTreeSet<String>,
    requests: VecDeque<(CallId, Request)>,
    saving: Option<Saving>,
    save_again_at: Option<Duration>,
    unsaved: Option<Unsaved>,
    waits: Waits,
    /// For the stacks of replicas.
    questions: Questions,
    timers: Timers,
    builds: Builds,
    events: Events,
    plannings: Plannings,
    policies: Policies,
    /// Every router has said what it has, since this controller began.
    heard_all: bool,
    settings: Settings,
}

impl Core {
    /// Desired state as the checkpoint has it. Follow with [`Core::start`].
    pub fn new(options: CoreOptions, loaded: &Loaded) -> Self {
        Self {
            books: Books::new(Desired::restore(loaded)),
            targets: Targets::new(options.epoch),
            out: Outbox::new(options),
            applied: 0,
            listed: false,
            touched: BTreeSet::new(),
            held: BTreeSet::new(),
            requests: VecDeque::new(),
            saving: None,
            save_again_at: None,
            unsaved: None,
            waits: Waits::default(),
            questions: Questions::default(),
            timers: Timers::default(),
            builds: Builds::default(),
            events: Events::default(),
            plannings: Plannings::default(),
            policies: Policies::default(),
            heard_all: false,
            settings: Settings::default(),
        }
    }

    /// Events of the controllers before, oldest first, as they were kept.
    pub fn remember(&mut self, kept: Vec<EventRecord>) {
        self.events.remember(kept);
    }

    /// Bytes of blobs, by name, before [`Event::Saved`] says that a change that names them is durable.
    pub fn know_sizes(&mut self, sizes: Vec<(String, u64)>) {
        self.books.sizes.learn(sizes);
    }

    /// The first commands: ask what lives.
    pub fn start(&mut self) -> Vec<Command> {
        self.out.list();
        self.out.take()
    }

    /// Takes one event. `now` is the time since any fixed moment and never goes back.
    pub fn on_event(&mut self, event: Event, now: Duration) -> Vec<Command> {
        self.on_events([event], now)
    }

    /// Takes events that have come together, in their order. What follows from all of them is decided once, so that many
    /// replicas that start or end together are one update for routers.
    pub fn on_events(
        &mut self,
        events: impl IntoIterator<Item = Event>,
        now: Duration,
    ) -> Vec<Command> {
        self.out.now = now;
        for event in events {
            self.take(event, now);
        }
        self.advance(now);
        self.books.check();
        for happened in self.out.take_happened() {
            let record = self.events.add(happened).clone();
            self.out.push(Command::Keep(record));
        }
        self.out.take()
    }

    /// What `now` is by the wall clock, for times that people are shown. Nothing is decided by it.
    pub fn set_wall_time_s(&mut self, wall_time_s: f64, now: Duration) {
        self.out.set_wall_time_s(wall_time_s, now);
    }

    fn take(&mut self, event: Event, now: Duration) {
        match event {
            Event::Request { call, request } => {
                if let Request::Built(built) = &request {
                    self.builds.said(built.build, now);
                }
                self.on_request(call, request);
            }
            Event::AwaitDeleted { call, name } => self.waits.until_gone(call, name, &mut self.out),
            Event::Await { call, wait } => {
                self.waits
                    .until_running(call, wait, &self.books, &mut self.out);
            }
            Event::Status { call } => {
                let status = self.status(now);
                self.out.reply(call, api_response::Body::Status(status));
            }
            Event::History { call, application } => {
                match records::history(&self.books, &application) {
                    Ok(history) => self.out.reply(call, api_response::Body::History(history)),
                    Err(error) => self.out.refuse(call, error),
                }
            }
            Event::Compare { call, compare } => match rollback::compare(&self.books, &compare) {
                Ok(planned) => self.out.reply(call, api_response::Body::Planned(planned)),
                Err(error) => self.out.refuse(call, error),
            },
            Event::WhatIf { call, question } => {
                match autoscale::what_if(&self.books, &question, now) {
                    Ok(answer) => self.out.reply(call, api_response::Body::WhatIf(answer)),
                    Err(error) => self.out.refuse(call, error),
                }
            }
            Event::Events { call, request } => {
                let events = self.events.answer(&request);
                self.out.reply(call, api_response::Body::Events(events));
            }
            Event::Stacks { call, replica_id } => {
                let (books, out) = (&self.books, &mut self.out);
                self.questions.ask(call, replica_id, books, now, out);
            }
            Event::ClientGone { connection } => {
                self.waits.on_client_gone(connection);
                self.questions.on_client_gone(connection);
                self.plannings.on_client_gone(connection);
                self.policies.on_client_gone(connection, now);
                let changed = self.on_router_gone(connection);
                self.rescale(&changed, now);
            }
            Event::Saved(result) => self.on_saved(result, now),
            Event::Node { node, body } => self.on_node(&node, body, now),
            Event::Reached {
                replica_id,
                reached,
            } => {
                if let Some((deployment, out)) = self.owner(&replica_id) {
                    reaching::on_reached(deployment, &replica_id, reached, now, out);
                }
            }
            Event::Unreachable(report) => {
                if let Some((deployment, out)) = self.owner(&report.replica_id) {
                    reaching::on_unreachable(deployment, &report, now, out);
                }
            }
            Event::Loads { connection, loads } => {
                let changed = self.on_loads(&loads, Speaker::Connection(connection), now);
                self.rescale(&changed, now);
            }
            Event::Policy { call, said } => {
                let said = self.policies.on_said(call, said, &mut self.out);
                self.on_policies(said, now);
            }
            Event::Timeout => self.on_timeout(now),
        }
    }

    /// When [`Event::Timeout`] is due, unless another event comes first.
    pub fn next_timeout(&self) -> Option<Duration> {
        let times = self.timers.next().into_iter();
        times
            .chain(self.save_again_at)
            .chain(self.builds.next_timeout())
            .chain(self.questions.next_timeout())
            .chain(self.policies.next_timeout())
            .chain(self.heard_at())
            .min()
    }

    /// Every revision that something still needs, each once or more often.
    pub fn revisions(&self) -> Vec<Arc<Revision>> {
        let planned = self.books.desired.revisions();
        let applications = self.books.applications.values();
        let running = applications
            .flat_map(|application| application.deployments.values())
            .flat_map(|deployment| deployment.replicas.values())
            .map(|replica| replica.spec.revision());
        planned.chain(running).cloned().collect()
    }

    /// What is known of every deploy that is kept.
    pub fn entries(&self) -> Vec<Arc<Entry>> {
        self.books.desired.entries().cloned().collect()
    }

    /// What routers know now, for one who begins to watch; `None` before the first update.
    pub fn snapshot(&self) -> Option<TargetUpdate> {
        self.listed.then(|| self.targets.snapshot())
    }

    fn status(&self, now: Duration) -> Status {
        let out = &self.out;
        let resources = &self.books.resources;
        let moment = why::Moment {
            now,
            out,
            resources,
        };
        let why = why::of_store(self.unsaved.as_ref(), moment);
        Status {
            applications: self.statuses(now),
            why: why.into_iter().collect(),
            http_options: http_options::shown(&self.books, out),
            target_capacity: self.books.desired.declared.capacity().percent,
            resources: vec![pending::shown(resources, out)],
        }
    }

    /// Status of every application, in the order of their names.
    pub fn statuses(&self, now: Duration) -> Vec<ApplicationStatus> {
        let mut all: BTreeMap<&str, ApplicationStatus> = BTreeMap::new();
        for one in self.books.applications.values() {
            let status = render::render(one, &self.books, now, &self.out);
            all.insert(&one.name, status);
        }
        for one in self.books.desired.declared.iter() {
            let status = all.entry(&one.application).or_default();
            let plan = self.books.plan(&one.application);
            declared::show(status, one, plan, self.builds.printed(&one.application));
            let reason = why::of_declared(one, self.out.wall_now_s);
            status.why.splice(0..0, reason);
        }
        all.into_values().collect()
    }

    /// Carries out what events made possible: the next change, decisions, the update to routers, answers.
    fn advance(&mut self, now: Duration) {
        self.forget_deleted();
        self.finish_plans();
        self.begin_requests();
        if self.listed {
            if self.begins_to_hear_all(now) {
                self.touch_all();
            }
            let stated = self.books.desired.declared.node_options();
            self.settings.tell(stated, &mut self.out);
            self.publish(now);
            let said = self.policies.run(&self.books, now, &mut self.out);
            self.on_policies(said, now);
            if self.settle_records() || !self.touched.is_empty() {
                self.publish(now);
            }
            let declared = self.books.desired.declared.building();
            let planned = self.plannings.missing();
            let wanted = declared.map(|one| (one, true)).chain(planned).collect();
            self.builds.follow(wanted, now, &mut self.out);
            self.waits
                .answer(&self.books, &self.targets, self.applied, now, &mut self.out);
        }
        self.trim_histories();
        self.save_learnt(now);
    }

    /// Decides for what was touched, and has routers told of it.
    fn publish(&mut self, now: Duration) {
        let mut changes = BTreeMap::new();
        let mut touched = mem::take(&mut self.touched);
        touched.extend(self.books.resources.take_news());
        for name in self.books.resources.in_turn(&touched) {
            self.look_at(&name, now);
        }
        touched.extend(self.move_routes(&touched));
        for name in touched {
            let targets = self.targets_of(&name);
            changes.insert(name, targets);
        }
        if let Some(update) = self.targets.update(changes) {
            self.out.push(Command::Publish(update));
        }
        self.out.release_stops();
    }

    fn touch_all(&mut self) {
        self.touched.extend(self.books.applications.keys().cloned());
    }

    /// Has applications reachable where they shall be. Returns whose route is another now.
    fn move_routes(&mut self, touched: &BTreeSet<String>) -> Vec<String> {
        if touched.is_empty() {
            return Vec::new();
        }
        let (moves, held) = routed::moves(&self.books, &(touched | &self.held));
        self.held = held;
        for change in &moves {
            self.learn(change);
        }
        let name = |change| match change {
            Change::Route { application, .. } => Some(application),
            _ => None,
        };
        moves.into_iter().filter_map(name).collect()
    }

    /// Decides for one application.
    fn look_at(&mut self, name: &str, now: Duration) {
        let Books {
            applications,
            desired,
            register,
            loads,
            resources,
            ..
        } = &mut self.books;
        let Some(application) = applications.get_mut(name) else {
            return;
        };
        let aim = desired.plan(name).map(Plan::aim);
        self.policies.follow(name, aim, &mut self.out);
        for deployment in application.deployments.values_mut() {
            autoscale::look(deployment, desired, loads, now, &mut self.out);
        }
        let mut grounds = reconcile::Grounds {
            desired,
            register,
            resources,
            loads,
        };
        reconcile::reconcile(application, &mut grounds, now, &mut self.out);
        self.timers.set_of_application(application);
    }

    /// What routers shall know of an application; `None`: it is gone.
    fn targets_of(&mut self, name: &str) -> Option<ApplicationTargets> {
        let Books {
            applications,
            desired,
            ..
        } = &mut self.books;
        let application = applications.get(name)?;
        let plan = desired.plan(name);
        if plan.is_none() && application.deployments.is_empty() {
            applications.remove(name);
            return None;
        }
        Some(routed::application_targets(application, plan))
    }

    /// The deployment of a replica, which is looked at before this event is over, and where commands go.
    fn owner(&mut self, replica_id: &str) -> Option<(&mut Deployment, &mut Outbox)> {
        let deployment = self.books.owner_mut(replica_id)?;
        self.touched.insert(deployment.key.application.clone());
        Some((deployment, &mut self.out))
    }
}

#[cfg(test)]
mod tests;
