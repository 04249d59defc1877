//! Descriptors on their way: the second socket of a data connection, and what was lent over it.
//!
//! The socket keeps messages apart (`SOCK_SEQPACKET`), so the descriptors of a message go whole or not at all, and
//! nothing of it touches the byte stream of the data connection. A descriptor is sent before the frame that names it
//! is written, and a unix socket hands over at once what was sent; so whoever reads the frame finds the descriptor
//! there, without waiting, and a descriptor that is not there never will be: the peer is broken. That is also why
//! nobody watches this socket: it is read when a frame names something.

use std::{
    collections::{HashMap, VecDeque},
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
};

use parking_lot::Mutex;
use rustix::{
    io::{Errno, retry_on_intr},
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
    },
};

use super::{
    Lent, MOST_ATTACHMENTS, Received, Release,
    message::{Arrival, Attached, Attachment, Named},
    received::{Descriptor, Held},
};
use crate::fork::{self, Listed};

/// Room for the descriptors of one message.
const SPACE: usize = rustix::cmsg_space!(ScmRights(MOST_ATTACHMENTS));

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

/// One end of the socket. Usable from any thread.
#[derive(Debug)]
pub struct Channel {
    state: Mutex<State>,
    // Before the descriptor: see `Listed`.
    _listed: Listed,
    socket: OwnedFd,
}

#[derive(Debug, Default)]
struct State {
    /// By number: what the other side has, and how often it was sent there.
    loans: HashMap<u64, Loan>,
    arrived: VecDeque<Arrived>,
    closed: bool,
}

/// What keeps a descriptor open while it is sent.
enum Source<'a> {
    Lent(&'a Lent),
    Received(Arc<Descriptor>),
}

impl<'a> Source<'a> {
    fn of(attachment: &'a Attachment) -> Option<Self> {
        match attachment {
            Attachment::Lent(lent) => Some(Self::Lent(lent)),
            // Without a descriptor once it was mapped.
            Attachment::Received(received) => received.descriptor().map(Self::Received),
            Attachment::Data(_) | Attachment::Lost => None,
        }
    }

    fn descriptor(&self) -> BorrowedFd<'_> {
        match self {
            Self::Lent(lent) => lent.descriptor(),
            Self::Received(descriptor) => descriptor.as_fd(),
        }
    }
}

#[derive(Debug)]
struct Loan {
    attachment: Attachment,
    times: u32,
    /// A release said that it may still be seen.
    spoiled: bool,
}

#[derive(Debug)]
struct Arrived {
    number: u64,
    /// `None`: the kernel dropped it, because this process has no room for one more.
    descriptor: Option<Descriptor>,
}

impl Channel {
    /// Both ends of a new socket; the second is for the peer.
    pub fn pair() -> io::Result<(Self, OwnedFd)> {
        let (own, peer) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            None,
        )?;
        Ok((Self::new(own)?, peer))
    }

    /// The end that came from a peer.
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        let listed = fork::list(&socket).ok_or_else(|| io::Error::other("too many descriptors"))?;
        rustix::io::ioctl_fionbio(&socket, true)?;
        Ok(Self {
            state: Mutex::default(),
            _listed: listed,
            socket,
        })
    }

    /// Sends the descriptors of a message that is about to be written, all or none. The peer has them until it
    /// releases each.
    ///
    /// # Errors
    /// They cannot be sent now (the peer reads nothing, or too many are under way), or one is none (DATA): the message
    /// must not name any of them.
    pub fn lend(&self, attached: &[Attached]) -> io::Result<()> {
        if attached.is_empty() {
            return Ok(());
        }
        if attached.len() > MOST_ATTACHMENTS {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let sources: Vec<_> = attached
            .iter()
            .map(|one| Source::of(&one.attachment))
            .collect::<Option<_>>()
            .ok_or(io::ErrorKind::InvalidInput)?;
        let descriptors: Vec<_> = sources.iter().map(Source::descriptor).collect();
        let bytes: Vec<_> = attached
            .iter()
            .flat_map(|one| one.named().encode())
            .collect();
        let mut state = self.state.lock();
        if state.closed {
            return Err(io::ErrorKind::NotConnected.into());
        }
        // Under the lock, so that no release comes before the loan is written down.
        self.send(&bytes, &descriptors)?;
        for one in attached {
            let loan = state.loans.entry(one.number).or_insert_with(|| Loan {
                attachment: one.attachment.clone(),
                times: 0,
                spoiled: false,
            });
            loan.times += 1;
        }
        Ok(())
    }

    pub(super) fn send(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); SPACE];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(io::Error::other("no room for the descriptors"));
        }
        retry_on_intr(|| {
            sendmsg(
                &self.socket,
                &[IoSlice::new(bytes)],
                &mut ancillary,
                SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
            )
        })?;
        Ok(())
    }

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

    /// RELEASE came. A number that is not known is none of ours any more.
    pub fn released(&self, number: u64, reusable: bool) {
        let mut state = self.state.lock();
        let Some(loan) = state.loans.get_mut(&number) else {
            return;
        };
        loan.times -= 1;
        loan.spoiled |= !reusable;
        if loan.times > 0 {
            return;
        }
        let loan = state.loans.remove(&number);
        drop(state);
        if let Some(loan) = loan {
            loan.end();
        }
    }

    /// The connection is over: what the peer has, it may have for ever.
    pub fn close(&self) {
        let loans = {
            let mut state = self.state.lock();
            state.closed = true;
            state.arrived.clear();
            std::mem::take(&mut state.loans)
        };
        for mut loan in loans.into_values() {
            loan.spoiled = true;
            loan.end();
        }
    }

    /// Regions that the peer has.
    pub fn lent(&self) -> usize {
        self.state.lock().loans.len()
    }
}

impl Loan {
    fn end(self) {
        if self.spoiled {
            self.attachment.spoil();
        }
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.close();
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
