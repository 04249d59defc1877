//! What connections bring.

use std::{sync::Arc, task::Waker, time::Instant};

use bytes::{Bytes, BytesMut};
use eagleray_wire::{
    Attachments, ClaimPage, DecodeError, Decoder, Flags, Frame, HeadError, Header, Kind, ModelKey,
    decode_routes,
    region::{self, Arrival, Channel, ChannelError},
};

use super::State;
use crate::{
    core::ConnectionKey,
    service::{
        connection::Connect,
        links::{Links, Regions},
        releases::Releaser,
        socket::Writer,
    },
};

/// A read that cannot be gone on with.
#[derive(Debug, thiserror::Error)]
pub(in crate::service) enum ReadError {
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error("more of an answer than there was credit for")]
    Overrun,
    #[error("a list of models that cannot be read")]
    Models,
    #[error("a list of routes that cannot be read")]
    Routes,
    #[error(transparent)]
    Table(#[from] HeadError),
    #[error(transparent)]
    Channel(#[from] ChannelError),
    #[error("a {0:?} frame, which only a router sends")]
    Unexpected(Kind),
}

impl State {
    pub(in crate::service) fn next_connect(&mut self) -> Option<Connect> {
        self.connects.pop_front()
    }

    pub(in crate::service) fn links(&mut self) -> &mut Links {
        &mut self.links
    }

    pub(in crate::service) fn connected(
        &mut self,
        now: Instant,
        key: ConnectionKey,
        write: Writer,
        (page, channel): (ClaimPage, Option<Channel>),
        hello: &Header,
    ) {
        let regions = channel.map(|channel| Regions {
            channel,
            release: Arc::new(Releaser {
                releases: Arc::clone(&self.releases),
                connection: key,
            }),
        });
        if self.links.open(key, write, regions) {
            self.core.connected(now, key, page, hello.b, hello.c);
        }
    }

    /// The connection is of no more use. Its requests move or fail.
    pub(in crate::service) fn disconnected(&mut self, key: ConnectionKey) {
        if self.links.close(key) {
            self.core.disconnected(Instant::now(), key);
        }
    }

    /// Takes whole frames out of `buffer`. After an error the connection cannot be used.
    pub(in crate::service) fn received(
        &mut self,
        now: Instant,
        key: ConnectionKey,
        buffer: &mut BytesMut,
    ) -> Result<(), ReadError> {
        while let Some(frame) = Decoder::data().decode(buffer)? {
            self.on_frame(now, key, frame)?;
        }
        Ok(())
    }

    fn on_frame(
        &mut self,
        now: Instant,
        key: ConnectionKey,
        frame: Frame,
    ) -> Result<(), ReadError> {
        let header = frame.header;
        let request = self.core.on_frame(now, key, &header);
        match header.kind {
            Kind::Response => {
                let mut payload = frame.payload;
                // Before it is known whether anybody wants them: dropped, they are released.
                let has_head = header.flags.contains(Flags::HEAD);
                let arrivals = if header.a > 0 && !has_head {
                    self.arrivals(key, header.a, &mut payload)?
                } else {
                    Vec::new()
                };
                let route = if has_head {
                    self.route(key, header.a)
                } else {
                    None
                };
                let Some(owner) = request.and_then(|request| self.owner(request)) else {
                    return Ok(());
                };
                let entry = &mut self.entries[owner];
                if !entry.answer.begun {
                    entry.body.release();
                }
                entry
                    .answer
                    .receive(header.flags, payload, arrivals, route)
                    .map_err(|_| ReadError::Overrun)?;
                if entry.answer.ended {
                    entry.body.wanted = false;
                }
                entry.wake();
            }
            Kind::Credit => {
                let Some(owner) = request.and_then(|request| self.owner(request)) else {
                    return Ok(());
                };
                let entry = &mut self.entries[owner];
                entry.body.credit(header.a);
                if std::mem::take(&mut entry.body.awaits_asking) {
                    entry.wake();
                }
                self.resume_body(owner);
            }
            Kind::Models => {
                let models = ModelKey::decode(&frame.payload).ok_or(ReadError::Models)?;
                self.core.on_models(now, key, models);
            }
            Kind::Routes => {
                let routes = decode_routes(&frame.payload).ok_or(ReadError::Routes)?;
                if let Some(link) = self.links.link(key) {
                    link.routes = routes;
                }
            }
            Kind::Release => {
                if let Some(regions) = self.links.link(key).and_then(|link| link.regions.as_ref()) {
                    regions.channel.released(header.sequence, header.a == 1);
                }
            }
            Kind::Grant | Kind::Reject | Kind::Gone | Kind::Hung => {}
            kind => return Err(ReadError::Unexpected(kind)),
        }
        Ok(())
    }

    /// The route with this number in the list of the replica; one that has none is of no use, and no reason to end anything.
    fn route(&mut self, key: ConnectionKey, number: u32) -> Option<Arc<str>> {
        let at = usize::try_from(number).ok()?.checked_sub(1)?;
        let route = self.links.link(key)?.routes.get(at)?;
        (!route.is_empty()).then(|| Arc::clone(route))
    }

    /// Takes the table of attachments off the front of an answer, and the regions that it names.
    fn arrivals(
        &mut self,
        key: ConnectionKey,
        count: u32,
        payload: &mut Bytes,
    ) -> Result<Vec<Arrival>, ReadError> {
        let front = payload.clone();
        let (table, data) = Attachments::split(count as usize, &front)?;
        *payload = front.slice_ref(data);
        let regions = self.links.link(key).and_then(|link| link.regions.as_ref());
        Ok(match (regions, &self.regions) {
            (Some(Regions { channel, release }), Some(held)) => {
                channel.take(table.iter(), release, held)?
            }
            _ => region::without_channel(table.iter())?,
        })
    }

    pub(in crate::service) const fn wants_regions(&self) -> bool {
        self.regions.is_some()
    }

    /// Who writes what is released on other threads.
    pub(in crate::service) fn set_releaser(&self, waker: &Waker) {
        self.releases.set_driver(waker);
    }

    /// Appends what other threads have released.
    pub(in crate::service) fn write_releases(&mut self) {
        for released in self.releases.take() {
            if let Some(link) = self.links.link(released.connection) {
                let mut header = Header::new(Kind::Release, 0, released.number);
                header.a = u32::from(released.reusable);
                header.encode(&mut link.out);
                self.links.list(released.connection);
            }
        }
    }
}
