//! How much each router has to do: what it says of itself, so that who scales sees the whole.

/// One router's word on the deployments that scale, of what has changed since its last one. Not answered.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Loads {
    /// Names a router for its life: `proxy PID/THREAD`, `handles PID/RANDOM`.
    #[prost(string, tag = "1")]
    pub router: String,
    /// All that it has: what is not named is 0.
    #[prost(bool, tag = "2")]
    pub whole: bool,
    /// Said by the node of a proxy that is gone: `proxy PID`, which is every thread of it.
    #[prost(bool, tag = "3")]
    pub gone: bool,
    #[prost(message, repeated, tag = "4")]
    #[expect(clippy::struct_field_names, reason = "loads are what it has")]
    pub loads: Vec<Load>,
}

impl Loads {
    /// Takes in what the same router said after it: the later word on a deployment is the one that holds.
    pub fn join(&mut self, said: Self) {
        if said.whole {
            *self = said;
            return;
        }
        for load in said.loads {
            let known = self.loads.iter_mut().find(|one| {
                (&one.application, &one.deployment) == (&load.application, &load.deployment)
            });
            match known {
                Some(known) => {
                    // Each is said once, so they add up.
                    let refused = known.refused.saturating_add(load.refused);
                    *known = Load { refused, ..load };
                }
                None => self.loads.push(load),
            }
        }
    }
}

/// What one router has of one deployment.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Load {
    #[prost(string, tag = "1")]
    pub application: String,
    #[prost(string, tag = "2")]
    pub deployment: String,
    /// Requests that wait in the router.
    #[prost(uint32, tag = "3")]
    pub queued: u32,
    /// Requests that were sent to replicas, and whose slots are not free again.
    #[prost(uint32, tag = "4")]
    pub running: u32,
    /// Replicas that it would cost something to stop; of the others there is nothing to say.
    #[prost(message, repeated, tag = "5")]
    pub replicas: Vec<ReplicaLoad>,
    /// Requests refused since its last word, because as many waited as may. Of deployments that do not scale, too.
    #[prost(uint32, tag = "6")]
    pub refused: u32,
}

/// What one router knows of one replica.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ReplicaLoad {
    #[prost(string, tag = "1")]
    pub replica_id: String,
    /// As [`Load::running`], of this replica.
    #[prost(uint32, tag = "2")]
    pub running: u32,
    /// Models that it holds, or loads.
    #[prost(uint32, tag = "3")]
    pub models: u32,
}
