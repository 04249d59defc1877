//! Reads along where HTTP/2 frames begin and end, in bytes that pass in pieces of any size.
//!
//! It keeps no payload but the first bytes of `RST_STREAM` and GOAWAY, which say why; so it costs a few instructions a
//! frame and no memory, and works the same for both directions.

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const GOAWAY: u8 = 7;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;

const HEADER_BYTES: usize = 9;

/// What is known of a frame when its header has passed, or, for `RST_STREAM` and GOAWAY, its error code too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    pub(super) length: u32,
    /// Of `RST_STREAM` and GOAWAY; 0 in others.
    pub(super) code: u32,
}

/// One direction of a connection.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// Header, and after it what is wanted of the payload.
    kept: [u8; HEADER_BYTES + 8],
    have: usize,
    /// Bytes that pass before the next header begins.
    skip: usize,
}

impl Frames {
    /// `skip` bytes come before the first frame (the preface).
    pub(super) fn after(skip: usize) -> Self {
        Self {
            skip,
            ..Self::default()
        }
    }

    /// Whether a frame has begun of which not all has passed.
    pub(super) fn is_inside(&self) -> bool {
        self.have > 0 || self.skip > 0
    }

    /// Takes bytes that pass, and calls `each` with every frame that is known now.
    pub(super) fn pass(&mut self, mut bytes: &[u8], mut each: impl FnMut(Frame)) {
        loop {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = bytes.get(skipped..).unwrap_or_default();
            if bytes.is_empty() {
                return;
            }
            let wanted = self.wanted();
            let taken = (wanted - self.have).min(bytes.len());
            let (now, rest) = bytes.split_at(taken);
            self.kept[self.have..self.have + taken].copy_from_slice(now);
            self.have += taken;
            bytes = rest;
            // The header may say that some of the payload is wanted too.
            if self.have == self.wanted() {
                let frame = self.frame();
                self.skip = frame.length as usize - (self.have - HEADER_BYTES);
                self.have = 0;
                each(frame);
            }
        }
    }

    /// Bytes to keep of the present frame.
    fn wanted(&self) -> usize {
        if self.have < HEADER_BYTES {
            return HEADER_BYTES;
        }
        let of_payload = match self.kept[3] {
            RST_STREAM => 4,
            GOAWAY => 8,
            _ => 0,
        };
        HEADER_BYTES + of_payload.min(self.length())
    }

    fn length(&self) -> usize {
        let [high, middle, low, ..] = self.kept;
        usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low)
    }

    fn frame(&self) -> Frame {
        let four = |at: usize| {
            u32::from_be_bytes([
                self.kept[at],
                self.kept[at + 1],
                self.kept[at + 2],
                self.kept[at + 3],
            ])
        };
        let code = match self.kept[3] {
            RST_STREAM if self.have >= HEADER_BYTES + 4 => four(HEADER_BYTES),
            GOAWAY if self.have >= HEADER_BYTES + 8 => four(HEADER_BYTES + 4),
            _ => 0,
        };
        Frame {
            kind: self.kept[3],
            flags: self.kept[4],
            stream: four(5) & 0x7fff_ffff,
            length: self.length() as u32,
            code,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        bytes.extend([kind, flags]);
        bytes.extend(stream.to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    #[test]
    fn frames_are_found_however_the_bytes_are_cut() {
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        bytes.extend(raw(SETTINGS, 0, 0, &[0; 12]));
        bytes.extend(raw(HEADERS, END_STREAM | END_HEADERS, 1, b"block"));
        bytes.extend(raw(DATA, END_STREAM, 3, b""));
        bytes.extend(raw(RST_STREAM, 0, 0x8000_0005, &[0, 0, 0, 8]));
        bytes.extend(raw(
            GOAWAY,
            0,
            0,
            &[0, 0, 0, 5, 0, 0, 0, 11, b'b', b'y', b'e'],
        ));
        bytes.extend(raw(RST_STREAM, 0, 7, &[1]));
        let expected = [
            (SETTINGS, 0, 12, 0),
            (HEADERS, 1, 5, 0),
            (DATA, 3, 0, 0),
            (RST_STREAM, 5, 4, 8),
            (GOAWAY, 0, 11, 11),
            (RST_STREAM, 7, 1, 0),
        ];
        for piece in [1, 2, 3, 5, 7, 9, 24, 1000] {
            let mut frames = Frames::after(24);
            let mut found = Vec::new();
            for chunk in bytes.chunks(piece) {
                frames.pass(chunk, |frame| {
                    found.push((frame.kind, frame.stream, frame.length, frame.code));
                });
            }
            assert_eq!(found, expected, "in pieces of {piece}");
            assert!(!frames.is_inside());
        }
    }
}
