//! What the peer has lent: descriptors that have come, and the frames that name them.

use std::{
    collections::VecDeque,
    io::{self, IoSliceMut},
    mem::MaybeUninit,
    sync::Arc,
};

use rustix::{
    io::{Errno, retry_on_intr},
    net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg},
};

use super::{Channel, SPACE};
use crate::region::{
    MOST_ATTACHMENTS, Received, Release,
    message::{Arrival, Named},
    received::{Descriptor, Held},
};

/// A peer that does not keep the rules: the connection must end.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    #[error("a message names {0} regions, more than {MOST_ATTACHMENTS}")]
    TooMany(usize),
    #[error("a message names region {0}, whose descriptor did not come")]
    Missing(u64),
    #[error("more descriptors came than messages named")]
    Unnamed,
    #[error("descriptors came with {0} bytes beside them")]
    Malformed(usize),
    #[error("region {number} is not what its message says: {error}")]
    Wrong { number: u64, error: io::Error },
    #[error("the socket of descriptors failed: {0}")]
    Socket(io::Error),
}

/// What a message names, on a connection without a channel: DATA only.
///
/// # Errors
/// It names a region, which the peer must not do.
pub fn without_channel(named: impl Iterator<Item = Named>) -> Result<Vec<Arrival>, ChannelError> {
    named
        .map(|one| match one.number {
            0 => Ok(Arrival::Data(one.length)),
            number => Err(ChannelError::Missing(number)),
        })
        .collect()
}

#[derive(Debug)]
pub(super) struct Arrived {
    number: u64,
    /// `None`: the kernel dropped it, because this process has no room for one more.
    descriptor: Option<Descriptor>,
}

impl Channel {
    /// The regions that a frame names. What is taken is released by its drop.
    ///
    /// # Errors
    /// The peer is broken.
    pub fn take(
        &self,
        named: impl Iterator<Item = Named>,
        release: &Arc<dyn Release>,
        held: &Arc<Held>,
    ) -> Result<Vec<Arrival>, ChannelError> {
        let mut arrivals = Vec::new();
        for one in named {
            if arrivals.len() == MOST_ATTACHMENTS {
                return Err(ChannelError::TooMany(arrivals.len() + 1));
            }
            if one.number == 0 {
                arrivals.push(Arrival::Data(one.length));
                continue;
            }
            let Some(descriptor) = self.find(one.number)? else {
                release.release(one.number, true);
                arrivals.push(Arrival::Lost(one));
                continue;
            };
            let received = Received::new(one, descriptor, Arc::clone(release), Arc::clone(held))
                .map_err(|error| ChannelError::Wrong {
                    number: one.number,
                    error,
                })?;
            arrivals.push(Arrival::Region(received));
        }
        Ok(arrivals)
    }

    /// `None`: it was lost.
    fn find(&self, number: u64) -> Result<Option<Descriptor>, ChannelError> {
        let mut state = self.state.lock();
        loop {
            let at = state.arrived.iter().position(|one| one.number == number);
            if let Some(found) = at.and_then(|at| state.arrived.remove(at)) {
                return Ok(found.descriptor);
            }
            if state.arrived.len() >= MOST_ATTACHMENTS {
                return Err(ChannelError::Unnamed);
            }
            if !self.receive(&mut state.arrived)? {
                return Err(ChannelError::Missing(number));
            }
        }
    }

    /// False: nothing is there.
    fn receive(&self, arrived: &mut VecDeque<Arrived>) -> Result<bool, ChannelError> {
        let mut space = [MaybeUninit::uninit(); SPACE];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut bytes = [0; MOST_ATTACHMENTS * Named::BYTES];
        let mut slices = [IoSliceMut::new(&mut bytes)];
        let received = retry_on_intr(|| {
            recvmsg(
                &self.socket,
                &mut slices,
                &mut ancillary,
                RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT,
            )
        });
        let length = match received {
            Ok(message) => message.bytes,
            Err(Errno::AGAIN) => return Ok(false),
            Err(error) => return Err(ChannelError::Socket(error.into())),
        };
        if length % Named::BYTES != 0 {
            return Err(ChannelError::Malformed(length));
        }
        let mut descriptors = ancillary
            .drain()
            .filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
                _ => None,
            })
            .flatten();
        // Of several the kernel gives the first, as far as this process may have them.
        for named in Named::read(&bytes[..length]) {
            arrived.push_back(Arrived {
                number: named.number,
                descriptor: descriptors.next().and_then(Descriptor::new),
            });
        }
        Ok(length > 0)
    }
}
