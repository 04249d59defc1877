//! The loop: waits for readable connections, notes latencies, sends the next request on each.

use std::{
    collections::BTreeMap,
    io,
    mem::MaybeUninit,
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use rustix::{
    event::{
        Timespec,
        epoll::{self, CreateFlags, Event, EventData, EventFlags},
    },
    time::{ClockId, clock_gettime},
};
use serde::Serialize;

use crate::{
    connection::{Connection, Progress},
    histogram::Histogram,
    stream::Dial,
};

/// Distinct bodies that a tally holds.
const MAX_TALLY: usize = 64;
/// Connections that fail in a row, without an answer between them, before the server counts as gone.
const MAX_FAILURES: u32 = 1000;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Limit {
    Time(Duration),
    Requests(u64),
}

/// One measurement. Latencies are microseconds.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    requests: u64,
    seconds: f64,
    rps: f64,
    p50: f64,
    p90: f64,
    p99: f64,
    p999: f64,
    max: f64,
    non2xx: u64,
    errors: u64,
    /// What this program used itself.
    cpu_seconds: f64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    tally: BTreeMap<String, u64>,
}

#[derive(Debug)]
pub(crate) struct Engine {
    epoll: OwnedFd,
    dial: Dial,
    request: Vec<u8>,
    connections: Vec<Connection>,
    latencies: Histogram,
    tally: Option<BTreeMap<String, u64>>,
    requests: u64,
    non2xx: u64,
    errors: u64,
    failures_in_a_row: u32,
    /// No request was sent yet.
    fresh: bool,
}

impl Engine {
    pub(crate) fn new(
        dial: Dial,
        request: Vec<u8>,
        connections: usize,
        tally: bool,
    ) -> io::Result<Self> {
        let mut engine = Self {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            dial,
            request,
            connections: Vec::new(),
            latencies: Histogram::new(),
            tally: tally.then(BTreeMap::new),
            requests: 0,
            non2xx: 0,
            errors: 0,
            failures_in_a_row: 0,
            fresh: true,
        };
        for index in 0..connections {
            let connection = Connection::open(&engine.dial)?;
            engine.watch(&connection, index)?;
            engine.connections.push(connection);
        }
        Ok(engine)
    }

    /// Loads until the limit. Connections and the requests on them go on into the next run.
    pub(crate) fn run(&mut self, limit: Limit) -> io::Result<Report> {
        self.latencies.clear();
        (self.requests, self.non2xx, self.errors) = (0, 0, 0);
        if let Some(tally) = &mut self.tally {
            tally.clear();
        }
        let cpu_before = cpu_seconds();
        let start = Instant::now();
        if std::mem::take(&mut self.fresh) {
            for index in 0..self.connections.len() {
                self.send(index, start)?;
            }
        }
        let mut now = start;
        while !reached(limit, now - start, self.requests) {
            now = self.turn()?;
        }
        let seconds = (now - start).as_secs_f64();
        Ok(Report {
            requests: self.requests,
            seconds,
            rps: self.requests as f64 / seconds,
            p50: self.latencies.quantile_us(0.5),
            p90: self.latencies.quantile_us(0.9),
            p99: self.latencies.quantile_us(0.99),
            p999: self.latencies.quantile_us(0.999),
            max: self.latencies.maximum_us(),
            non2xx: self.non2xx,
            errors: self.errors,
            cpu_seconds: cpu_seconds() - cpu_before,
            tally: self.tally.clone().unwrap_or_default(),
        })
    }

    /// One wait and all that it brought; returns the time after it.
    fn turn(&mut self) -> io::Result<Instant> {
        let mut events = [MaybeUninit::<Event>::uninit(); 256];
        let timeout = Timespec {
            tv_sec: 0,
            tv_nsec: 50_000_000,
        };
        let (ready, _) = match epoll::wait(&self.epoll, &mut events[..], Some(&timeout)) {
            Err(rustix::io::Errno::INTR) => return Ok(Instant::now()),
            result => result?,
        };
        for event in ready {
            let (index, flags) = (event.data.u64() as usize, event.flags);
            if flags.contains(EventFlags::OUT) {
                self.resume(index)?;
            }
            if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
                self.readable(index)?;
            }
        }
        Ok(Instant::now())
    }

    fn readable(&mut self, index: usize) -> io::Result<()> {
        let connection = &mut self.connections[index];
        let response = match connection.receive() {
            Progress::Waiting => return Ok(()),
            Progress::Failed => return self.failed(index),
            Progress::Answered(response) => response,
        };
        let now = Instant::now();
        self.latencies
            .record((now - connection.sent_at).as_nanos() as u64);
        self.requests += 1;
        self.failures_in_a_row = 0;
        if !(200..300).contains(&response.status) {
            self.non2xx += 1;
        }
        if let Some(tally) = &mut self.tally {
            let body = String::from_utf8_lossy(connection.body(&response)).into_owned();
            if tally.len() < MAX_TALLY || tally.contains_key(&body) {
                *tally.entry(body).or_default() += 1;
            }
        }
        if connection.consume(&response).is_err() {
            return self.failed(index);
        }
        if response.close {
            return self.reopen(index);
        }
        self.send(index, now)
    }

    fn send(&mut self, index: usize, now: Instant) -> io::Result<()> {
        let connection = &mut self.connections[index];
        match connection.send(&self.request, now) {
            Ok(true) => Ok(()),
            Ok(false) => {
                let flags = EventFlags::IN | EventFlags::OUT;
                Ok(epoll::modify(
                    &self.epoll,
                    connection.stream.tcp(),
                    EventData::new_u64(index as u64),
                    flags,
                )?)
            }
            Err(_) => self.failed(index),
        }
    }

    fn resume(&mut self, index: usize) -> io::Result<()> {
        let connection = &mut self.connections[index];
        match connection.resume(&self.request) {
            Ok(true) => {
                let data = EventData::new_u64(index as u64);
                Ok(epoll::modify(
                    &self.epoll,
                    connection.stream.tcp(),
                    data,
                    EventFlags::IN,
                )?)
            }
            Ok(false) => Ok(()),
            Err(_) => self.failed(index),
        }
    }

    fn failed(&mut self, index: usize) -> io::Result<()> {
        self.errors += 1;
        self.failures_in_a_row += 1;
        if self.failures_in_a_row > MAX_FAILURES {
            return Err(io::Error::new(
                io::ErrorKind::ConnectionReset,
                "the server closes every connection",
            ));
        }
        self.reopen(index)
    }

    /// Replaces the connection; dropping the old one takes it out of epoll.
    fn reopen(&mut self, index: usize) -> io::Result<()> {
        let mut connection = Connection::open(&self.dial)?;
        self.watch(&connection, index)?;
        connection.sent_at = Instant::now();
        let now = connection.sent_at;
        self.connections[index] = connection;
        self.send(index, now)
    }

    fn watch(&self, connection: &Connection, index: usize) -> io::Result<()> {
        Ok(epoll::add(
            &self.epoll,
            connection.stream.tcp(),
            EventData::new_u64(index as u64),
            EventFlags::IN,
        )?)
    }
}

fn reached(limit: Limit, elapsed: Duration, requests: u64) -> bool {
    match limit {
        Limit::Time(time) => elapsed >= time,
        Limit::Requests(wanted) => requests >= wanted,
    }
}

fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
