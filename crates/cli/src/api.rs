//! Requests to the control port of a node, and what their failures mean to a person.
//!
//! Connections are made anew by each command and wait for nothing without a limit. No proxy of the environment is asked: the
//! node is on this machine, or in the same network.

use std::{
    io::{BufRead, BufReader, Read},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use rustls::crypto::aws_lc_rs;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use ureq::{Agent, Body, http::Response, tls::TlsConfig};

use crate::{
    exit::Exit,
    find::{Found, Where},
    trouble::{Flaw, Help, Outcome, Trouble},
};

/// Of an ordinary question; the node gives up sooner by itself.
const ANSWER_WITHIN: Duration = Duration::from_secs(35);
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// How long a question waits for a controller that is being started again, which takes a tenth of a second.
const AWAY_WITHIN: Duration = Duration::from_secs(3);
const ASK_AGAIN: Duration = Duration::from_millis(50);
/// The code of the node's answer meanwhile.
const AWAY: &str = "controller_away";
/// Of a plan, for which code is imported.
pub(crate) const BUILD_WITHIN: Duration = Duration::from_secs(610);
/// Longest answer that is read at once: a status of some thousand replicas is a tenth of it.
const MOST_BYTES: u64 = 64 << 20;
/// Longest line of an answer that streams.
const LONGEST_LINE: u64 = 4 << 20;

#[derive(Debug)]
pub(crate) struct Api {
    agent: Agent,
    pub(crate) found: Found,
}

/// The error object, and what Ray's paths answer instead of it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ErrorBody {
    code: String,
    message: String,
    #[serde(rename = "where")]
    place: String,
    help: Help,
    problems: Vec<Flaw>,
    error: String,
}

impl Api {
    pub(crate) fn of(place: &Where) -> Outcome<Self> {
        Ok(Self::to(place.find()?))
    }

    pub(crate) fn to(found: Found) -> Self {
        let tls = TlsConfig::builder()
            .unversioned_rustls_crypto_provider(Arc::new(aws_lc_rs::default_provider()))
            .build();
        let config = Agent::config_builder()
            .tls_config(tls)
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .user_agent(concat!("eagleray/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(CONNECT_WITHIN))
            .timeout_resolve(Some(CONNECT_WITHIN))
            .timeout_recv_response(Some(ANSWER_WITHIN))
            .build();
        Self {
            agent: Agent::new_with_config(config),
            found,
        }
    }

    /// A question. It is asked again while the controller is away: unlike a change, it may be.
    pub(crate) fn get<A: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
    ) -> Outcome<A> {
        let began = Instant::now();
        loop {
            match self.ask("GET", path, query, None, ANSWER_WITHIN) {
                Err(trouble) if trouble.code == AWAY && began.elapsed() < AWAY_WITHIN => {
                    thread::sleep(ASK_AGAIN);
                }
                asked => return self.read(asked?),
            }
        }
    }

    pub(crate) fn post<A: DeserializeOwned>(
        &self,
        path: &str,
        body: &Value,
        within: Duration,
    ) -> Outcome<A> {
        self.read(self.ask("POST", path, &[], Some(body), within)?)
    }

    /// An answer that comes line by line, for as long as it lasts.
    pub(crate) fn lines(&self, path: &str, query: &[(&str, &str)]) -> Outcome<Lines> {
        let answer = self.ask("GET", path, query, None, ANSWER_WITHIN)?;
        let body = answer.into_body().into_with_config().limit(u64::MAX);
        Ok(Lines {
            reader: BufReader::new(Box::new(body.reader())),
        })
    }

    fn ask(
        &self,
        method: &str,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&Value>,
        within: Duration,
    ) -> Outcome<Response<Body>> {
        let url = format!("{}{path}", self.found.address);
        let text = body.map(Value::to_string).unwrap_or_default();
        let mut request = ureq::http::Request::builder().method(method);
        let query = encoded(query);
        request = request.uri(if query.is_empty() {
            url
        } else {
            format!("{url}?{query}")
        });
        if let Some(token) = &self.found.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let request = request.body(text).map_err(|error| {
            Trouble::new(
                Exit::Usage,
                "address",
                format!("{}: {error}", self.found.address),
            )
        })?;
        let request = self
            .agent
            .configure_request(request)
            .timeout_recv_response(Some(within))
            .build();
        let answer = self
            .agent
            .run(request)
            .map_err(|error| self.unreached(&error, within))?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        Err(self.refused(answer))
    }

    fn read<A: DeserializeOwned>(&self, answer: Response<Body>) -> Outcome<A> {
        let read = answer
            .into_body()
            .into_with_config()
            .limit(MOST_BYTES)
            .read_to_vec();
        let bytes = read.map_err(|error| self.unreached(&error, ANSWER_WITHIN))?;
        // Some answers are empty, which is an object without fields.
        let bytes = if bytes.is_empty() {
            b"{}".to_vec()
        } else {
            bytes
        };
        serde_json::from_slice(&bytes).map_err(|error| {
            let message = format!(
                "the answer of {} cannot be read: {error}",
                self.found.address
            );
            self.other_release(Trouble::new(Exit::Unknown, "answer", message))
        })
    }

    /// The request did not come through.
    fn unreached(&self, error: &ureq::Error, within: Duration) -> Trouble {
        let address = &self.found.address;
        let (code, message) = match error {
            ureq::Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve) => (
                "unreachable",
                format!(
                    "{address} was not reached within {} s",
                    CONNECT_WITHIN.as_secs()
                ),
            ),
            ureq::Error::Timeout(_) => (
                "no_answer",
                format!("{address} has not answered within {} s", within.as_secs()),
            ),
            ureq::Error::Io(error) => (
                "unreachable",
                format!("{address} cannot be reached: {error}"),
            ),
            error => (
                "unreachable",
                format!("{address} cannot be reached: {error}"),
            ),
        };
        let trouble = Trouble::new(Exit::Unknown, code, message);
        match (code, self.found.local) {
            ("no_answer", _) => trouble.help("what was asked for may have happened: `eagleray status` shows what is there"),
            (_, true) => trouble.help("`eagleray status` says whether the node runs; `eagleray start` starts one"),
            (_, false) => trouble.help("is the address right, and does a node run there? `eagleray start` prints its control address"),
        }
    }

    /// The node said no.
    fn refused(&self, answer: Response<Body>) -> Trouble {
        let status = answer.status().as_u16();
        let read = answer
            .into_body()
            .into_with_config()
            .limit(MOST_BYTES)
            .lossy_utf8(true)
            .read_to_string();
        let text = read.unwrap_or_default();
        let exit = match status {
            404 => Exit::Missing,
            400..=499 => Exit::Refused,
            502..=504 => Exit::Unknown,
            _ => Exit::Failed,
        };
        if status == 401 {
            return self.wrong_token();
        }
        let body: Option<ErrorBody> = serde_json::from_str(&text).ok();
        match body {
            Some(body) if !body.message.is_empty() => {
                let mut trouble = Trouble::new(exit, &body.code, body.message);
                trouble.place = body.place;
                trouble.help = body.help.lines();
                // One alone is said by the object itself.
                trouble.problems = if body.problems.len() > 1 {
                    body.problems
                } else {
                    Vec::new()
                };
                trouble
            }
            Some(body) if !body.error.is_empty() => Trouble::new(exit, "refused", body.error),
            _ => {
                let first = text.lines().next().unwrap_or_default();
                let message = format!("{} answered {status} {first}", self.found.address);
                self.other_release(Trouble::new(exit, "answer", message.trim_end()))
            }
        }
    }

    fn wrong_token(&self) -> Trouble {
        let (code, message) = match self.found.token {
            Some(_) => ("wrong_token", "does not take this token"),
            None => ("no_token", "wants a token"),
        };
        let message = format!("{} {message}", self.found.address);
        Trouble::new(Exit::Refused, code, message)
            .help(format!("where the token is from: {}", self.found.token_from))
            .help("the right one is in the file `token` of the node's run directory; set EAGLERAY_TOKEN or EAGLERAY_TOKEN_FILE")
    }

    /// What answers is no node, or one of another release: it is asked which.
    fn other_release(&self, trouble: Trouble) -> Trouble {
        #[derive(Deserialize)]
        struct Version {
            version: String,
        }
        let asked = self.ask_version();
        let version = asked.and_then(|text| serde_json::from_str::<Version>(&text).ok());
        match version {
            Some(Version { version }) if version != env!("CARGO_PKG_VERSION") => trouble.help(format!(
                "the node is of release {version}, and this command of {}: use the command of its environment",
                env!("CARGO_PKG_VERSION")
            )),
            Some(_) => trouble,
            None => trouble.help("is this the control port of a node? `eagleray start` prints its control address"),
        }
    }

    fn ask_version(&self) -> Option<String> {
        let mut request = self
            .agent
            .get(format!("{}/api/ray/version", self.found.address));
        if let Some(token) = &self.found.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let answer = request
            .call()
            .ok()
            .filter(|answer| answer.status().is_success())?;
        let body = answer.into_body().into_with_config().limit(LONGEST_LINE);
        body.read_to_string().ok()
    }
}

/// The lines of an answer that streams.
pub(crate) struct Lines {
    reader: BufReader<Box<dyn Read>>,
}

impl Iterator for Lines {
    type Item = std::io::Result<String>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut line = Vec::new();
        let read = self
            .reader
            .by_ref()
            .take(LONGEST_LINE)
            .read_until(b'\n', &mut line);
        match read {
            Ok(0) => None,
            Ok(_) => Some(Ok(String::from_utf8_lossy(&line).trim_end().to_owned())),
            Err(error) => Some(Err(error)),
        }
    }
}

fn encoded(query: &[(&str, &str)]) -> String {
    let pairs = query
        .iter()
        .map(|(key, value)| format!("{key}={}", escaped(value)));
    pairs.collect::<Vec<_>>().join("&")
}

/// A text as one segment of a path, or one value of a query.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
            out.push('%');
            out.push(char::from(DIGITS[usize::from(byte >> 4)]));
            out.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
    }
    out
}

#[cfg(test)]
mod tests;
