//! Text that comes in pieces, checked as it comes.

/// A check of one message. The pieces may cut a character anywhere.
#[derive(Debug, Default)]
pub(super) struct Utf8 {
    /// The beginning of a character whose rest has not come.
    begun: [u8; 4],
    length: usize,
}

/// The bytes are no UTF-8, whatever follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotUtf8;

impl Utf8 {
    /// Takes the next piece.
    pub(super) fn take(&mut self, mut piece: &[u8]) -> Result<(), NotUtf8> {
        while self.length > 0 {
            let Some((first, rest)) = piece.split_first() else {
                return Ok(());
            };
            // Fewer than four bytes are begun: with four a character is whole or wrong.
            self.begun[self.length] = *first;
            self.length += 1;
            piece = rest;
            match std::str::from_utf8(&self.begun[..self.length]) {
                Ok(_) => self.length = 0,
                Err(error) if error.error_len().is_some() => return Err(NotUtf8),
                Err(_) => {}
            }
        }
        let Err(error) = std::str::from_utf8(piece) else {
            return Ok(());
        };
        if error.error_len().is_some() {
            return Err(NotUtf8);
        }
        let begun = &piece[error.valid_up_to()..];
        self.begun[..begun.len()].copy_from_slice(begun);
        self.length = begun.len();
        Ok(())
    }

    /// The message ends: no character may be left begun. Ready for the next.
    pub(super) fn end(&mut self) -> Result<(), NotUtf8> {
        if std::mem::take(&mut self.length) == 0 {
            Ok(())
        } else {
            Err(NotUtf8)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pieces: &[&[u8]]) -> Result<(), NotUtf8> {
        let mut utf8 = Utf8::default();
        for piece in pieces {
            utf8.take(piece)?;
        }
        utf8.end()
    }

    #[test]
    fn text_is_the_same_however_it_is_cut() {
        let text = "aé€😀\u{10ffff}\0z".as_bytes();
        for first in 0..=text.len() {
            for second in first..=text.len() {
                let pieces = [&text[..first], &text[first..second], &text[second..]];
                assert_eq!(check(&pieces), Ok(()), "{first} {second}");
            }
        }
        let single: Vec<&[u8]> = text.chunks(1).collect();
        assert_eq!(check(&single), Ok(()));
    }

    #[test]
    fn what_is_no_utf8_is_found_at_the_first_byte_that_proves_it() {
        for wrong in [
            &[0x80][..],
            &[0xc0],
            &[0xc1],
            &[0xc3, 0x28],
            &[0xe0, 0x80],
            &[0xed, 0xa0],
            &[0xf0, 0x80],
            &[0xf4, 0x90],
            &[0xf8],
            &[0xff],
        ] {
            let mut utf8 = Utf8::default();
            let (last, before) = wrong.split_last().unwrap();
            for byte in before {
                assert_eq!(utf8.take(&[*byte]), Ok(()), "{wrong:x?}");
            }
            assert_eq!(utf8.take(&[*last]), Err(NotUtf8), "{wrong:x?}");
            assert_eq!(check(&[wrong]), Err(NotUtf8), "{wrong:x?}");
        }
    }

    #[test]
    fn a_character_that_is_not_finished_is_found_at_the_end() {
        assert_eq!(check(&["€".as_bytes(), &[0xe2, 0x82]]), Err(NotUtf8));
    }
}
