//! Reads the bytes of one HTTP/1.1 response: status, where its body ends, and whether the connection goes on.
//!
//! Not a validating parser: it trusts the server under test, and reports what it cannot follow as [`Broken`].

/// The server sent something that is no HTTP/1.1 response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Broken;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) status: u16,
    /// Bytes of head and body.
    pub(crate) length: usize,
    pub(crate) body_start: usize,
    pub(crate) close: bool,
}

/// The first response in `bytes`, or `None` when it is not complete. Called again from the start as more arrives:
/// the answers under test come in one or two reads.
pub(crate) fn parse(bytes: &[u8]) -> Result<Option<Response>, Broken> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Ok(None);
    };
    let (head, body_start) = (&bytes[..end + 2], end + 4);
    let status = head
        .strip_prefix(b"HTTP/1.")
        .and_then(|rest| rest.get(2..5))
        .ok_or(Broken)?;
    let status = number(status, 10)?;
    let (mut length, mut chunked, mut close) = (None, false, false);
    for line in head.split(|byte| *byte == b'\n').skip(1) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            continue;
        };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        // Lengths first: they tell almost every other header apart.
        match name.len() {
            14 if name.eq_ignore_ascii_case(b"content-length") => length = Some(number(value, 10)?),
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                chunked = value.ends_with(b"chunked");
            }
            10 if name.eq_ignore_ascii_case(b"connection") => {
                close = value.eq_ignore_ascii_case(b"close");
            }
            _ => {}
        }
    }
    let body_end = if chunked {
        match end_of_chunks(bytes, body_start)? {
            Some(end) => end,
            None => return Ok(None),
        }
    } else {
        match length {
            Some(length) => body_start.checked_add(length).ok_or(Broken)?,
            None if matches!(status, 204 | 304) => body_start,
            None => return Err(Broken),
        }
    };
    let status = u16::try_from(status).map_err(|_| Broken)?;
    Ok((bytes.len() >= body_end).then_some(Response {
        status,
        length: body_end,
        body_start,
        close,
    }))
}

fn end_of_chunks(bytes: &[u8], mut at: usize) -> Result<Option<usize>, Broken> {
    loop {
        let Some(rest) = bytes.get(at..) else {
            return Ok(None);
        };
        let Some(line) = rest.windows(2).position(|window| window == b"\r\n") else {
            return Ok(None);
        };
        let digits = rest[..line]
            .split(|byte| *byte == b';')
            .next()
            .unwrap_or_default();
        let size = number(digits.trim_ascii(), 16)?;
        at += line + 2;
        if size == 0 {
            // Trailers end with an empty line.
            let Some(rest) = bytes.get(at..) else {
                return Ok(None);
            };
            if rest.starts_with(b"\r\n") {
                return Ok(Some(at + 2));
            }
            return Ok(rest
                .windows(4)
                .position(|window| window == b"\r\n\r\n")
                .map(|end| at + end + 4));
        }
        at = at
            .checked_add(size)
            .and_then(|at| at.checked_add(2))
            .ok_or(Broken)?;
    }
}

fn number(digits: &[u8], radix: u32) -> Result<usize, Broken> {
    let text = std::str::from_utf8(digits).map_err(|_| Broken)?;
    usize::from_str_radix(text, radix).map_err(|_| Broken)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PLAIN: &[u8] = b"HTTP/1.1 200 OK\r\nX: y\r\nContent-Length: 2\r\n\r\nok";
    const CHUNKED: &[u8] =
        b"HTTP/1.1 503 No\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n1;x=y\r\n!\r\n0\r\n\r\n";

    #[test]
    fn every_prefix_is_incomplete_and_the_whole_is_read() {
        for (bytes, status) in [(PLAIN, 200), (CHUNKED, 503)] {
            for cut in 0..bytes.len() {
                assert_eq!(parse(&bytes[..cut]), Ok(None), "{cut}");
            }
            let twice = [bytes, bytes].concat();
            let response = parse(&twice).unwrap().unwrap();
            assert_eq!(
                (response.status, response.length, response.close),
                (status, bytes.len(), false)
            );
        }
    }

    #[test]
    fn close_and_bodiless_answers_are_seen() {
        let response = parse(b"HTTP/1.1 204 No\r\nConnection: Close\r\n\r\n")
            .unwrap()
            .unwrap();
        assert!(response.close);
        assert_eq!(response.length, response.body_start);
    }

    #[test]
    fn what_is_no_response_is_broken() {
        for bytes in [
            &b"SSH-2.0\r\n\r\n"[..],
            b"HTTP/1.1 abc\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n\r\n",
        ] {
            assert_eq!(parse(bytes), Err(Broken));
        }
    }

    proptest! {
        #[test]
        fn junk_never_panics(junk in prop::collection::vec(any::<u8>(), 0..200), at in 0..40_usize) {
            let mut bytes = CHUNKED.to_vec();
            let end = (at + junk.len()).min(bytes.len());
            bytes.splice(at..end.max(at), junk);
            if let Ok(Some(response)) = parse(&bytes) {
                prop_assert!(response.length <= bytes.len());
            }
        }
    }
}
