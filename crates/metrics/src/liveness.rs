//! Whether the process that made a sheet still lives.
//!
//! By its number and the moment when it started, since numbers come back. A process that has ended and that nobody has
//! waited for yet (a zombie) is dead: it counts no more.

use std::fs;

use rustix::param::{clock_ticks_per_second, page_size};

/// What the machine says of a process that lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Living {
    /// In ticks since the machine started.
    pub(crate) started: u64,
    pub(crate) usage: Usage,
}

/// What a process takes of the machine, without its children.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Since it started.
    pub cpu_ms: u64,
    /// Resident now.
    pub memory_bytes: u64,
}

/// When a process started, in ticks since the machine did; `None`: it has ended.
///
/// Asks the machine for nothing else: a process that makes its sheet runs under tools too (valgrind) that have no answer for
/// what [`living`] asks.
pub(crate) fn started(pid: u32) -> Option<u64> {
    read(pid).map(|said| said.started)
}

/// `None`: it has ended.
pub(crate) fn living(pid: u32) -> Option<Living> {
    read(pid).map(Said::living)
}

fn read(pid: u32) -> Option<Said> {
    parse(&fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// In the machine's own units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Said {
    started: u64,
    cpu_ticks: u64,
    pages: u64,
}

impl Said {
    fn living(self) -> Living {
        let milliseconds = self.cpu_ticks.saturating_mul(1000);
        Living {
            started: self.started,
            usage: Usage {
                cpu_ms: milliseconds / clock_ticks_per_second().max(1),
                memory_bytes: self.pages.saturating_mul(page_size() as u64),
            },
        }
    }
}

/// The third field, and the 14th, 15th, 22nd and 24th. The second is a name in parentheses, which may itself have any
/// character.
fn parse(stat: &[u8]) -> Option<Said> {
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let mut fields = stat.get(end + 2..)?.split(u8::is_ascii_whitespace);
    let state = fields.next()?;
    if state == b"Z" || state == b"X" {
        return None;
    }
    let mut number =
        |skip: usize| -> Option<u64> { std::str::from_utf8(fields.nth(skip)?).ok()?.parse().ok() };
    let (user, system) = (number(10)?, number(0)?);
    let started = number(6)?;
    let pages = number(1)?;
    Some(Said {
        started,
        cpu_ticks: user.saturating_add(system),
        pages,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_its_start_whatever_its_name() {
        let line = b"7 (a) b) S 1 7 7 0 -1 4194304 0 0 0 0 200 50 0 0 20 0 1 0 4711 0 3\n";
        let living = parse(line).unwrap().living();
        assert_eq!(living.started, 4711);
        assert_eq!(
            living.usage,
            Usage {
                cpu_ms: 250_000 / clock_ticks_per_second(),
                memory_bytes: 3 * page_size() as u64,
            }
        );
        let zombie = b"7 (a) Z 1 7 7 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 1 0 4711 0 0\n";
        assert_eq!(parse(zombie), None);
        assert_eq!(parse(b"7 (a"), None);
        let own = started(std::process::id()).unwrap();
        assert_eq!(started(std::process::id()), Some(own));
    }
}
