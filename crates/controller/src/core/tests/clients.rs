//! Clients of the world: what they ask, and the answers that they got.

use eagleray_types::control::{
    ApplicationSpec, ApplicationStatus, AwaitApplication, Compare, EventRecord, EventsRequest,
    PlannedApplication, RevisionRecord, Rollback, Scale, Why, api_response,
};

use super::world::World;
use crate::core::{CallId, Event, Origin, Request};

impl World {
    fn request(&mut self, call: CallId, request: Request) {
        self.feed(Event::Request { call, request });
    }

    /// Asks for a change.
    pub(super) fn ask(&mut self, request: Request) -> CallId {
        let call = self.call();
        self.request(call, request);
        call
    }

    pub(super) fn call(&mut self) -> CallId {
        self.calls += 1;
        CallId {
            connection: 1,
            sequence: self.calls,
        }
    }

    pub(super) fn deploy(&mut self, spec: ApplicationSpec) -> CallId {
        let call = self.call();
        let origin = Box::<Origin>::default();
        self.request(call, Request::Deploy { spec, origin });
        call
    }

    pub(super) fn rollback(&mut self, application: &str, revision: &str) -> CallId {
        let call = self.call();
        let rollback = Rollback {
            application: application.into(),
            revision: revision.into(),
            ..Rollback::default()
        };
        self.request(call, Request::Rollback { rollback });
        call
    }

    /// The deploys of an application, newest first.
    pub(super) fn history(&mut self, application: &str) -> Vec<RevisionRecord> {
        let call = self.call();
        let application = application.to_owned();
        self.feed(Event::History { call, application });
        match self.reply(call) {
            Some(api_response::Body::History(history)) => history.revisions.clone(),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn events_since(&mut self, since: u64) -> Vec<EventRecord> {
        let call = self.call();
        let request = EventsRequest { since, limit: 0 };
        self.feed(Event::Events { call, request });
        match self.reply(call) {
            Some(api_response::Body::Events(events)) => events.events.clone(),
            other => panic!("{other:?}"),
        }
    }

    /// What is not fine of the controller itself.
    pub(super) fn own_reasons(&mut self) -> Vec<Why> {
        let call = self.call();
        self.feed(Event::Status { call });
        match self.reply(call) {
            Some(api_response::Body::Status(status)) => status.why.clone(),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn compare(&mut self, from: &str, to: &str) -> PlannedApplication {
        let call = self.call();
        let compare = Compare {
            application: "a".into(),
            from: from.into(),
            to: to.into(),
        };
        self.feed(Event::Compare { call, compare });
        match self.reply(call) {
            Some(api_response::Body::Planned(planned)) => planned.applications[0].clone(),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn scale(&mut self, deployment: &str, replicas: u32) -> CallId {
        let call = self.call();
        let scale = Scale {
            application: "a".into(),
            deployment: deployment.into(),
            replicas,
        };
        self.request(call, Request::Scale { scale });
        call
    }

    pub(super) fn delete(&mut self, name: &str) -> CallId {
        let call = self.call();
        let name = name.into();
        self.request(call, Request::Delete { name });
        call
    }

    pub(super) fn begin_delete(&mut self, name: &str) -> CallId {
        let call = self.call();
        let name = name.into();
        self.request(call, Request::BeginDelete { name });
        call
    }

    pub(super) fn await_deleted(&mut self, name: &str) -> CallId {
        let call = self.call();
        let name = name.into();
        self.feed(Event::AwaitDeleted { call, name });
        call
    }

    pub(super) fn wait_for(&mut self, name: &str) -> CallId {
        let call = self.call();
        self.feed(Event::Await {
            call,
            wait: AwaitApplication {
                name: name.into(),
                revision: String::new(),
            },
        });
        call
    }

    pub(super) fn reply(&self, call: CallId) -> Option<&api_response::Body> {
        self.replies.get(&call).map(|replies| {
            assert_eq!(replies.len(), 1, "one answer a call");
            &replies[0]
        })
    }

    pub(super) fn notes(&self, call: CallId) -> Vec<String> {
        match self.reply(call) {
            Some(api_response::Body::Deployed(deployed)) => deployed.notes.clone(),
            other => panic!("not deployed: {other:?}"),
        }
    }

    pub(super) fn error(&self, call: CallId) -> (&str, &str) {
        match self.reply(call) {
            Some(api_response::Body::Error(error)) => (&error.kind, &error.message),
            other => panic!("no error: {other:?}"),
        }
    }

    pub(super) fn settled(&self, call: CallId) -> Option<&ApplicationStatus> {
        match self.reply(call)? {
            api_response::Body::Settled(status) => Some(status),
            other => panic!("not settled: {other:?}"),
        }
    }

    pub(super) fn status(&self, name: &str) -> ApplicationStatus {
        self.core
            .statuses(self.now)
            .into_iter()
            .find(|one| one.name == name)
            .unwrap()
    }
}
