//! What nodes have to give, what replicas hold of it, and what is asked and not there.
//!
//! Amounts are whole numbers of ten-thousandths, the finest that Ray takes, so that halves and thirds that are taken and
//! given back a million times still add up. Names are those of options: `num_cpus`, `num_gpus`, `memory` (bytes), and
//! custom ones.

use std::collections::BTreeMap;

/// One of anything.
pub const UNIT: u64 = 10_000;

/// What a node has.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct NodeResources {
    /// By name. GPUs are `devices`.
    #[prost(btree_map = "string, uint64", tag = "1")]
    pub amounts: BTreeMap<String, u64>,
    /// Its GPUs, in the order of their numbers.
    #[prost(message, repeated, tag = "2")]
    pub devices: Vec<Device>,
}

/// One GPU.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Device {
    /// What `CUDA_VISIBLE_DEVICES` calls it: the UUID that its driver gives it, or a number.
    #[prost(string, tag = "1")]
    pub id: String,
    /// For people; empty: it is not known.
    #[prost(string, tag = "2")]
    pub model: String,
}

/// What one replica holds.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ResourceShare {
    /// By name, GPUs too.
    #[prost(btree_map = "string, uint64", tag = "1")]
    pub amounts: BTreeMap<String, u64>,
    /// By the number of the device: how much of it.
    #[prost(btree_map = "uint32, uint64", tag = "2")]
    pub devices: BTreeMap<u32, u64>,
}

/// Who has what on a node.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ResourcesStatus {
    #[prost(string, tag = "1")]
    pub node_id: String,
    #[prost(message, optional, tag = "2")]
    pub has: Option<NodeResources>,
    /// By name, GPUs too.
    #[prost(btree_map = "string, uint64", tag = "3")]
    pub used: BTreeMap<String, u64>,
    /// Of each device, how much.
    #[prost(uint64, repeated, tag = "4")]
    pub devices_used: Vec<u64>,
    #[prost(message, repeated, tag = "5")]
    pub holders: Vec<ResourceHolder>,
    #[prost(message, repeated, tag = "6")]
    pub pending: Vec<PendingResources>,
}

/// One replica that holds something.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ResourceHolder {
    #[prost(string, tag = "1")]
    pub application: String,
    #[prost(string, tag = "2")]
    pub deployment: String,
    #[prost(string, tag = "3")]
    pub replica_id: String,
    #[prost(message, optional, tag = "4")]
    pub share: Option<ResourceShare>,
}

/// A deployment of which replicas wait for room.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PendingResources {
    #[prost(string, tag = "1")]
    pub application: String,
    #[prost(string, tag = "2")]
    pub deployment: String,
    /// How many replicas wait.
    #[prost(uint32, tag = "3")]
    pub replicas: u32,
    /// What each asks for.
    #[prost(btree_map = "string, uint64", tag = "4")]
    pub asked: BTreeMap<String, u64>,
    /// What is missing first.
    #[prost(string, tag = "5")]
    pub missing: String,
    /// Wall clock, seconds.
    #[prost(double, tag = "6")]
    pub since_s: f64,
    /// What is missing, how much, and who holds it.
    #[prost(string, tag = "7")]
    pub sentence: String,
}
