//! A real systemd as process 1 of namespaces of its own. Its root is this system's; what is written goes
//! with it.

use std::fs;
use std::io::Read as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::{LWNFLOG, output, until};

const REPOSITORY: &str = env!("CARGO_MANIFEST_DIR");

/// Makes the root and becomes systemd. Nothing of the machine is in its reach: `/sys` and `/proc/sys` are
/// read-only, devices are nodes of its own, the clock and modules are beyond its rights.
const BOOT: &str = r#"
set -eu
mount --make-rprivate /
mount -t tmpfs none /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work /mnt/root
cd /mnt/root
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
for dir in run tmp var/lib srv; do mount -t tmpfs -o mode=755 none $dir; done
chmod 1777 tmp
mount -t tmpfs -o mode=755 none dev
mkdir dev/pts dev/shm dev/mqueue
mount -t devpts -o newinstance,ptmxmode=666 none dev/pts
ln -s pts/ptmx dev/ptmx
mknod -m 666 dev/null c 1 3
mknod -m 666 dev/zero c 1 5
mknod -m 666 dev/full c 1 7
mknod -m 666 dev/random c 1 8
mknod -m 666 dev/urandom c 1 9
mknod -m 666 dev/tty c 5 0
cp "$1" usr/bin/lwnflog
chmod 755 usr/bin/lwnflog
cp "$2/packaging/lwnflog@.service" usr/lib/systemd/system/
cp "$2/packaging/lwnflog.sysusers" usr/lib/sysusers.d/lwnflog.conf
cp "$2/packaging/lwnflog.tmpfiles" usr/lib/tmpfiles.d/lwnflog.conf
rm -rf etc/systemd/system etc/lwnflog etc/rsyncd.conf
mkdir -p etc/systemd/system etc/lwnflog
printf '[Unit]\nRequires=sysinit.target\nAfter=sysinit.target\n' >etc/systemd/system/test.target
for unit in systemd-udevd systemd-udev-trigger systemd-modules-load systemd-sysctl systemd-binfmt \
	systemd-hwdb-update systemd-random-seed systemd-remount-fs systemd-tmpfiles-setup-dev kmod-static-nodes \
	keyboard-setup console-setup apparmor; do
	ln -s /dev/null etc/systemd/system/$unit.service
done
for unit in dev-hugepages.mount dev-mqueue.mount sys-kernel-debug.mount sys-kernel-tracing.mount \
	sys-kernel-config.mount sys-fs-fuse-connections.mount proc-sys-fs-binfmt_misc.automount; do
	ln -s /dev/null etc/systemd/system/$unit
done
exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin \
	setpriv --bounding-set=-sys_time,-sys_module,-sys_boot,-sys_rawio,-syslog \
	chroot . /lib/systemd/systemd --unit=test.target --log-target=journal --show-status=no
"#;

/// It runs, until this is dropped.
pub struct Booted {
    unshare: Child,
    init: String,
    cgroup: PathBuf,
}

impl Booted {
    pub fn new() -> Booted {
        static BOOTED: AtomicU32 = AtomicU32::new(0);
        let number = BOOTED.fetch_add(1, Ordering::Relaxed);
        let name = format!("lwnflog-test-{}-{number}", std::process::id());
        let cgroup = cgroup2().join(name);
        fs::create_dir(&cgroup)
            .unwrap_or_else(|error| panic!("this test needs root: {}: {error}", cgroup.display()));
        // It goes when this thread does.
        let enter = "echo $$ >\"$3/cgroup.procs\" && exec unshare -m -p -f -u -i -n -C --kill-child \
                     bash -c \"$0\" boot \"$1\" \"$2\"";
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "sh", "-c", enter, BOOT]);
        command.args([Path::new(LWNFLOG), Path::new(REPOSITORY), &cgroup]);
        let mut unshare = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let children = format!("/proc/{0}/task/{0}/children", unshare.id());
        let init = until("systemd has been started", || {
            if unshare.try_wait().unwrap().is_some() {
                let mut said = String::new();
                let _ = unshare.stderr.take()?.read_to_string(&mut said);
                panic!(
                    "systemd cannot be booted in namespaces (root, cgroups of version 2): {said}"
                );
            }
            let init = fs::read_to_string(&children).ok()?.trim().to_owned();
            let name = fs::read_to_string(format!("/proc/{init}/comm")).ok()?;
            (name.trim() == "systemd").then_some(init)
        });
        let booted = Booted {
            unshare,
            init,
            cgroup,
        };
        until("it has come up", || {
            let state = booted.output("systemctl is-active test.target");
            (String::from_utf8_lossy(&state.stdout).trim() == "active").then_some(())
        });
        booted.run("systemd-sysusers lwnflog.conf && systemd-tmpfiles --create lwnflog.conf");
        booted.run("ip link set lo up");
        booted
    }

    /// A command's output, inside, by a shell.
    pub fn output(&self, script: &str) -> Output {
        let mut command = Command::new("nsenter");
        command.args([
            "-t", &self.init, "-m", "-p", "-u", "-i", "-n", "-C", "-r", "-w",
        ]);
        command.args(["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"]);
        output(command.args(["bash", "-c", script]), "")
    }

    /// A script that has to succeed; what it prints.
    pub fn run(&self, script: &str) -> String {
        let done = self.output(script);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (out, err) = (text(&done.stdout), text(&done.stderr));
        assert!(
            done.status.success(),
            "{script}: {:?} {:?}\n{out}{err}\n{}",
            done.status.code(),
            done.status.signal(),
            text(&self.output("journalctl -o cat -n 40 --no-pager").stdout)
        );
        out
    }

    /// Waits until a script succeeds.
    pub fn wait(&self, script: &str) {
        let begun = Instant::now();
        while !self.output(script).status.success() {
            if begun.elapsed() > Duration::from_secs(30) {
                self.run(script); // which says what is there instead
            }
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// A file, inside.
    pub fn write(&self, path: &str, text: &str) {
        self.run(&format!(
            "mkdir -p \"$(dirname {path})\"; cat >{path} <<'END'\n{text}\nEND"
        ));
    }

    /// Configures and starts an instance of the unit.
    pub fn start(&self, name: &str, options: &str) {
        self.write(&format!("/etc/lwnflog/{name}.toml"), options);
        self.run(&format!("systemctl start lwnflog@{name}"));
    }

    /// Ends it; what it has said.
    pub fn stop(&self, name: &str) -> String {
        self.run(&format!(
            "systemctl stop lwnflog@{name}; systemctl reset-failed"
        ));
        self.said(name)
    }

    /// What an instance has said.
    pub fn said(&self, name: &str) -> String {
        self.run(&format!(
            "journalctl --sync; journalctl -u lwnflog@{name} -o cat --no-pager"
        ))
    }
}

impl Drop for Booted {
    fn drop(&mut self) {
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
        // Below first; the last of its processes may be going.
        for _ in 0..500 {
            let mut find = Command::new("find");
            find.arg(&self.cgroup)
                .args(["-depth", "-type", "d", "-exec", "rmdir", "{}", ";"]);
            let _ = find.stderr(Stdio::null()).status();
            if !self.cgroup.exists() {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Where cgroups of version 2 are.
fn cgroup2() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let mut mounts = mounts.lines().map(|line| line.split(' '));
    let found = mounts.find_map(|mut columns| {
        let place = columns.nth(1)?;
        (columns.next()? == "cgroup2").then(|| PathBuf::from(place))
    });
    found.expect("this test needs cgroups of version 2: `mount -t cgroup2 cgroup2 /sys/fs/cgroup`")
}
