//! How much memory there is, and what a process has of it.

use std::fs;

/// Bytes of the machine, or of the container that this runs in; `None`: nobody says.
pub(crate) fn of_machine() -> Option<u64> {
    let machine = kilobytes(&fs::read_to_string("/proc/meminfo").ok()?, "MemTotal:")?;
    // In a container its own group is the root of what is seen here.
    let limit = fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let limit = limit.and_then(|text| text.trim().parse().ok());
    Some(limit.unwrap_or(u64::MAX).min(machine))
}

/// Bytes that are not of files, shared with its forks or not; 0 when it has ended.
pub(crate) fn of_process(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    kilobytes(&status, "RssAnon:").unwrap_or(0)
}

/// Bytes, of a line `NAME   123 kB`.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let number: u64 = line.split_ascii_whitespace().next()?.parse().ok()?;
    Some(number * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_some_of_the_machine() {
        let (machine, own) = (of_machine().unwrap(), of_process(std::process::id()));
        assert!(own > 0 && own < machine, "{own} of {machine}");
        assert_eq!(of_process(0), 0);
        assert_eq!(
            kilobytes("A:   1 kB\nRssAnon:\t  3 kB\n", "RssAnon:"),
            Some(3072)
        );
    }
}
