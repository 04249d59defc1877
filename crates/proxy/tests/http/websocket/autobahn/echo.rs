//! A replica whose application sends back each message of each WebSocket.

use std::collections::{HashMap, VecDeque};

use eagleray_wire::{Flags, Frame, Kind};

use crate::support::Connection;

const PIECE: usize = 16 * 1024;

struct Open {
    request: Frame,
    message: Vec<u8>,
    credit: usize,
    /// What there was no credit for.
    waits: VecDeque<(Flags, Vec<u8>)>,
}

impl Open {
    fn new(request: Frame) -> Self {
        Self {
            request,
            message: Vec::new(),
            credit: 64 * 1024,
            waits: VecDeque::new(),
        }
    }

    /// Puts the message aside to be sent back.
    fn echo(&mut self, flags: Flags) {
        let kind = flags.only(Flags::TEXT);
        let message = std::mem::take(&mut self.message);
        let mut pieces: Vec<&[u8]> = message.chunks(PIECE).collect();
        let last = pieces.pop().unwrap_or_default();
        for piece in pieces {
            self.waits.push_back((kind, piece.to_vec()));
        }
        self.waits
            .push_back((kind.with(Flags::END_OF_MESSAGE), last.to_vec()));
    }

    fn send(&mut self, connection: &mut Connection) {
        while let Some((flags, data)) = self.waits.front() {
            let cost = flags.cost(data.len());
            if cost > self.credit {
                return;
            }
            self.credit -= cost;
            connection.respond(&self.request, *flags, data);
            self.waits.pop_front();
        }
    }
}

pub(super) fn serve(mut connection: Connection) {
    let mut all: HashMap<_, Open> = HashMap::new();
    while let Some(frame) = connection.try_frame() {
        let key = (frame.header.slot, frame.header.sequence);
        if frame.header.kind == Kind::Request {
            assert!(connection.start(&frame));
            connection.begin_answer(&frame, 101, &[]);
            all.insert(key, Open::new(frame));
            continue;
        }
        let Some(open) = all.get_mut(&key) else {
            continue;
        };
        let flags = frame.header.flags;
        match frame.header.kind {
            Kind::Credit => open.credit += frame.header.a as usize,
            Kind::Body if !flags.contains(Flags::END) => {
                open.message.extend_from_slice(&frame.payload);
                let cost = flags.cost(frame.payload.len()) as u32;
                connection.send(&open.request, Kind::Credit, Flags::NONE, cost, &[]);
                if flags.contains(Flags::END_OF_MESSAGE) {
                    open.echo(flags);
                }
            }
            Kind::Body | Kind::Cancel => {
                connection.respond(&open.request, Flags::END.with(Flags::DONE), b"");
                all.remove(&key);
                continue;
            }
            _ => {}
        }
        open.send(&mut connection);
    }
}
