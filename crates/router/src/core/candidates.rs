//! Which replicas of a deployment take requests, and which of them are believed to have room: lists, so that a choice is one
//! draw, each brought in line when something is learned of a replica.

use eagleray_wire::Claims;

use super::{
    Core, Pending,
    replica::Replica,
    table::{Index, ReplicaIndex},
};

impl<C: Claims> Core<C> {
    /// Brings the lists of candidates in line with what is known of a replica. The caller settles the deployment.
    pub(super) fn refresh(&mut self, index: ReplicaIndex) {
        let crossed = self.count_sound(index);
        self.place(index);
        let Some(others) = crossed else {
            return;
        };
        // The first that turns, or the last: those that do not are now to be avoided, or better than nothing.
        for other in others {
            let avoided = |replica: &Replica<C>| replica.avoided();
            if self.replicas.get(other).is_some_and(avoided) {
                self.place(other);
                self.evacuate(other);
            }
        }
    }

    /// Counts a replica among those that take requests and turn, or no longer. The deployment's replicas, if there is
    /// now a first of that kind, or none any more.
    fn count_sound(&mut self, index: ReplicaIndex) -> Option<Vec<ReplicaIndex>> {
        let replica = self.replicas.get_mut(index)?;
        let deployment = self.deployments.get_mut(replica.deployment)?;
        let version = deployment.versions.get(replica.version.position());
        let weighs = version.is_some_and(|version| version.weight > 0);
        let sound = weighs && replica.usable() && !replica.avoided();
        if sound == std::mem::replace(&mut replica.sound, sound) {
            return None;
        }
        let before = deployment.sound;
        deployment.sound = if sound { before + 1 } else { before - 1 };
        (before == 0 || deployment.sound == 0).then(|| deployment.replicas.clone())
    }

    fn place(&mut self, index: ReplicaIndex) {
        let Some(replica) = self.replicas.known_mut(index) else {
            return;
        };
        let Some(deployment) = self.deployments.known_mut(replica.deployment) else {
            return;
        };
        let taken = !replica.avoided() || deployment.sound == 0;
        let Some(version) = deployment.versions.get_mut(replica.version.position()) else {
            return;
        };
        let candidate = taken && replica.usable() && version.weight > 0;
        if candidate && replica.candidate_place.is_none() {
            replica.candidate_place = Some(version.candidates.len());
            version.candidates.push(index);
        } else if !candidate && let Some(place) = replica.candidate_place.take() {
            if replica.wanted {
                replica.wanted = false;
                deployment.waiting.retain(|other| *other != index);
                self.pending.push_back(Pending::Unwait {
                    replica: index,
                    generation: replica.generation,
                });
            }
            version.candidates.swap_remove(place);
            if let Some(moved) = version.candidates.get(place)
                && let Some(moved) = self.replicas.known_mut(*moved)
            {
                moved.candidate_place = Some(place);
            }
        }
        self.refresh_room(index);
    }

    /// The part of `refresh` that follows each request.
    pub(super) fn refresh_room(&mut self, index: ReplicaIndex) {
        let Some(replica) = self.replicas.known_mut(index) else {
            return;
        };
        let roomy = replica.candidate_place.is_some() && replica.has_room();
        if roomy == replica.room_place.is_some() {
            return;
        }
        let Some(deployment) = self.deployments.known_mut(replica.deployment) else {
            return;
        };
        let Some(version) = deployment.versions.get_mut(replica.version.position()) else {
            return;
        };
        if roomy {
            replica.room_place = Some(version.roomy.len());
            version.roomy.push(index);
            return;
        }
        let Some(place) = replica.room_place.take() else {
            return;
        };
        version.roomy.swap_remove(place);
        if let Some(moved) = version.roomy.get(place)
            && let Some(moved) = self.replicas.known_mut(*moved)
        {
            moved.room_place = Some(place);
        }
    }
}
