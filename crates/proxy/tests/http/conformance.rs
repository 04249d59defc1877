//! RFC 9113, sections 4 to 8, as far as a server must keep them (scenario 42): each case sends raw frames on a
//! connection of its own and says what must come back.
//!
//! Where several reactions are allowed the case takes those. Where h2, which reads the frames, does something else
//! than the RFC asks, the case says so in `deviates` and holds what it does; `docs/http2.md` lists these.

mod framing;
mod messages;
mod states;
mod types;

use std::{
    collections::HashMap,
    fmt::Write,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use eagleray_wire::{Flags, Kind};

use crate::support::{
    Proxy, Replica,
    raw::{GOAWAY, HEADERS, PING, RST_STREAM, Raw},
    target,
};

/// What must come back.
#[derive(Clone, Copy, Debug)]
enum Expect {
    /// GOAWAY with one of these codes, then the end of the connection.
    Connection(&'static [u32]),
    /// `RST_STREAM` with one of these codes, and the connection goes on.
    Stream(u32, &'static [u32]),
    /// A stream is answered with this status, and the connection goes on.
    Answer(u32, u16),
    /// Nothing: the connection goes on.
    Works,
    /// The end of the connection, with or without a GOAWAY.
    Closed,
    /// One of these.
    Either(&'static [Expect]),
}

struct Case {
    section: &'static str,
    says: &'static str,
    expect: Expect,
    /// What the RFC asks instead.
    deviates: &'static str,
    /// The settings are not exchanged before.
    bare: bool,
    send: fn(&mut Raw),
}

const fn case(
    section: &'static str,
    says: &'static str,
    expect: Expect,
    send: fn(&mut Raw),
) -> Case {
    Case {
        section,
        says,
        expect,
        deviates: "",
        bare: false,
        send,
    }
}

impl Case {
    const fn deviates(mut self, asked: &'static str) -> Self {
        self.deviates = asked;
        self
    }

    const fn bare(mut self) -> Self {
        self.bare = true;
        self
    }
}

/// What came back, until the probe was answered or the connection ended.
#[derive(Debug, Default)]
struct Seen {
    goaway: Option<u32>,
    resets: Vec<(u32, u32)>,
    answers: Vec<(u32, u16)>,
    ponged: bool,
    /// Probes that were answered.
    probes: u32,
    closed: bool,
}

const PROBE: &[u8; 8] = b"probe it";
/// After so many answers to probes, what the proxy itself has to say has been said.
const PROBES: u32 = 20;

impl Expect {
    /// Whether a replica must do something before it comes.
    fn is_of_user_code(self) -> bool {
        match self {
            Self::Answer(..) => true,
            Self::Either(all) => all.iter().any(|expect| expect.is_of_user_code()),
            _ => false,
        }
    }

    /// Whether this has come, so that nothing more must be waited for.
    fn has_come(self, seen: &Seen) -> bool {
        match self {
            Self::Connection(codes) => {
                seen.closed && seen.goaway.is_some_and(|code| codes.contains(&code))
            }
            Self::Stream(stream, codes) => {
                seen.ponged
                    && seen
                        .resets
                        .iter()
                        .any(|(reset, code)| *reset == stream && codes.contains(code))
            }
            Self::Answer(stream, status) => seen.ponged && seen.answers.contains(&(stream, status)),
            Self::Works => seen.ponged && seen.resets.is_empty() && seen.goaway.is_none(),
            Self::Closed => seen.closed,
            Self::Either(all) => all.iter().any(|expect| expect.has_come(seen)),
        }
    }
}

fn run(proxy: &Proxy, case: &Case) -> Result<(), String> {
    let mut raw = if case.bare {
        Raw::bare(proxy.http2)
    } else {
        Raw::connect(proxy.http2)
    };
    (case.send)(&mut raw);
    raw.frame(PING, 0, 0, PROBE);
    let mut seen = Seen::default();
    while !case.expect.has_come(&seen) {
        if seen.closed {
            return Err(format!("{seen:?}"));
        }
        match raw.next() {
            None => seen.closed = true,
            Some(frame) => match frame.kind {
                GOAWAY => seen.goaway = Some(frame.code()),
                RST_STREAM => seen.resets.push((frame.stream, frame.code())),
                HEADERS => seen.answers.push((frame.stream, frame.status())),
                PING if frame.payload == PROBE => {
                    seen.ponged = true;
                    seen.probes += 1;
                    if seen.probes <= PROBES {
                        raw.frame(PING, 0, 0, PROBE);
                    }
                }
                _ => {}
            },
        }
        // Something else than what is waited for will not turn into it.
        let wrong_goaway = seen.goaway.is_some()
            && !matches!(
                case.expect,
                Expect::Connection(_) | Expect::Closed | Expect::Either(_)
            );
        if wrong_goaway || (seen.probes > PROBES && !case.expect.is_of_user_code()) {
            return Err(format!("{seen:?}"));
        }
    }
    Ok(())
}

fn all() -> impl Iterator<Item = &'static Case> {
    [framing::CASES, states::CASES, types::CASES, messages::CASES]
        .into_iter()
        .flatten()
}

/// Answers a request when its body is there, many at a time.
pub(crate) fn answer_when_whole(mut connection: crate::support::Connection) {
    let mut open = HashMap::new();
    while let Some(frame) = connection.try_frame() {
        let key = (frame.header.slot, frame.header.sequence);
        match frame.header.kind {
            Kind::Request if connection.start(&frame) => {
                connection.send(&frame, Kind::Credit, Flags::NONE, 1 << 20, &[]);
                open.insert(key, frame.clone());
            }
            Kind::Cancel if open.remove(&key).is_some() => {
                connection.respond(&frame, Flags::END.with(Flags::DONE), b"");
            }
            _ => {}
        }
        if frame.header.flags.contains(Flags::END)
            && let Some(request) = open.remove(&key)
        {
            connection.answer(&request, 200, &[], b"hello");
        }
    }
}

#[test]
fn frames_get_the_reaction_that_the_rfc_asks() {
    let replica = Replica::serving("a", 1000, answer_when_whole);
    let proxy = Proxy::serving(target("D", &[&replica]));
    let mut problems = String::new();
    for case in all() {
        // A case that waits for what does not come must not hide the others.
        let seen = catch_unwind(AssertUnwindSafe(|| run(&proxy, case)));
        if let Err(seen) = seen.unwrap_or_else(|_| Err("nothing more".to_owned())) {
            let (section, says, expect) = (case.section, case.says, case.expect);
            writeln!(problems, "{section} {says}: wanted {expect:?}, got {seen}").unwrap();
        }
    }
    assert!(problems.is_empty(), "\n{problems}");
    // And nobody else has noticed.
    assert_eq!(proxy.client().get("/").status, 200);
    assert!(all().count() >= 100, "{}", all().count());
    let deviating = all().filter(|case| !case.deviates.is_empty()).count();
    crate::support::record::scenario(
        42,
        "raw frames against RFC 9113, sections 4 to 8; docs/http2.md lists what deviates",
        &[
            ("cases", all().count()),
            ("as the RFC asks", all().count() - deviating),
            ("another error than it asks for", deviating),
        ],
    );
}

/// `EAGLERAY_WRITE_DOCS=1` writes the page anew.
#[test]
fn the_page_of_http2_lists_what_deviates() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/http2.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once("<!-- table -->\n").unwrap();
    let (_, after) = rest.split_once("<!-- end -->\n").unwrap();
    let mut table =
        String::from("| section | case | the RFC asks | happens |\n|---|---|---|---|\n");
    for case in all().filter(|case| !case.deviates.is_empty()) {
        writeln!(
            table,
            "| {} | {} | {} | {} |",
            case.section,
            case.says,
            case.deviates,
            words(case.expect)
        )
        .unwrap();
    }
    let wanted = format!("{before}<!-- table -->\n{table}<!-- end -->\n{after}");
    if std::env::var_os("EAGLERAY_WRITE_DOCS").is_some() {
        std::fs::write(&path, &wanted).unwrap();
    }
    assert!(
        page == wanted,
        "docs/http2.md is old: run this test with EAGLERAY_WRITE_DOCS=1"
    );
}

fn words(expect: Expect) -> String {
    match expect {
        Expect::Connection(codes) => format!("GOAWAY, error {codes:?}"),
        Expect::Stream(_, codes) => format!("RST_STREAM, error {codes:?}"),
        Expect::Answer(_, status) => format!("status {status}"),
        Expect::Works => "taken".to_owned(),
        Expect::Closed => "the connection is closed".to_owned(),
        Expect::Either(all) => {
            let all: Vec<_> = all.iter().map(|expect| words(*expect)).collect();
            all.join(" or ")
        }
    }
}
