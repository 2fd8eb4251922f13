//! The end of a capture where the system does not go along: it comes all the same, and the account
//! says what it does not know.
#![allow(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

mod common;

use std::sync::Arc;
use std::thread;

use common::{
    LWNFLOG, Running, lab, load_capture_rules, number, run, temp_dir, under_traffic, until,
};
use lwnflog::account::Account;
use lwnflog::capture::{Capture, Control, Discard, Outcome};
use lwnflog::lab::{Lab, Traffic};
use lwnflog::nft::{RuleSpec, iptables_queue_command};
use lwnflog::source::Source;
use lwnflog::source::Target;
use lwnflog::source::nflog::{Group, GroupConfig};
use lwnflog::source::nfqueue::{Queue, QueueConfig, Verdict};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

/// Captures and throws away until it is told to stop, as a thread that may not configure the kernel
/// any more.
fn without_right<S: Source>(source: S, control: Arc<Control>, account: Arc<Account>) -> Outcome {
    let mut sets = capabilities(None).unwrap();
    sets.effective.remove(CapabilitySet::NET_ADMIN);
    sets.permitted.remove(CapabilitySet::NET_ADMIN);
    set_capabilities(None, sets).unwrap();
    Capture::new(source, Discard, control, account).run()
}

/// Everything to queue 5, by iptables: not every kernel has nftables' `queue`.
fn load_queue_rule(lab: &Lab) {
    let spec = RuleSpec::new(Target::Queue, &[5]).unwrap();
    let command = iptables_queue_command(&spec).unwrap();
    run(
        lab.receiver().command("sh").unwrap().args(["-c", &command]),
        "",
    );
}

#[test]
fn a_group_that_is_not_released_ends_all_the_same() {
    let lab = lab();
    load_capture_rules(lab.receiver());
    let (control, account) = (Arc::new(Control::new(None)), Arc::new(Account::default()));
    under_traffic(&lab, 20_000, || {
        let outcome = thread::scope(|scope| {
            let capture = scope.spawn(|| {
                let capture = || {
                    let group = Group::open(GroupConfig::new(5, 114)).unwrap();
                    without_right(group, Arc::clone(&control), Arc::clone(&account))
                };
                lab.receiver().run(capture).unwrap()
            });
            until("packets come", || {
                (account.read().received > 1_000).then_some(())
            });
            control.stop();
            capture.join().unwrap()
        });
        let refused = outcome.detach_refused.unwrap();
        assert_eq!(refused.raw_os_error(), Some(libc::EPERM), "{refused}");
        assert!(outcome.error.is_none(), "{:?}", outcome.error);
        assert!(account.is_detached());
        let tally = outcome.tally;
        assert_eq!(tally.received, tally.discarded + tally.skipped());
    });
}

#[test]
fn a_queue_that_is_not_closed_ends_with_the_cause() {
    let lab = lab();
    load_queue_rule(&lab);
    let (control, account) = (Arc::new(Control::new(None)), Arc::new(Account::default()));
    under_traffic(&lab, 20_000, || {
        let capture = || {
            let queue = Queue::open(QueueConfig {
                queue: 5,
                copy_range_bytes: 114,
                len: 1024,
                fail_open: true,
                verdict: Verdict::Accept,
                mark: None,
                buffer_bytes: 1 << 20,
            });
            without_right(queue.unwrap(), Arc::clone(&control), Arc::clone(&account))
        };
        let outcome = lab.receiver().run(capture).unwrap();
        let error = outcome.error.unwrap().to_string();
        assert!(
            error.contains("CAP_NET_ADMIN as long as it runs"),
            "{error}"
        );
    });
}

/// Every third verdict finds no memory: the next one answers for it, and where none comes it is
/// given again.
#[test]
fn a_verdict_that_cannot_be_sent_is_given_with_the_next() {
    let (lab, dir) = (lab(), temp_dir());
    load_queue_rule(&lab);
    let mut command = lab.receiver().command("strace").unwrap();
    command.args(["-f", "-qqq", "-o", "/dev/null", "-e", "trace=sendto"]);
    command.args(["-e", "inject=sendto:error=ENOBUFS:when=20+3", LWNFLOG]);
    let command = command
        .args(["--queue", "5", "--json", "--count", "41", "-w"])
        .arg(dir.path());
    let mut capture = Running::spawn(command);
    capture.wait_said("capturing queue");
    for round in 1..=8u16 {
        Traffic::new(64, 5).stream(round).send(&lab, None).unwrap();
        capture.wait_stats("they have come", |stats| {
            number(stats, "/written") >= 5 * u64::from(round)
        });
    }
    // The kernel holds nothing that is never answered for.
    until("all have their verdict", || {
        let table = || std::fs::read_to_string("/proc/thread-self/net/netfilter/nfnetlink_queue");
        let waiting = lab.receiver().run(table).unwrap().unwrap();
        (waiting.split_whitespace().nth(2) == Some("0")).then_some(())
    });
    // Not by a signal: its handler sends, too.
    Traffic::new(64, 1).stream(9).send(&lab, None).unwrap();
    let ended = capture.wait_end();
    assert_eq!(number(&ended.report, "/written"), 41, "{}", ended.said);
    assert!(ended.status.success(), "{}", ended.said);
}
