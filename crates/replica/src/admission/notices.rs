//! What admission tells routers: the frames that it sends by itself, and the answer to a request that it refuses.

use eagleray_wire::{Header, Kind};

use super::{Admission, ConnectionKey};

#[derive(Clone, Copy, Debug)]
pub(super) struct Notice {
    to: ConnectionKey,
    kind: Kind,
    /// The number of the WAIT that a soft grant answers; 0 for anything else.
    number: u64,
}

impl Notice {
    /// Nothing new is taken any more.
    pub(super) const fn gone(to: ConnectionKey) -> Self {
        Self {
            to,
            kind: Kind::Gone,
            number: 0,
        }
    }

    pub(super) const fn to(&self) -> ConnectionKey {
        self.to
    }
}

impl<T> Admission<T> {
    /// The next frame to send: GRANT or GONE. A connection's frames keep the order of the calls that caused them.
    pub fn poll_transmit(&mut self) -> Option<(ConnectionKey, Header)> {
        let Notice { to, kind, number } = self.out.pop_front()?;
        let header = self.header(kind, 0, number);
        Some((to, header))
    }

    /// The REJECT for a request that was not accepted.
    pub const fn reject(&self, slot: u32, sequence: u64) -> Header {
        self.header(Kind::Reject, slot, sequence)
    }

    pub(super) fn notify(&mut self, key: ConnectionKey, soft: bool) {
        let number = self.router(key).map_or(0, |router| router.number);
        let number = if soft { number } else { 0 };
        self.out.push_back(Notice {
            to: key,
            kind: Kind::Grant,
            number,
        });
    }

    const fn header(&self, kind: Kind, slot: u32, sequence: u64) -> Header {
        let mut header = Header::new(kind, slot, sequence);
        header.b = self.occupied();
        header.c = self.places();
        header
    }
}
