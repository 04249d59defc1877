//! Sessions: requests with one session id go to one replica, as long as that has room.
//!
//! Rendezvous hashing: for each session every replica has a weight, a hash over both ids, and of the replicas with room
//! the one with the highest weight gets the request. So all routers agree without a word and remember nothing, however
//! many sessions there are; a replica that comes or goes moves only those that are its own; and a session whose replica
//! is full goes to the same second one each time. (A ring of virtual nodes does the same with more to keep.)
//!
//! Nobody waits for a certain replica: what does not find room goes with the queue, wherever room is first. A request
//! that names a model as well follows the model. Versions are one set here, so that a session does not change sides with
//! each request while an update runs.

use eagleray_wire::{Claims, SessionKey};

use super::{
    deployment::Deployment,
    replica::Replica,
    table::{ReplicaIndex, Table},
};

impl Deployment {
    /// Where a request of a session goes: of the replicas with room, that which it prefers.
    pub(super) fn choose_in_session<C: Claims>(
        &self,
        session: SessionKey,
        replicas: &Table<ReplicaIndex, Replica<C>>,
    ) -> Option<ReplicaIndex> {
        self.versions
            .iter()
            .flat_map(|version| &version.roomy)
            .filter_map(|index| Some((*index, replicas.get(*index)?)))
            .max_by_key(|(_, replica)| weight(session, replica.place))
            .map(|(index, _)| index)
    }
}

/// A number for a replica's id, the same in every router.
pub(super) fn place(replica_id: &str) -> u64 {
    SessionKey::of(replica_id.as_bytes()).map_or(0, SessionKey::get)
}

/// Every bit of both moves every bit of it (the end of SplitMix64): FNV alone leaves neighbours in order.
const fn weight(session: SessionKey, place: u64) -> u64 {
    let mut mixed = session.get() ^ place.rotate_left(32);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
