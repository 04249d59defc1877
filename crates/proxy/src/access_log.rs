//! Access lines: `time APP/DEPLOYMENT [request id] METHOD ROUTE STATUS LATENCYms`, or the same as JSON.
//!
//! What follows the head is Ray Serve's. Whose line it is stands before it, so that a search for an application finds its
//! requests; it is the same for all requests of a route, so it is put together once ([`Whose`]).
//! A line is put together from bytes into a buffer of the thread, with the second of its time printed once; full
//! buffers and those older than [`FLUSH_AFTER`] go to the [`Log`]. It is lossy, as all logs are: a disk that does not
//! keep up costs lines, which are counted in the log itself, never a request's time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use eagleray_logs::{Encoding, Log, push_json_string};
use eagleray_types::DeploymentKey;

/// The longest that a line waits in its thread.
pub(crate) const FLUSH_AFTER: Duration = Duration::from_millis(100);
const BUFFER_BYTES: usize = 32 * 1024;
/// Of a revision's hash, as in the lines of replicas.
const REVISION_LENGTH: usize = 8;

/// What one line says.
pub(crate) struct Line<'a> {
    pub(crate) request_id: &'a [u8],
    /// Whose route it is; `None`: no application's.
    pub(crate) whose: Option<&'a Whose>,
    /// In JSON only.
    pub(crate) traceparent: Option<&'a [u8]>,
    pub(crate) method: &'a str,
    pub(crate) route: &'a str,
    pub(crate) status: u16,
    pub(crate) latency: Duration,
}

/// Application, deployment and revision of a route, as they stand in lines.
#[derive(Debug)]
pub(crate) struct Whose {
    /// ` APP/DEPLOYMENT`
    text: Box<[u8]>,
    /// `,"application":"APP","deployment":"DEPLOYMENT","revision":"REVISION"`
    json: Box<[u8]>,
}

impl Whose {
    /// `revision`: its hash; `None` while requests go to more than one.
    pub(crate) fn new(key: &DeploymentKey, revision: Option<&str>) -> Self {
        let DeploymentKey {
            application,
            deployment,
        } = key;
        let revision = revision.and_then(|hash| hash.get(..REVISION_LENGTH).or(Some(hash)));
        let mut json = Vec::new();
        for (key, name) in [
            (&b",\"application\":"[..], Some(application.as_str())),
            (b",\"deployment\":", Some(deployment.as_str())),
            (b",\"revision\":", revision.filter(|hash| !hash.is_empty())),
        ] {
            if let Some(name) = name {
                json.extend_from_slice(key);
                push_json_string(&mut json, name);
            }
        }
        Self {
            text: format!(" {application}/{deployment}").into_bytes().into(),
            json: json.into(),
        }
    }
}

/// The buffer of one thread.
#[derive(Debug)]
pub(crate) struct AccessLog {
    log: Option<Log>,
    encoding: Encoding,
    buffer: Vec<u8>,
    lines: u64,
    second: u64,
    /// `2026-01-31T12:00:00`, for `second`.
    printed: [u8; 19],
}

impl AccessLog {
    pub(crate) fn new(log: Option<Log>, encoding: Encoding) -> Self {
        Self {
            log,
            encoding,
            buffer: Vec::new(),
            lines: 0,
            second: u64::MAX,
            printed: [b' '; 19],
        }
    }

    /// Adds a line; true if the buffer was empty, so that somebody must see to [`Self::flush`].
    pub(crate) fn write(&mut self, wall: SystemTime, line: &Line<'_>) -> bool {
        if self.log.is_none() {
            return false;
        }
        let first = self.buffer.is_empty();
        let since = wall.duration_since(UNIX_EPOCH).unwrap_or_default();
        if since.as_secs() != self.second {
            self.second = since.as_secs();
            self.printed = print_second(self.second);
        }
        match self.encoding {
            Encoding::Text => self.write_text(since, line),
            Encoding::Json => self.write_json(since, line),
        }
        self.lines += 1;
        if self.buffer.len() >= BUFFER_BYTES {
            self.flush();
        }
        first
    }

    fn write_text(&mut self, since: Duration, line: &Line<'_>) {
        self.write_time(since);
        let buffer = &mut self.buffer;
        if let Some(whose) = line.whose {
            buffer.extend_from_slice(&whose.text);
        }
        buffer.extend_from_slice(b" [");
        buffer.extend_from_slice(line.request_id);
        buffer.extend_from_slice(b"] ");
        buffer.extend_from_slice(line.method.as_bytes());
        buffer.push(b' ');
        buffer.extend_from_slice(line.route.as_bytes());
        self.write_outcome(line);
        self.buffer.push(b'\n');
    }

    /// With the keys of Ray Serve's access lines.
    fn write_json(&mut self, since: Duration, line: &Line<'_>) {
        self.buffer
            .extend_from_slice(b"{\"levelname\":\"INFO\",\"asctime\":\"");
        self.write_time(since);
        let buffer = &mut self.buffer;
        buffer.extend_from_slice(b"\",\"component_name\":\"proxy\",\"request_id\":");
        push_json_string(buffer, &String::from_utf8_lossy(line.request_id));
        if let Some(whose) = line.whose {
            buffer.extend_from_slice(&whose.json);
        }
        if let Some(id) = line.traceparent.and_then(trace_id) {
            buffer.extend_from_slice(b",\"trace_id\":\"");
            buffer.extend_from_slice(id);
            buffer.push(b'"');
        }
        buffer.extend_from_slice(b",\"route\":");
        push_json_string(buffer, line.route);
        buffer.extend_from_slice(b",\"serve_access_log\":true,\"message\":");
        push_json_string(buffer, &format!("{} {}", line.method, line.route));
        // The outcome goes into the same string.
        buffer.pop();
        self.write_outcome(line);
        self.buffer.extend_from_slice(b"\"}\n");
    }

    fn write_time(&mut self, since: Duration) {
        let buffer = &mut self.buffer;
        buffer.extend_from_slice(&self.printed);
        buffer.push(b'.');
        let milliseconds = since.subsec_millis();
        buffer.extend([100, 10, 1].map(|unit| b'0' + (milliseconds / unit % 10) as u8));
        buffer.push(b'Z');
    }

    /// ` STATUS LATENCYms`
    fn write_outcome(&mut self, line: &Line<'_>) {
        let buffer = &mut self.buffer;
        buffer.push(b' ');
        let mut digits = itoa::Buffer::new();
        buffer.extend_from_slice(digits.format(line.status).as_bytes());
        buffer.push(b' ');
        let tenths = u64::try_from(line.latency.as_micros() / 100).unwrap_or(u64::MAX);
        buffer.extend_from_slice(digits.format(tenths / 10).as_bytes());
        buffer.push(b'.');
        buffer.push(b'0' + (tenths % 10) as u8);
        buffer.extend_from_slice(b"ms");
    }

    /// Hands the buffer to the log.
    pub(crate) fn flush(&mut self) {
        let Some(log) = &self.log else { return };
        if self.buffer.is_empty() {
            return;
        }
        let buffer = std::mem::replace(&mut self.buffer, Vec::with_capacity(BUFFER_BYTES + 1024));
        log.write(buffer, std::mem::take(&mut self.lines));
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.flush();
    }
}

/// The trace of a `traceparent`, `VERSION-TRACE-PARENT-FLAGS`, if it is one.
pub(crate) fn trace_id(traceparent: &[u8]) -> Option<&[u8]> {
    let mut parts = traceparent.split(|byte| *byte == b'-');
    let id = parts.nth(1).filter(|id| id.len() == 32)?;
    let is_id = id
        .iter()
        .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    (is_id && id.iter().any(|byte| *byte != b'0')).then_some(id)
}

/// UTC, from the days since 1970 by the civil calendar: years begin in March, so that the leap day is the last.
fn print_second(second: u64) -> [u8; 19] {
    let days = second / 86_400 + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let mut text = *b"0000-00-00T00:00:00";
    let mut put = |at: usize, width: usize, mut value: u64| {
        for digit in text[at..at + width].iter_mut().rev() {
            *digit = b'0' + (value % 10) as u8;
            value /= 10;
        }
    };
    put(0, 4, year);
    put(5, 2, month);
    put(8, 2, day);
    put(11, 2, second / 3_600 % 24);
    put(14, 2, second / 60 % 60);
    put(17, 2, second % 60);
    text
}

#[cfg(test)]
mod tests {
    use eagleray_logs::{Limits, Writer};

    use super::*;

    #[test]
    fn seconds_print_as_utc_dates() {
        for (second, expected) in [
            (0, "1970-01-01T00:00:00"),
            (951_782_400, "2000-02-29T00:00:00"),
            (951_868_800, "2000-03-01T00:00:00"),
            (1_735_689_599, "2024-12-31T23:59:59"),
            (4_107_542_400, "2100-03-01T00:00:00"),
        ] {
            assert_eq!(
                std::str::from_utf8(&print_second(second)).unwrap(),
                expected
            );
        }
    }

    fn line(status: u16) -> Line<'static> {
        Line {
            request_id: b"abc",
            whose: None,
            traceparent: None,
            method: "GET",
            route: "/iris",
            status,
            latency: Duration::from_micros(12_345),
        }
    }

    fn written(encoding: Encoding, write: impl FnOnce(&mut AccessLog)) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let writer = Writer::start(Limits::default()).unwrap();
        let mut log = AccessLog::new(Some(writer.open(&path)), encoding);
        write(&mut log);
        drop(log);
        writer.flush(Duration::from_secs(20));
        std::fs::read_to_string(path).unwrap()
    }

    // contract: 10.4/access-line
    #[test]
    fn lines_reach_the_file_in_order_with_time_and_id() {
        let whose = Whose::new(&DeploymentKey::new("flowers", "Iris"), None);
        let text = written(Encoding::Text, |log| {
            let line_200 = Line {
                whose: Some(&whose),
                ..line(200)
            };
            assert!(log.write(UNIX_EPOCH + Duration::from_millis(1_500), &line_200));
            assert!(!log.write(UNIX_EPOCH + Duration::from_millis(2_007), &line(404)));
        });
        assert_eq!(
            text,
            "1970-01-01T00:00:01.500Z flowers/Iris [abc] GET /iris 200 12.3ms\n1970-01-01T00:00:02.007Z [abc] GET /iris 404 12.3ms\n"
        );
    }

    #[test]
    fn a_json_line_has_the_keys_of_ray_and_no_text_of_a_client_leaves_its_string() {
        let whose = Whose::new(
            &DeploymentKey::new("flo\"wers", "Iris"),
            Some("0123456789ab"),
        );
        let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let text = written(Encoding::Json, |log| {
            let hostile = Line {
                whose: Some(&whose),
                traceparent: Some(trace.as_bytes()),
                route: "/a\"b\n",
                ..line(500)
            };
            log.write(UNIX_EPOCH + Duration::from_millis(1_500), &hostile);
        });
        assert_eq!(
            text,
            "{\"levelname\":\"INFO\",\"asctime\":\"1970-01-01T00:00:01.500Z\",\"component_name\":\"proxy\",\
             \"request_id\":\"abc\",\"application\":\"flo\\\"wers\",\"deployment\":\"Iris\",\"revision\":\"01234567\",\
             \"trace_id\":\"4bf92f3577b34da6a3ce929d0e0e4736\",\"route\":\"/a\\\"b\\n\",\"serve_access_log\":true,\
             \"message\":\"GET /a\\\"b\\n 500 12.3ms\"}\n"
        );
    }

    #[test]
    fn only_a_trace_is_one() {
        for not_one in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e47\"6-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        ] {
            assert_eq!(trace_id(not_one.as_bytes()), None, "{not_one}");
        }
    }
}
