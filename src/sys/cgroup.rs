//! What this process's cgroup lets it have (cgroups(7)).

use std::fs;
use std::path::{Path, PathBuf};

/// Bytes of memory that this process and those beside it may use: the least of its cgroup's limit and those
/// above. `None` without one.
pub fn memory_max() -> Option<u64> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let unified = limits(&own, &mounts, "cgroup2", "memory.max");
    let own_hierarchy = limits(&own, &mounts, "cgroup", "memory.limit_in_bytes");
    // Without a limit it is `max`, and a number beyond reason.
    const BEYOND: u64 = 1 << 62;
    unified
        .into_iter()
        .chain(own_hierarchy)
        .filter(|limit| *limit < BEYOND)
        .min()
}

/// Whether what is written at `path` stays in memory, as on tmpfs.
pub fn is_memory(path: &Path) -> bool {
    const MAGIC: [u64; 2] = [0x0102_1994, 0x8584_58f6]; // tmpfs, ramfs (statfs(2))
    rustix::fs::statfs(path)
        .is_ok_and(|stat| u64::try_from(stat.f_type).is_ok_and(|kind| MAGIC.contains(&kind)))
}

/// The limits of the cgroup in the hierarchy that is mounted as `kind`, and of those above it.
fn limits(own: &str, mounts: &str, kind: &str, file: &str) -> Vec<u64> {
    let path = own.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        let is_it = match kind {
            "cgroup2" => controllers.is_empty(),
            _ => controllers.split(',').any(|name| name == "memory"),
        };
        is_it.then_some(path)
    });
    let mount = mounts.lines().find_map(|line| {
        // Root and place are the fourth and fifth column; behind ` - ` come kind, source, options (proc(5)).
        let (columns, rest) = line.split_once(" - ")?;
        let mut rest = rest.split(' ');
        let is_kind = rest.next()? == kind;
        let options = rest.nth(1).unwrap_or_default();
        let is_it =
            is_kind && (kind == "cgroup2" || options.split(',').any(|name| name == "memory"));
        let mut columns = columns.split(' ').skip(3);
        is_it.then_some((columns.next()?, columns.next()?))
    });
    let (Some(path), Some((root, place))) = (path, mount) else {
        return Vec::new();
    };
    // In a container its own cgroup may be what is mounted.
    let below = Path::new(path).strip_prefix(root).unwrap_or(Path::new(""));
    let dir: PathBuf = Path::new(place).join(below);
    dir.ancestors()
        .take_while(|dir| dir.starts_with(place))
        .filter_map(|dir| fs::read_to_string(dir.join(file)).ok()?.trim().parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_limit_above_counts() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().display();
        let deep = dir.path().join("pod/app");
        fs::create_dir_all(&deep).unwrap();
        fs::write(deep.join("memory.max"), "max\n").unwrap();
        fs::write(dir.path().join("pod/memory.max"), "4096\n").unwrap();
        let mounts = format!("1 2 0:3 / {place} rw - cgroup2 none rw\n");
        let found = |own: &str, mounts: &str| limits(own, mounts, "cgroup2", "memory.max");
        assert_eq!(found("5:cpu:/x\n0::/pod/app\n", &mounts), [4096]);
        assert_eq!(found("0::/\n", &mounts), [0; 0]);
        let mounts = format!("1 2 0:3 /host {place}/pod rw - cgroup2 none rw\n");
        assert_eq!(found("0::/host/app\n", &mounts), [4096]);
        assert_eq!(found("0::/host\n", ""), [0; 0]);
    }
}
