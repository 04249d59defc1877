//! Descriptors on their way: the second socket of a data connection, and what was lent over it.
//!
//! The socket keeps messages apart (`SOCK_SEQPACKET`), so the descriptors of a message go whole or not at all, and
//! nothing of it touches the byte stream of the data connection. A descriptor is sent before the frame that names it
//! is written, and a unix socket hands over at once what was sent; so whoever reads the frame finds the descriptor
//! there, without waiting, and a descriptor that is not there never will be: the peer is broken. That is also why
//! nobody watches this socket: it is read when a frame names something.

use std::{
    collections::{HashMap, VecDeque},
    io::{self, IoSlice},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
};

use parking_lot::Mutex;
use rustix::{
    io::retry_on_intr,
    net::{
        AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags,
        SocketType, sendmsg, socketpair,
    },
};

use super::{
    Lent, MOST_ATTACHMENTS,
    message::{Attached, Attachment},
    received::Descriptor,
};
use crate::fork::{self, Listed};
use arrivals::Arrived;

mod arrivals;

pub use arrivals::{ChannelError, without_channel};

/// Room for the descriptors of one message.
const SPACE: usize = rustix::cmsg_space!(ScmRights(MOST_ATTACHMENTS));

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
