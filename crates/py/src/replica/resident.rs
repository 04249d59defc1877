//! How much of this process is in memory, as the kernel counts it: for replicas whose code leaks.
//!
//! The memory that a replica shares with its zygote counts too, so it is what `ps` and `top` show, and what people set a
//! limit by. What user code's own processes have does not.

/// 0: the kernel does not say.
pub(super) fn bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    of(&text).unwrap_or_default()
}

/// From a line such as `VmRSS:     1234 kB`.
fn of(status: &str) -> Option<u64> {
    let rest = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = rest.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_the_kernel_says() {
        let page = "VmSize:\t  200 kB\nVmRSS:\t     123 kB\nRssAnon:\t 7 kB\n";
        assert_eq!(of(page), Some(123 * 1024));
        assert_eq!(of("VmSize: 1 kB\n"), None);
        assert!(bytes() > 1 << 20, "this process is larger than a megabyte");
    }
}
