//! Whether a model fits into the memory of this machine.

use std::fs;
use std::path::Path;

use super::error::{OnnxError, Result};

/// Rejects the model in `dir` if its files, of `bytes` bytes, are larger than memory and swap space together. (A sparse
/// file may be larger than the disk.) Loading it would take hours, or all memory of the machine.
pub fn check(dir: &Path, bytes: u64) -> Result<()> {
    match memory() {
        Some(memory) if bytes > memory => {
            let reason =
                format!("its files have {bytes} bytes, but the machine has {memory} bytes of memory");
            Err(OnnxError::file(dir, reason))
        }
        _ => Ok(()),
    }
}

/// Memory and swap space of the machine, or the limit of the container if that is lower; in bytes.
fn memory() -> Option<u64> {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| of_meminfo(&text));
    let limit =
        fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|text| text.trim().parse().ok());
    machine.into_iter().chain(limit).min()
}

fn of_meminfo(meminfo: &str) -> Option<u64> {
    let kilobytes = |name: &str| -> Option<u64> {
        let line = meminfo.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse().ok()
    };
    Some(1024 * (kilobytes("MemTotal:")? + kilobytes("SwapTotal:").unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_from_meminfo() {
        assert_eq!(of_meminfo("MemTotal:  1000 kB\nMemFree: 1 kB\nSwapTotal:  24 kB\n"), Some(1 << 20));
        assert_eq!(of_meminfo("MemFree: 1 kB\n"), None);
        assert!(memory().is_none_or(|bytes| bytes > 64 << 20));
    }

    #[test]
    fn what_is_larger_than_memory_is_refused() {
        let dir = Path::new("/models/m");
        assert_eq!(check(dir, 1), Ok(()));
        let error = check(dir, 1 << 60).map_err(|error| error.to_string());
        assert!(
            error.is_err_and(|text| text.starts_with("/models/m: its files have 1152921504606846976 bytes"))
        );
    }
}
