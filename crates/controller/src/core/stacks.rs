//! What the threads of a replica are doing just now, for whoever asks.
//!
//! The replica's I/O thread answers, so neither the event loop nor the interpreter lock has to be free. Only a process
//! that stands still does not: then whoever asked is told so, within a few seconds.

use std::time::Duration;

use eagleray_types::control::{Ask, ReplicaStacks, StacksAre, api_response, replica_command};

use super::{event::CallId, outbox::Outbox, validate::api_error};
use crate::books::{Books, replica_state::ReplicaState};

/// Questions that may be open; more are refused.
const MOST_OPEN: usize = 64;
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);

#[derive(Debug)]
struct Question {
    id: u64,
    call: CallId,
    replica_id: String,
    until: Duration,
}

#[derive(Debug, Default)]
pub(super) struct Questions(Vec<Question>);

impl Questions {
    pub(super) fn ask(
        &mut self,
        call: CallId,
        replica_id: String,
        books: &Books,
        now: Duration,
        out: &mut Outbox,
    ) {
        let Some(replica) = books.replica(&replica_id) else {
            let message = format!(
                "no replica '{replica_id}' runs, so it has no threads; the status says how those that died have ended"
            );
            return out.refuse(call, api_error("not_found", message));
        };
        if replica.state == ReplicaState::Starting && replica.pid == 0 {
            // The command waits for its process, which reads it as soon as it can.
            out.list();
        }
        if self.0.len() >= MOST_OPEN {
            let message = "too many questions for stacks are open; try again in a moment";
            return out.refuse(call, api_error("internal", message));
        }
        let id = out.next_question();
        let ask = replica_command::Body::ShowStacks(Ask { id });
        out.tell(&replica.node, &replica_id, ask);
        self.0.push(Question {
            id,
            call,
            replica_id,
            until: now + ANSWERS_WITHIN,
        });
    }

    pub(super) fn answered(&mut self, replica_id: &str, said: StacksAre, out: &mut Outbox) {
        let is_meant = |one: &mut Question| one.id == said.id && one.replica_id == replica_id;
        let Some(question) = self.0.extract_if(.., is_meant).next() else {
            return;
        };
        if said.stacks.is_empty() {
            let message = format!(
                "the stacks of replica '{replica_id}' cannot be had: its code has taken the signal by which they are \
                 asked for (SIGSTKFLT)"
            );
            return out.refuse(question.call, api_error("unavailable", message));
        }
        let body = api_response::Body::Stacks(ReplicaStacks {
            replica_id: question.replica_id,
            stacks: said.stacks,
            at_s: out.wall_now_s,
        });
        out.reply(question.call, body);
    }

    /// A replica is gone.
    pub(super) fn on_gone(&mut self, replica_id: &str, out: &mut Outbox) {
        for question in self.0.extract_if(.., |one| one.replica_id == replica_id) {
            let message = format!("replica '{replica_id}' ended before it could answer");
            out.refuse(question.call, api_error("not_found", message));
        }
    }

    pub(super) fn on_client_gone(&mut self, connection: u64) {
        self.0.retain(|one| one.call.connection != connection);
    }

    pub(super) fn next_timeout(&self) -> Option<Duration> {
        self.0.iter().map(|one| one.until).min()
    }

    pub(super) fn on_timeout(&mut self, now: Duration, out: &mut Outbox) {
        for question in self.0.extract_if(.., |one| one.until <= now) {
            let message = format!(
                "replica '{}' has not answered within {} s: it has only just begun to start, or still imports \
                 its code, or its whole process stands still, as after SIGSTOP; kill -CONT with its pid lets it go on",
                question.replica_id,
                ANSWERS_WITHIN.as_secs()
            );
            out.refuse(question.call, api_error("unavailable", message));
        }
    }
}
