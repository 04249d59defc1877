//! Whether the process that made a sheet still lives.
//!
//! By its number and the moment when it started, since numbers come back. A process that has ended and that nobody has
//! waited for yet (a zombie) is dead: it counts no more.

use std::fs;

/// When a process started, in ticks since the machine did; `None`: it has ended.
pub(crate) fn started(pid: u32) -> Option<u64> {
    parse(&fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// The third and the twenty-second field. The second is a name in parentheses, which may itself have any character.
fn parse(stat: &[u8]) -> Option<u64> {
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let mut fields = stat.get(end + 2..)?.split(u8::is_ascii_whitespace);
    let state = fields.next()?;
    if state == b"Z" || state == b"X" {
        return None;
    }
    let field = fields.nth(18)?;
    std::str::from_utf8(field).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_its_start_whatever_its_name() {
        let line = b"7 (a) b) S 1 7 7 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 1 0 4711 0 0\n";
        assert_eq!(parse(line), Some(4711));
        let zombie = b"7 (a) Z 1 7 7 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 1 0 4711 0 0\n";
        assert_eq!(parse(zombie), None);
        assert_eq!(parse(b"7 (a"), None);
        let own = started(std::process::id()).unwrap();
        assert_eq!(started(std::process::id()), Some(own));
    }
}
