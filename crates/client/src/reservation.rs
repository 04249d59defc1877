//! A slot that a caller keeps for a call whose method and arguments it names later.

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::arguments::Arguments;

/// What a caller gives to the slot that it has reserved.
#[derive(Debug)]
pub struct Dispatched {
    pub arguments: Arguments,
    /// The caller iterates over the result.
    pub stream: bool,
}

/// The caller's end. Dropping it without a word ends the call as cancelled, and with it the slot is free.
#[derive(Debug)]
pub struct Reservation(Mutex<Option<oneshot::Sender<Dispatched>>>);

impl Reservation {
    /// Both ends; the second is for the router's thread.
    pub(crate) fn new() -> (Self, oneshot::Receiver<Dispatched>) {
        let (sender, receiver) = oneshot::channel();
        (Self(Mutex::new(Some(sender))), receiver)
    }

    /// Gives the slot its call; the first one only. One that is over already, by its time limit or with its replica, hears
    /// nothing.
    pub fn dispatch(&self, dispatched: Dispatched) {
        let sender = self.0.lock().take();
        if let Some(sender) = sender {
            // An error: the call is over, and its outcome says why.
            drop(sender.send(dispatched));
        }
    }
}
