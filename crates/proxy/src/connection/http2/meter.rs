//! What a client does with a connection of HTTP/2, counted frame by frame, and when it is too much.
//!
//! h2 bounds memory and knows the rules, but it lets a client work it for nothing: PING, SETTINGS, PRIORITY,
//! `WINDOW_UPDATE` and empty DATA cost the client bytes and us time, and so do streams that are opened and reset. Two
//! rules, over [`Limits::h2_resets_window_s`]:
//!
//! - more than `h2_resets` streams reset, by the client or by us for a fault of it, and fewer completed than reset;
//! - more than `h2_control_frames` frames that carry nothing, beyond [`FREE_FRAMES`] for each that carries something.
//!
//! Either ends the connection with `GOAWAY(ENHANCE_YOUR_CALM)`. What h2 answers by itself (a stream too many, a header
//! list too long, an error of the protocol) is seen here as it is written, and counted.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Instant,
};

use super::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, Frames, GOAWAY, HEADERS, RST_STREAM,
    SETTINGS,
};
use crate::{
    connection::{Connection, Phase},
    limits::Limits,
    shard::Shard,
};

/// Frames without content that may go with one that has some: window updates of stream and connection, a PING to
/// measure the way, and room for clients that are generous with them.
const FREE_FRAMES: u64 = 10;

// Error codes, RFC 9113, section 7.
const NO_ERROR: u32 = 0;
const FLOW_CONTROL_ERROR: u32 = 3;
const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;
const ENHANCE_YOUR_CALM: u32 = 11;

/// Why a connection is to be ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Excess {
    Resets,
    ControlFrames,
}

/// Counts of one connection, shared by its socket and its task.
#[derive(Debug)]
pub(super) struct Meter {
    shard: Rc<Shard>,
    state: Rc<Connection>,
    /// Bytes of DATA that have come.
    received: Cell<u64>,
    /// What was written waits to be flushed at the end of the turn.
    held_back: Cell<bool>,
    inner: RefCell<Inner>,
}

#[derive(Debug)]
struct Inner {
    read: Frames,
    written: Frames,
    window: Window,
    /// Highest stream that the client opened.
    last_opened: u32,
    /// Answers that are all head: given to h2, and written. h2 answers a header list that is too long with one of its
    /// own, so more are written then.
    heads_given: u64,
    heads_written: u64,
    /// A header block, or the first SETTINGS, is awaited in full since this tick.
    head_since: Option<u32>,
    /// Only a part of a frame has come, since this tick.
    part_since: Option<u32>,
    last_kind: u8,
    excess: Option<Excess>,
    /// A GOAWAY went out that names a fault of the client.
    has_failed: bool,
}

/// What happened in the present stretch of time.
#[derive(Debug)]
struct Window {
    since: Instant,
    resets: u64,
    completed: u64,
    empty: u64,
    useful: u64,
}

impl Window {
    fn new(since: Instant) -> Self {
        Self {
            since,
            resets: 0,
            completed: 0,
            empty: 0,
            useful: 0,
        }
    }

    fn excess(&self, limits: &Limits) -> Option<Excess> {
        if self.resets > limits.h2_resets && self.completed < self.resets {
            return Some(Excess::Resets);
        }
        let free = limits.h2_control_frames + FREE_FRAMES.saturating_mul(self.useful);
        (self.empty > free).then_some(Excess::ControlFrames)
    }
}

impl Meter {
    /// `preface`: bytes of the preface that the socket gives out before the first frame.
    pub(super) fn new(shard: Rc<Shard>, state: Rc<Connection>, preface: usize) -> Self {
        let tick = shard.tick();
        Self {
            received: Cell::new(0),
            held_back: Cell::new(false),
            inner: RefCell::new(Inner {
                read: Frames::after(preface),
                written: Frames::default(),
                window: Window::new(Instant::now()),
                last_opened: 0,
                heads_given: 0,
                heads_written: 0,
                head_since: Some(tick),
                part_since: None,
                last_kind: SETTINGS,
                excess: None,
                has_failed: false,
            }),
            shard,
            state,
        }
    }

    /// What the client did too much of.
    pub(super) fn excess(&self) -> Option<Excess> {
        self.inner.borrow().excess
    }

    /// Whether the connection ends for a fault of the client, which may be sending still.
    pub(super) fn has_failed(&self) -> bool {
        self.inner.borrow().has_failed
    }

    /// Whether the client has opened a stream.
    pub(super) fn has_asked(&self) -> bool {
        self.inner.borrow().last_opened > 0
    }

    /// The client has ended its sending half. True: that is not to be heard yet, as an answer is on its way.
    pub(super) fn holds_end(&self) -> bool {
        // A client of HTTP/2 that leaves may say so (GOAWAY), which is bytes too.
        self.state.holds_end(self.shard.tick(), true)
    }

    /// Our last word is out.
    pub(super) fn lingers(&self) {
        self.state.phase.set(Phase::Lingering(self.shard.tick()));
    }

    /// Bytes of DATA that have come since this was asked last.
    pub(super) fn take_received(&self) -> u64 {
        self.received.take()
    }

    /// What was just written is not to be flushed yet.
    pub(super) fn hold_back(&self) {
        self.held_back.set(true);
    }

    /// Whether something waits to be flushed, and is not to be yet.
    pub(super) fn holds_back(&self) -> bool {
        self.held_back.get()
    }

    /// The turn ends. True: h2 is to flush once more.
    pub(super) fn ends_turn(&self) -> bool {
        self.held_back.take()
    }

    /// h2 is given an answer that is all head.
    pub(super) fn give_head(&self) {
        self.inner.borrow_mut().heads_given += 1;
    }

    /// Bytes came from the client.
    pub(super) fn read(&self, bytes: &[u8]) {
        let tick = self.shard.tick();
        let inner = &mut *self.inner.borrow_mut();
        let now = Instant::now();
        if now.duration_since(inner.window.since) > self.shard.settings().limits.h2_resets_window_s
        {
            inner.window = Window::new(now);
        }
        let mut frames = std::mem::take(&mut inner.read);
        frames.pass(bytes, |frame| {
            inner.part_since = None;
            inner.last_kind = frame.kind;
            if frame.kind == DATA {
                self.received
                    .set(self.received.get() + u64::from(frame.length));
            }
            inner.on_read(frame, tick);
        });
        inner.read = frames;
        inner.part_since = inner
            .read
            .is_inside()
            .then(|| inner.part_since.unwrap_or(tick));
        if inner.excess.is_none() {
            inner.excess = inner.window.excess(&self.shard.settings().limits);
        }
        // A part of a request's body is for the limits of bodies; a part of anything else is a slow head.
        let is_of_head = matches!(inner.last_kind, HEADERS | CONTINUATION)
            || matches!(self.state.phase.get(), Phase::Idle(_));
        let part_since = inner.part_since.filter(|_| is_of_head);
        self.state.slow_head.set(inner.head_since.or(part_since));
    }

    /// Bytes went to the client.
    pub(super) fn written(&self, bytes: &[u8]) {
        let inner = &mut *self.inner.borrow_mut();
        let mut frames = std::mem::take(&mut inner.written);
        frames.pass(bytes, |frame| inner.on_written(frame, &self.shard));
        inner.written = frames;
    }
}

impl Inner {
    fn on_read(&mut self, frame: Frame, tick: u32) {
        let window = &mut self.window;
        match frame.kind {
            HEADERS | CONTINUATION => {
                if frame.kind == CONTINUATION {
                    window.empty += 1;
                } else if frame.stream > self.last_opened {
                    self.last_opened = frame.stream;
                    window.useful += 1;
                } else {
                    // Trailers, or nothing good.
                    window.empty += 1;
                }
                self.head_since = if frame.flags & END_HEADERS == 0 {
                    self.head_since.or(Some(tick))
                } else {
                    None
                };
            }
            DATA if frame.length > 0 || frame.flags & END_STREAM != 0 => window.useful += 1,
            RST_STREAM => {
                window.resets += 1;
                window.empty += 1;
            }
            SETTINGS => {
                window.empty += 1;
                self.head_since = None;
            }
            _ => window.empty += 1,
        }
    }

    fn on_written(&mut self, frame: Frame, shard: &Shard) {
        let window = &mut self.window;
        if frame.flags & END_STREAM != 0 && matches!(frame.kind, DATA | HEADERS) {
            window.completed += 1;
        }
        match frame.kind {
            DATA => window.useful += 1,
            HEADERS if frame.flags & END_STREAM != 0 => {
                self.heads_written += 1;
                if self.heads_written > self.heads_given {
                    self.heads_given = self.heads_written;
                    shard.counters.heads_too_large.add();
                }
            }
            RST_STREAM if frame.code == REFUSED_STREAM => {
                shard.counters.h2_streams_refused.add();
                // It opened one too many, so its head was no use.
                window.useful = window.useful.saturating_sub(1);
                window.empty += 1;
            }
            RST_STREAM if !matches!(frame.code, NO_ERROR | CANCEL) => {
                window.resets += 1;
                if frame.code == FLOW_CONTROL_ERROR {
                    shard.counters.h2_flow_control_errors.add();
                } else {
                    shard.counters.h2_protocol_errors.add();
                }
            }
            GOAWAY if frame.code != NO_ERROR => {
                self.has_failed = true;
                match (frame.code, self.excess) {
                    (ENHANCE_YOUR_CALM, Some(Excess::ControlFrames)) => {
                        shard.counters.h2_control_floods.add();
                    }
                    // Ours, or h2's for resets before a stream is accepted, or for streams that it had to reset.
                    (ENHANCE_YOUR_CALM, _) => shard.counters.h2_reset_floods.add(),
                    (FLOW_CONTROL_ERROR, _) => shard.counters.h2_flow_control_errors.add(),
                    _ => shard.counters.h2_protocol_errors.add(),
                }
            }
            _ => {}
        }
    }
}
