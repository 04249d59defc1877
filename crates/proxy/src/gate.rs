//! Which connections are taken: not more than the process can carry, not too many from one source.
//!
//! Shared by the threads of a process and touched when a connection opens and ends. Addresses are chosen by clients,
//! so the map of them has a keyed hash, and an entry for as long as a connection of its source is open only.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use rustix::process::{Resource, getrlimit};

use crate::{counters::Counters, limits::Limits, memory::Memory};

#[derive(Debug)]
pub(crate) struct Gate {
    most: AtomicU64,
    /// Places that were taken while there was no such limit are not counted.
    per_source: AtomicU64,
    per_loopback_source: AtomicU64,
    sources: Mutex<HashMap<IpAddr, u64>>,
    counters: Arc<Counters>,
    memory: Arc<Memory>,
}

/// The place of one open connection, given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    gate: Arc<Gate>,
    source: Option<IpAddr>,
}

impl Gate {
    pub(crate) fn new(limits: &Limits, counters: Arc<Counters>, memory: Arc<Memory>) -> Self {
        let gate = Self {
            most: AtomicU64::default(),
            per_source: AtomicU64::default(),
            per_loopback_source: AtomicU64::default(),
            sources: Mutex::default(),
            counters,
            memory,
        };
        gate.configure(limits);
        gate
    }

    /// Takes other limits. Who is in stays in.
    pub(crate) fn configure(&self, limits: &Limits) {
        let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let most = limits.connections.min((descriptors / 2).max(1));
        // Relaxed: the numbers guard nothing but themselves.
        self.most.store(most, Ordering::Relaxed);
        self.per_source
            .store(limits.connections_per_source, Ordering::Relaxed);
        self.per_loopback_source
            .store(limits.connections_per_loopback_source, Ordering::Relaxed);
    }

    /// Takes a connection from `client`, or says by a counter why not.
    pub(crate) fn enter(self: &Arc<Self>, client: IpAddr) -> Option<Place> {
        if self.memory.refuses_connections() {
            self.counters.connections_refused_memory.add();
            return None;
        }
        if !self
            .counters
            .connections_open
            .add_below(self.most.load(Ordering::Relaxed))
        {
            self.counters.connections_refused.add();
            return None;
        }
        // From here on dropping it gives the count back.
        let mut place = Place {
            gate: Arc::clone(self),
            source: None,
        };
        let client = client.to_canonical();
        let limit = if client.is_loopback() {
            &self.per_loopback_source
        } else {
            &self.per_source
        };
        let limit = limit.load(Ordering::Relaxed);
        if limit > 0 {
            let source = source(client);
            let mut sources = self.sources.lock();
            let count = sources.entry(source).or_insert(0);
            if *count >= limit {
                drop(sources);
                self.counters.connections_refused_per_source.add();
                return None;
            }
            *count += 1;
            place.source = Some(source);
        }
        self.counters.connections_accepted.add();
        Some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.gate.counters.connections_open.remove();
        let Some(source) = self.source else { return };
        if let Entry::Occupied(mut entry) = self.gate.sources.lock().entry(source) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}

/// Who has one address of a /64 of IPv6 has them all.
fn source(client: IpAddr) -> IpAddr {
    match client {
        IpAddr::V4(_) => client,
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(set: &[(&str, f64)]) -> Arc<Gate> {
        let mut limits = Limits::default();
        limits.set(set.iter().copied()).unwrap();
        Arc::new(Gate::new(&limits, Arc::default(), Arc::default()))
    }

    fn enter(gate: &Arc<Gate>, client: &str) -> Option<Place> {
        gate.enter(client.parse().unwrap())
    }

    #[test]
    fn a_process_takes_as_many_connections_as_it_may() {
        let gate = gate(&[("connections", 2.0)]);
        let first = enter(&gate, "127.0.0.1");
        let second = enter(&gate, "127.0.0.1");
        assert!(first.is_some() && second.is_some());
        assert!(enter(&gate, "10.0.0.1").is_none());
        drop(first);
        let third = enter(&gate, "10.0.0.1");
        assert!(third.is_some());
        drop((second, third));
        assert_eq!(gate.counters.connections_open.get(), 0);
        assert_eq!(gate.counters.connections_refused.get(), 1);
        assert!(gate.sources.lock().is_empty());
    }

    #[test]
    fn a_source_is_an_address_or_a_network_of_ipv6_and_never_loopback() {
        let gate = gate(&[("connections_per_source", 1.0)]);
        let places = [
            enter(&gate, "10.0.0.1"),
            enter(&gate, "10.0.0.2"),
            enter(&gate, "2001:db8:1:2::1"),
            enter(&gate, "2001:db8:1:3::1"),
            enter(&gate, "127.0.0.1"),
            enter(&gate, "127.0.0.1"),
            enter(&gate, "::1"),
            enter(&gate, "::1"),
        ];
        assert!(places.iter().all(Option::is_some));
        for again in ["10.0.0.1", "::ffff:10.0.0.2", "2001:db8:1:2::9"] {
            assert!(enter(&gate, again).is_none(), "{again}");
        }
        assert_eq!(gate.counters.connections_refused_per_source.get(), 3);
        drop(places);
        assert!(gate.sources.lock().is_empty());
        assert_eq!(gate.counters.connections_open.get(), 0);
    }
}
