//! What a proxy goes by and can be told anew while connections live: limits, TLS, whom it believes.
//!
//! Each thread has its own. A connection takes what it is made with (its certificate, sizes of buffers, what HTTP/2 has
//! told its client) when it begins, and keeps that; everything else is looked at when it is needed, so what a connection
//! begins later goes by what holds then. So a change ends nothing.

use std::time::Duration;

use crate::{hosts::Host, limits::Limits, memory, options::Options, tls, trust::Network};

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) root_path: String,
    pub(crate) request_timeout: Option<Duration>,
    pub(crate) keep_alive: Duration,
    pub(crate) limits: Limits,
    pub(crate) trusted_proxies: Vec<Network>,
    pub(crate) allowed_hosts: Vec<Host>,
    /// What the windows of HTTP/2 connections may have together beyond their own.
    pub(crate) window_bytes: u64,
    /// `None`: plain TCP.
    pub(crate) tls: Option<tls::Server>,
}

impl Settings {
    pub(crate) fn new(options: &Options, tls: Option<tls::Server>) -> Self {
        let most = memory::most_bytes(&options.limits);
        Self {
            root_path: options.root_path.clone(),
            request_timeout: options.request_timeout,
            keep_alive: options.keep_alive,
            limits: options.limits.clone(),
            trusted_proxies: options.trusted_proxies.clone(),
            allowed_hosts: options.allowed_hosts.clone(),
            window_bytes: options.limits.h2_windows_bytes.min(most / 8),
            tls,
        }
    }

    /// The bound on what waits. Where memory is small, what waits must leave room for what goes on.
    pub(crate) fn queued_bytes(&self) -> usize {
        let most = memory::most_bytes(&self.limits);
        self.limits.queued_bytes.min(most / 4).max(64 * 1024) as usize
    }
}
