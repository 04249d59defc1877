//! Clients of the world: what they ask, and the answers that they got.

use eagleray_types::control::{
    ApplicationSpec, ApplicationStatus, AwaitApplication, Rollback, api_response,
};

use super::world::World;
use crate::core::{CallId, Event, Request};

impl World {
    fn request(&mut self, call: CallId, request: Request) {
        self.feed(Event::Request { call, request });
    }

    fn call(&mut self) -> CallId {
        self.calls += 1;
        CallId {
            connection: 1,
            sequence: self.calls,
        }
    }

    pub(super) fn deploy(&mut self, spec: ApplicationSpec) -> CallId {
        let call = self.call();
        let wall_time_s = 1.0;
        self.request(call, Request::Deploy { spec, wall_time_s });
        call
    }

    pub(super) fn rollback(&mut self, application: &str, revision: &str) -> CallId {
        let call = self.call();
        let rollback = Rollback {
            application: application.into(),
            revision: revision.into(),
            ..Rollback::default()
        };
        let wall_time_s = 2.0;
        let request = Request::Rollback {
            rollback,
            wall_time_s,
        };
        self.request(call, request);
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
