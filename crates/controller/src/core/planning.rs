//! Plans: what an apply would do, found out by building all of it and deploying nothing.
//!
//! A plan is named by a hash over what there is and what would come of it. An apply that names a plan is built the same
//! way first, and is carried out only if that gives the same name: so it does what was shown, or is refused. Nothing of a
//! plan is durable: it ends with the client that asks, and with the controller.

use std::collections::BTreeMap;

use eagleray_types::control::{
    ApiError, ApplicationSpec, Applied, Apply, Built, Failure, Planned, PlannedApplication,
    api_response,
};

use super::{
    Core,
    declared::told,
    effect::Answer,
    event::{CallId, Request},
    http_options,
    outbox::Outbox,
    plan::compare,
    requests::check_routes,
    room,
    validate::{api_error, validate},
};
use crate::{
    books::{
        Books,
        declared::{Declared, Step},
        desired::Change,
        history::Record,
        planning::Planning,
    },
    store::sha256_hex,
};

/// Plans at a time; more are refused.
const MOST_AT_ONCE: usize = 8;
/// Builds of plans are numbered apart from those that are declared.
const FIRST_BUILD: u64 = 1 << 63;

#[derive(Debug, Default)]
pub(super) struct Plannings {
    open: Vec<(CallId, Planning)>,
    builds: u64,
}

impl Plannings {
    /// What must be built for them, and whether that may be deployed.
    pub(super) fn missing(&self) -> impl Iterator<Item = (&Declared, bool)> {
        self.open.iter().flat_map(|(_, planning)| {
            let applications = planning.applications.iter();
            applications
                .filter(|one| !planning.built.contains_key(&one.application))
                .map(|one| (one, !planning.expected.is_empty()))
        })
    }

    /// Names of the files that they need.
    pub(super) fn files(&self) -> impl Iterator<Item = &str> {
        self.open.iter().flat_map(|(_, planning)| planning.files())
    }

    pub(super) fn on_client_gone(&mut self, connection: u64) {
        self.open.retain(|(call, _)| call.connection != connection);
    }

    /// Takes the end of a build, if it is for a plan. Returns whether it is.
    pub(super) fn on_built(&mut self, built: &Built) -> bool {
        for (_, planning) in &mut self.open {
            let applications = planning.applications.iter();
            if let Some(one) = applications.clone().find(|one| one.build == built.build) {
                let before = planning.built.entry(one.application.clone());
                before.or_insert_with(|| built.clone());
            }
        }
        built.build >= FIRST_BUILD
    }

    fn take_finished(&mut self) -> Option<(CallId, Planning)> {
        let whole = |(_, one): &(CallId, Planning)| one.built.len() == one.applications.len();
        let index = self.open.iter().position(whole)?;
        Some(self.open.remove(index))
    }
}

impl Core {
    /// Begins to build what an apply asks for, to be compared. `expected`: the plan that it must be.
    pub(super) fn plan(
        &mut self,
        call: CallId,
        apply: &Apply,
        expected: &str,
    ) -> Result<(), ApiError> {
        if self.plannings.open.len() >= MOST_AT_ONCE {
            let message = "too many plans are being made; try again in a moment";
            return Err(api_error("internal", message));
        }
        let (change, answer) = self.declare(apply)?;
        let (Change::Declared { step, .. }, Answer::Applied(applied)) = (change, answer) else {
            debug_assert!(false, "an apply declares");
            return Ok(());
        };
        let mut applications = match &step {
            Step::Declare { applications, .. } => applications.clone(),
            _ => Vec::new(),
        };
        let epoch = self.out.options.epoch & 0x7fff_ffff;
        for one in &mut applications {
            self.plannings.builds += 1;
            one.build = FIRST_BUILD | (epoch << 32) | self.plannings.builds;
        }
        let planning = Planning {
            expected: expected.to_owned(),
            step,
            applications,
            applied,
            built: BTreeMap::new(),
        };
        self.plannings.open.push((call, planning));
        Ok(())
    }

    /// Answers plans of which everything is built, and has those carried out that were to be.
    pub(super) fn finish_plans(&mut self) {
        while let Some((call, planning)) = self.plannings.take_finished() {
            if planning.expected.is_empty() {
                let planned = planned(&self.books, &planning, &self.out);
                self.out.reply(call, api_response::Body::Planned(planned));
            } else {
                self.on_request(call, Request::CarryOut(Box::new(planning)));
            }
        }
    }

    /// An apply that was planned: what it changes, if it is still what the plan showed.
    pub(super) fn carry_out_plan(
        &mut self,
        planning: Planning,
    ) -> Result<(Change, Answer), ApiError> {
        let planned = planned(&self.books, &planning, &self.out);
        if let Some(failed) = planned.applications.iter().find_map(|one| {
            let failure = one.failure.as_ref()?;
            Some(format!(
                "application '{}' cannot be built any more: {}",
                one.name,
                told(failure)
            ))
        }) {
            return Err(api_error("conflict", failed));
        }
        if planned.plan != planning.expected {
            let message = format!(
                "the plan {} is stale: what runs, the code or the config has changed since, and this would be {}; look \
                 at the new plan, and deploy that",
                planning.expected, planned.plan
            );
            return Err(api_error("conflict", message));
        }
        let Planning {
            step,
            applied,
            built,
            ..
        } = planning;
        // The same apply again may have been carried out meanwhile: numbers are given now.
        let Step::Declare {
            mut applications,
            node_options,
            whole,
            ..
        } = step
        else {
            return Err(api_error("internal", "an apply declares"));
        };
        let declarations = &self.books.desired.declared;
        let (deploy, mut build) = (declarations.next_deploy(), declarations.next_build());
        let mut beside = Vec::new();
        for one in &mut applications {
            one.deploy = deploy;
            one.build = build;
            build += 1;
        }
        for one in &mut applications {
            if let Some(result) = built.get(&one.application) {
                let (result, change) = self.result_of(one, result.clone());
                one.built = Some(result);
                beside.extend(change);
            }
        }
        let wall_time_s = self.out.wall_now_s;
        let gone = applied.deleted.iter().cloned();
        beside.extend(gone.map(|application| Change::Delete {
            application,
            wall_time_s,
        }));
        let change = Change::Declared {
            step: Step::Declare {
                deploy,
                applications,
                node_options,
                whole,
            },
            beside,
        };
        Ok((change, Answer::Applied(Applied { deploy, ..applied })))
    }
}

fn planned(books: &Books, planning: &Planning, out: &Outbox) -> Planned {
    let number = |name: &str| {
        let last = books.plan(name).and_then(|plan| plan.aimed_at());
        last.map_or(0, Record::number)
    };
    let mut named: Vec<String> = Vec::new();
    let mut warnings = planning.applied.warnings.clone();
    let mut applications: Vec<PlannedApplication> = Vec::new();
    for declared in &planning.applications {
        let name = &declared.application;
        let before = books.plan(name).map(|plan| &plan.aim().spec);
        let Some(built) = planning.built.get(name) else {
            continue;
        };
        warnings.extend(built.warnings.iter().map(|text| format!("{name}: {text}")));
        let leaves = |other: &str, prefix: &str| {
            planning.applied.deleted.iter().any(|name| name == other)
                || leaves(planning.applications.iter(), other, prefix)
        };
        let mut one = match judged(books, declared, built, leaves) {
            Ok(spec) => {
                named.push(spec.revision.clone());
                let room = room::foresee(books, spec);
                warnings.extend(room.into_iter().map(|text| format!("{name}: {text}")));
                compare(before, Some(spec))
            }
            Err(failure) => PlannedApplication {
                change: "failed".to_owned(),
                failure: Some(failure),
                ..PlannedApplication::default()
            },
        };
        one.name.clone_from(name);
        one.from = number(name);
        named.push(format!(
            "{name} {} {} {}",
            one.from, one.change, declared.config
        ));
        named.push(declared.node_options.clone());
        applications.push(one);
    }
    for name in &planning.applied.deleted {
        let before = books.plan(name).map(|plan| &plan.aim().spec);
        let mut one = compare(before, None);
        one.name.clone_from(name);
        "delete".clone_into(&mut one.change);
        one.from = number(name);
        named.push(format!("{name} {} deleted", one.from));
        applications.push(one);
    }
    let http_options = match &planning.step {
        Step::Declare {
            node_options: Some(stated),
            ..
        } => http_options::planned(books, stated, out),
        _ => Vec::new(),
    };
    named.extend(http_options.iter().cloned());
    let plan = sha256_hex(named.join("\n").as_bytes());
    Planned {
        plan: plan.chars().take(16).collect(),
        applications,
        warnings,
        http_options,
    }
}

/// What was built, if it may be deployed. `leaves`: whether another application is about to leave a prefix.
pub(super) fn judged<'a>(
    books: &Books,
    declared: &Declared,
    built: &'a Built,
    leaves: impl Fn(&str, &str) -> bool,
) -> Result<&'a ApplicationSpec, Failure> {
    if let Some(failure) = &built.failure {
        return Err(failure.clone());
    }
    let Some(spec) = &built.spec else {
        return Err(refused("the build had no result".to_owned()));
    };
    if spec.name != declared.application {
        let message = format!("the build made the application '{}'", spec.name);
        return Err(refused(message));
    }
    validate(spec)
        .and_then(|()| check_routes(books, spec, |other| leaves(other, &spec.route_prefix)))
        .map_err(|error| refused(error.message))?;
    Ok(spec)
}

/// Whether one of these declares that `other` shall be reachable elsewhere, so that it is not in the way of who comes to
/// `prefix`.
pub(super) fn leaves<'a>(
    mut declared: impl Iterator<Item = &'a Declared>,
    other: &str,
    prefix: &str,
) -> bool {
    let moves = |one: &Declared| one.failure.is_none() && one.route_prefix() != prefix;
    declared.any(|one| one.application == other && moves(one))
}

fn refused(message: String) -> Failure {
    Failure {
        code: "refused".to_owned(),
        message,
        ..Failure::default()
    }
}
