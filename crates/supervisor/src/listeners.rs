//! The listening sockets that a node makes for its processes: a table by name.
//!
//! The node makes them and holds them, so that whoever connects while a process is away waits in the backlog and is
//! served by the next one. A process is told by one environment variable, [`LISTENERS`](crate::environment::LISTENERS),
//! which names it gets and under which descriptors: `http=7`. It takes those that it knows, and refuses others.

use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
};

/// Requests, on TCP.
pub const HTTP: &str = "http";
/// The control port, on TCP: people, the command line, and what deploys by REST. The node itself accepts from it.
pub const CONTROL: &str = "control";
/// Metrics and health, on TCP, for scrapers on other machines. The node itself accepts from it.
pub const METRICS: &str = "metrics";
/// Drivers and the command line, on a unix socket.
pub const CONTROLLER: &str = "controller";
/// What each proxy of the node gets, as far as it is there.
pub const OF_PROXIES: &[&str] = &[HTTP];

/// One that listens.
#[derive(Debug)]
pub struct Listener {
    pub socket: OwnedFd,
    /// Where others reach it: `http://127.0.0.1:8000`, or the path of a unix socket.
    pub address: String,
}

/// All of a node, or those of one process.
#[derive(Debug, Default)]
pub struct Listeners(BTreeMap<&'static str, Listener>);

impl Listeners {
    /// Adds one; under a name that is there, instead of it.
    pub fn insert(&mut self, name: &'static str, listener: Listener) {
        self.0.insert(name, listener);
    }

    /// The one of that name.
    pub fn get(&self, name: &str) -> Option<&Listener> {
        self.0.get(name)
    }

    /// A table of those of `names` that are there: each the same socket, under a descriptor of its own.
    ///
    /// # Errors
    /// When the process has no room for more descriptors.
    pub(crate) fn copies(&self, names: &[&str]) -> io::Result<Self> {
        let wanted = self.0.iter().filter(|(name, _)| names.contains(name));
        let copies = wanted.map(|(name, listener)| {
            let socket = listener.socket.try_clone()?;
            let address = listener.address.clone();
            Ok((*name, Listener { socket, address }))
        });
        copies.collect::<io::Result<_>>().map(Self)
    }

    /// Closes all. When those who have copies have closed theirs, clients are refused.
    pub(crate) fn close(&mut self) {
        self.0.clear();
    }

    pub(crate) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.0.values().map(|listener| listener.socket.as_fd())
    }

    /// As the environment variable says it.
    pub(crate) fn text(&self) -> String {
        let named = self.0.iter();
        let named = named.map(|(name, one)| format!("{name}={}", one.socket.as_raw_fd()));
        named.collect::<Vec<_>>().join(",")
    }
}

/// Reads what the environment variable says: names, and the descriptors under which they are.
///
/// # Errors
/// When it is not of that form, in words for a log.
pub fn parse(text: &str) -> Result<BTreeMap<String, RawFd>, String> {
    let entries = text.split(',').filter(|entry| !entry.is_empty());
    let named = entries.map(|entry| {
        let (name, number) = entry.split_once('=')?;
        Some((name.to_owned(), number.parse().ok()?))
    });
    named
        .collect::<Option<_>>()
        .ok_or_else(|| format!("{text:?} does not name listeners as NAME=DESCRIPTOR,..."))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn listener() -> Listener {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", socket.local_addr().unwrap());
        Listener {
            socket: socket.into(),
            address,
        }
    }

    #[test]
    fn a_process_gets_those_of_its_names_that_are_there() {
        let mut all = Listeners::default();
        for name in ["admin", HTTP, CONTROLLER] {
            all.insert(name, listener());
        }
        let some = all.copies(&["admin", HTTP, "metrics"]).unwrap();
        assert_eq!(
            some.get(HTTP).unwrap().address,
            all.get(HTTP).unwrap().address
        );
        assert!(some.get(CONTROLLER).is_none());
        let said = parse(&some.text()).unwrap();
        assert_eq!(said.keys().collect::<Vec<_>>(), ["admin", "http"]);
        let numbers: Vec<RawFd> = some.descriptors().map(|one| one.as_raw_fd()).collect();
        assert_eq!(said.into_values().collect::<Vec<_>>(), numbers);
    }

    #[test]
    fn clients_are_refused_once_all_copies_are_closed() {
        let mut all = Listeners::default();
        all.insert(HTTP, listener());
        let address = all.get(HTTP).unwrap().address.clone();
        let address = address.strip_prefix("http://").unwrap();
        let mut copies = all.copies(OF_PROXIES).unwrap();
        drop(all);
        std::net::TcpStream::connect(address).unwrap();
        copies.close();
        assert_eq!(
            (copies.text().as_str(), copies.descriptors().count()),
            ("", 0)
        );
        assert!(std::net::TcpStream::connect(address).is_err());
    }

    #[test]
    fn what_names_no_descriptor_is_refused_in_words() {
        assert_eq!(parse("").unwrap(), BTreeMap::new());
        for text in ["7", "http=", "http=x", "http=7;admin=8", "http=7,admin"] {
            assert!(parse(text).unwrap_err().contains(text), "{text}");
        }
    }
}
