//! Rules in a real kernel: each test runs in a network namespace of its own, made with
//! `unshare`, and uses `nft`, `iptables-nft` and UDP over its loopback interface.
//!
//! Nothing is skipped: what cannot run fails and says what it lacks.

#![expect(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

use std::{
    env,
    fs::File,
    io::{BufRead, BufReader, Write},
    net::UdpSocket,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use lwnflog::nft::{
    Detected, LoggingRule, Match, RuleError, RuleFamily, RuleSpec, install, iptables_queue_command,
    logging_rules, table_text,
};
use lwnflog::source::Target;

/// Set in the processes that run inside a namespace.
const NAMESPACE: &str = "LWNFLOG_TEST_NAMESPACE";
/// Set in the second process of a test that needs one.
const ROLE: &str = "LWNFLOG_TEST_ROLE";

/// Runs `body` in a new network namespace, in a process of its own: this test once more.
///
/// With [`ROLE`] set, a test is started again by itself and does `helper` instead.
fn isolated_with(test: &str, helper: fn(), body: fn()) {
    if env::var_os(ROLE).is_some() {
        return helper();
    }
    if env::var_os(NAMESPACE).is_some() {
        run("ip", &["link", "set", "lo", "up"]);
        return body();
    }
    // Without root, a user namespace gives the right to it.
    let root = File::open("/proc/self")
        .and_then(|file| file.metadata())
        .unwrap()
        .uid()
        == 0;
    let output = Command::new("unshare")
        .arg(if root { "-n" } else { "-rn" })
        .args(this_test(test))
        .env(NAMESPACE, "1")
        .output()
        .expect("`unshare` (package util-linux) makes the namespaces of these tests");
    assert_passed(test, &output);
}

/// Checks that the test ran in the other process, and passed.
fn assert_passed(test: &str, output: &Output) {
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    let passed = output.status.success() && stdout.contains("test result: ok. 1 passed");
    assert!(
        passed,
        "{test} in its own process: {}\n{stdout}{stderr}",
        output.status
    );
    print!("{stdout}");
}

fn isolated(test: &str, body: fn()) {
    isolated_with(test, || panic!("this test has no second process"), body);
}

/// The command line that runs only this test.
fn this_test(test: &str) -> Vec<String> {
    let program = env::current_exe().unwrap().display().to_string();
    [&program, "--exact", test, "--nocapture"]
        .map(str::to_owned)
        .to_vec()
}

fn run(program: &str, args: &[&str]) -> String {
    let output = attempt(program, args);
    assert!(
        output.status.success(),
        "{program} {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn attempt(program: &str, args: &[&str]) -> Output {
    Command::new(program)
        .args(args)
        .output()
        .unwrap_or_else(|error| panic!("these tests need `{program}`: {error}"))
}

/// Loads a ruleset with `nft -f -`.
fn nft_load(text: &str) {
    let output = nft_stdin(&["-f", "-"], text);
    assert!(
        output.status.success(),
        "{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn nft_stdin(args: &[&str], text: &str) -> Output {
    let mut child = Command::new("nft")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("these tests need `nft` (package nftables)");
    child
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    child.wait_with_output().unwrap()
}

fn ruleset() -> String {
    run("nft", &["list", "ruleset"])
}

/// Sends packets over the loopback interface; nothing answers, so just these arrive.
fn send_packets(count: usize) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    for _ in 0..count {
        socket.send_to(b"payload", address).unwrap();
    }
}

fn spec(target: Target, numbers: &[u16]) -> RuleSpec {
    RuleSpec::new(target, numbers).unwrap()
}

fn groups(numbers: &[u16]) -> RuleSpec {
    spec(Target::Group, numbers)
}

/// The only rule of a group.
fn only_rule(target: Target, number: u16) -> LoggingRule {
    let mut found = logging_rules(target, number).unwrap();
    assert_eq!(
        found.len(),
        1,
        "{target} {number}: {found:?}\n{}",
        ruleset()
    );
    found.remove(0)
}

/// What the counters of all these groups show now.
fn count(numbers: &[u16]) -> Option<u64> {
    let found: Vec<LoggingRule> = numbers
        .iter()
        .flat_map(|&number| logging_rules(Target::Group, number).unwrap())
        .collect();
    Detected::new(&found).unwrap().read().unwrap()
}

fn rule_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("nft-rules")
        .join(name)
}

fn has_queue_statement() -> bool {
    let text = "table ip probe { chain c { queue num 5 bypass; }; }";
    nft_stdin(&["-c", "-f", "-"], text).status.success()
}

#[test]
fn rule_files_load_twice_and_replace_only_their_own_table() {
    isolated(
        "rule_files_load_twice_and_replace_only_their_own_table",
        || {
            nft_load("table ip other { chain c { counter; }; }");
            let other = ruleset();
            for name in ["capture.nft", "capture-percpu.nft", "dedicated.nft"] {
                let path = rule_file(name).display().to_string();
                run("nft", &["-f", &path]);
                let once = ruleset();
                run("nft", &["-f", &path]);
                assert_eq!(ruleset(), once, "{name} loaded again");
                assert!(
                    once.contains("priority -2147483647; policy accept;"),
                    "{once}"
                );
                run("nft", &["delete", "table", "ip", "lwnflog-g5"]);
                assert_eq!(ruleset(), other, "{name} touched another table");
            }
        },
    );
}

/// With the kernel's `queue` the files load; without it `nft` reads them to the end and the
/// kernel objects to nothing but `queue`.
#[test]
fn queue_files_load_where_the_kernel_has_queue() {
    isolated("queue_files_load_where_the_kernel_has_queue", || {
        for name in ["queue.nft", "queue-fanout.nft"] {
            let path = rule_file(name).display().to_string();
            if has_queue_statement() {
                println!("{name}: this kernel has `queue`, loaded");
                run("nft", &["-f", &path]);
                run("nft", &["-f", &path]);
                continue;
            }
            println!("{name}: this kernel has no `queue`, checked up to that");
            let output = attempt("nft", &["-c", "-f", &path]);
            let message = String::from_utf8(output.stderr).unwrap();
            let lines: Vec<&str> = message.lines().collect();
            assert_eq!(lines.len(), 3, "{message}");
            assert!(lines[0].ends_with("No such file or directory"), "{message}");
            let underlined = lines[2].find('^').unwrap();
            assert!(lines[1][underlined..].starts_with("queue num"), "{message}");

            let text = std::fs::read_to_string(&path).unwrap();
            let (before, statement) = text.rsplit_once(" queue num ").unwrap();
            assert!(statement.ends_with("\n\t}\n}\n"));
            nft_load(&format!("{before}\n\t}}\n}}\n"));
        }
    });
}

#[test]
fn rule_files_say_what_table_text_says() {
    isolated("rule_files_say_what_table_text_says", || {
        let all: Vec<u16> = (5..=20).collect();
        let files = [
            ("capture.nft", groups(&[5])),
            ("dedicated.nft", groups(&[5]).with_drop().unwrap()),
            ("capture-percpu.nft", groups(&all)),
        ];
        for (name, spec) in files {
            run("nft", &["-f", &rule_file(name).display().to_string()]);
            let from_file = ruleset();
            nft_load(&table_text(&spec));
            assert_eq!(ruleset(), from_file, "{name}");
        }
    });
}

#[test]
fn one_line_restricts_a_rule_file_to_an_interface() {
    isolated("one_line_restricts_a_rule_file_to_an_interface", || {
        for name in ["capture.nft", "capture-percpu.nft", "dedicated.nft"] {
            let text = std::fs::read_to_string(rule_file(name)).unwrap();
            let commented = "# iifname != \"eth0\" return";
            assert_eq!(text.matches(commented).count(), 1, "{name}");
            let groups: Vec<u16> = if name.contains("percpu") {
                (5..=20).collect()
            } else {
                vec![5]
            };

            nft_load(&text.replace(commented, &commented[2..]));
            send_packets(3);
            assert_eq!(count(&groups), Some(0), "{name}: nothing comes in on eth0");
            nft_load(&text.replace(commented, "iifname != \"lo\" return"));
            send_packets(3);
            assert_eq!(count(&groups), Some(3), "{name}: all comes in on lo");
        }
    });
}

/// The listing of an installed table without what says that it has an owner.
fn without_owner(listing: &str) -> String {
    let unowned = listing.replace("\tflags owner\n\n", "");
    let lines = unowned
        .lines()
        .map(|line| line.split(" # progname").next().unwrap_or(line));
    lines.map(|line| format!("{line}\n")).collect()
}

#[test]
fn install_makes_the_table_that_the_text_makes() {
    isolated("install_makes_the_table_that_the_text_makes", || {
        let thirty: Vec<u16> = (100..130).collect();
        let most: Vec<u16> = (0..128).collect();
        let specs = [
            groups(&[5]),
            groups(&[0]),
            groups(&[5])
                .with_iface("eth0")
                .unwrap()
                .with_drop()
                .unwrap(),
            groups(&[65535]).with_prefix("from lwnflog: ").unwrap(),
            groups(&[5, 6]),
            groups(&[9, 5, 7])
                .with_iface("wg-a.5")
                .unwrap()
                .with_drop()
                .unwrap(),
            groups(&thirty).with_prefix("x").unwrap(),
            groups(&most),
        ];
        for spec in specs {
            nft_load(&table_text(&spec));
            let loaded = ruleset();
            run("nft", &["delete", "table", "ip", spec.table()]);
            let table = install(&spec).unwrap();
            let installed = ruleset();
            assert!(installed.contains("flags owner"), "{installed}");
            assert_eq!(without_owner(&installed), loaded, "{spec:?}");
            drop(table);
            assert_eq!(ruleset(), "", "the table is gone with its owner");
        }
    });
}

#[test]
fn table_vanishes_with_a_killed_process() {
    fn hold() {
        let _table = install(&groups(&[5, 6])).unwrap();
        println!("installed");
        loop {
            thread::park();
        }
    }
    isolated_with("table_vanishes_with_a_killed_process", hold, || {
        let command = this_test("table_vanishes_with_a_killed_process");
        let mut holder = Command::new(&command[0])
            .args(&command[1..])
            .env(ROLE, "hold")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(holder.stdout.take().unwrap()).lines();
        assert!(
            lines.any(|line| line.unwrap().contains("installed")),
            "the holder ended"
        );
        assert!(ruleset().contains("table ip lwnflog-g5"));

        let error = install(&groups(&[5])).err().unwrap();
        assert!(matches!(error, RuleError::TableOwned { .. }), "{error:?}");
        let output = nft_stdin(&["-f", "-"], &table_text(&groups(&[5])));
        assert!(
            !output.status.success(),
            "nothing else may replace the table"
        );

        holder.kill().unwrap(); // SIGKILL
        holder.wait().unwrap();
        assert_eq!(ruleset(), "");
        let _table = install(&groups(&[5])).unwrap();
    });
}

#[test]
fn counter_is_exact_and_final() {
    isolated("counter_is_exact_and_final", || {
        let mut table = install(&groups(&[5]).with_iface("lo").unwrap()).unwrap();
        let rule = only_rule(Target::Group, 5);
        assert!(
            rule.to_string()
                .starts_with("ip lwnflog-g5 prerouting handle "),
            "{rule}"
        );
        let hook = rule.hook.unwrap();
        assert_eq!((hook.number, hook.priority), (0, -2_147_483_647));
        let mut detected = Detected::new(&[rule]).unwrap();
        assert_eq!(detected.read().unwrap(), Some(0));
        send_packets(1000);
        assert_eq!(detected.read().unwrap(), Some(1000));

        table.stop_logging().unwrap();
        send_packets(10);
        assert_eq!(
            detected.read().unwrap(),
            Some(1000),
            "the counter stays, the rule is gone"
        );
        assert!(logging_rules(Target::Group, 5).unwrap().is_empty());
        table.stop_logging().unwrap();

        drop(table);
        let error = detected.read().unwrap_err();
        assert!(matches!(error, RuleError::CounterGone { .. }), "{error:?}");
    });
}

#[test]
fn counter_is_final_under_traffic() {
    isolated("counter_is_final_under_traffic", || {
        let mut table = install(&groups(&[5])).unwrap();
        let mut detected = Detected::new(&[only_rule(Target::Group, 5)]).unwrap();
        let stopped = AtomicBool::new(false);
        thread::scope(|scope| {
            let sending = scope.spawn(|| {
                while !stopped.load(Ordering::Relaxed) {
                    send_packets(100);
                }
            });
            while detected.read().unwrap() < Some(10_000) {}
            table.stop_logging().unwrap();
            let last = detected.read().unwrap();
            stopped.store(true, Ordering::Relaxed);
            sending.join().unwrap();
            assert_eq!(detected.read().unwrap(), last);
        });
    });
}

#[test]
fn each_packet_goes_to_one_group_of_many() {
    isolated("each_packet_goes_to_one_group_of_many", || {
        let table = install(&groups(&[5, 6])).unwrap();
        let (five, six) = (only_rule(Target::Group, 5), only_rule(Target::Group, 6));
        assert_eq!((five.chain.as_str(), six.chain.as_str()), ("g5", "g6"));
        assert_eq!(five.hook, None, "it is the other chain that is called");
        thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(|| send_packets(500)))));
        assert_eq!(count(&[5, 6]), Some(2000));
        drop(table);

        // As on a machine whose CPUs the map does not hold: all go to the first group.
        let text = table_text(&groups(&[5, 6]));
        let (before, map) = text.split_once("meta cpu vmap { ").unwrap();
        let map = map
            .replacen("0 : goto g5, ", "", 1)
            .replacen("1 : goto g6, ", "", 1);
        let other_cpus: String = map.split_once(" }").unwrap().0.replace(" : ", "00 : ");
        nft_load(&format!(
            "{before}meta cpu vmap {{ {other_cpus} }}\n\t\tgoto g5\n\t}}\n}}\n"
        ));
        send_packets(100);
        assert_eq!(
            (count(&[5]), count(&[6])),
            (Some(100), Some(0)),
            "{}",
            ruleset()
        );
    });
}

#[test]
fn counters_that_count_something_else_are_not_used() {
    isolated("counters_that_count_something_else_are_not_used", || {
        nft_load(
            "table inet t {
                counter both {}
                counter elsewhere {}
                counter mine {}
                chain first {
                    type filter hook prerouting priority -10; policy accept;
                    counter limit rate 1/second log group 1
                    limit rate 1000/second counter log group 2
                    counter log prefix \"three\" group 3 snaplen 96 queue-threshold 7 drop
                }
                chain second {
                    log group 4 counter
                    counter log group 5 log group 6
                    counter name both log group 7
                    counter name both log group 8
                    counter name elsewhere log group 9
                    counter name elsewhere accept
                    counter name mine log group 11
                    counter name mine log group 11
                    counter log group 12
                    log group 12
                    log prefix \"to the kernel's log\"
                    meta mark set 5 counter meta mark set 6 log group 13
                }
            }
            table ip with_map {
                counter mapped {}
                map m { type inet_service : counter; elements = { 80 : \"mapped\" } }
                chain c {
                    counter name mapped log group 10
                    counter name tcp dport map @m
                }
            }",
        );
        let unusable = [1, 5, 6, 9, 10, 13];
        for number in unusable {
            assert_eq!(
                only_rule(Target::Group, number).counter,
                None,
                "group {number}"
            );
        }
        for number in [2, 3, 4, 7, 8] {
            assert!(
                only_rule(Target::Group, number).counter.is_some(),
                "group {number}"
            );
        }

        let three = only_rule(Target::Group, 3);
        assert_eq!(three.prefix.as_deref(), Some("three"));
        assert_eq!((three.snaplen, three.queue_threshold), (Some(96), Some(7)));
        assert!(three.drops && !only_rule(Target::Group, 2).drops);
        assert_eq!(three.hook.unwrap().priority, -10);
        assert_eq!(three.family.to_string(), "inet");

        // Shared by two groups: no count for one of them, but one for both.
        let seven = only_rule(Target::Group, 7).counter.unwrap();
        assert_eq!((seven.is_shared(), seven.shared_with), (true, vec![8]));
        assert_eq!(
            (count(&[7]), count(&[8]), count(&[7, 8])),
            (None, None, Some(0))
        );
        // Two rules for one group, with one counter, or with one of two counted.
        assert_eq!(logging_rules(Target::Group, 11).unwrap().len(), 2);
        assert_eq!((count(&[11]), count(&[12])), (Some(0), None));
        // Nobody logs to this one.
        assert!(logging_rules(Target::Group, 99).unwrap().is_empty());
        assert_eq!(count(&[99]), None);
        assert!(logging_rules(Target::Queue, 5).unwrap().is_empty());
    });
}

#[test]
fn rules_of_nft_and_iptables_are_counted_alike() {
    isolated("rules_of_nft_and_iptables_are_counted_alike", || {
        nft_load(&table_text(&groups(&[5])));
        let nflog = [
            "-t",
            "raw",
            "-A",
            "PREROUTING",
            "-j",
            "NFLOG",
            "--nflog-group",
            "5",
        ];
        run(
            "iptables-nft",
            &[&nflog[..], &["--nflog-prefix", "by iptables"]].concat(),
        );
        let found = logging_rules(Target::Group, 5).unwrap();
        let names: Vec<&str> = found.iter().map(|rule| rule.table.as_str()).collect();
        assert_eq!(names, ["lwnflog-g5", "raw"]);
        assert_eq!(found[1].hook.unwrap().priority, -300);
        assert_eq!(found[1].prefix.as_deref(), Some("by iptables"));

        let mut one_by_one: Vec<Detected> = found
            .chunks(1)
            .map(|rule| Detected::new(rule).unwrap())
            .collect();
        send_packets(42);
        for detected in &mut one_by_one {
            assert_eq!(detected.read().unwrap(), Some(42));
        }
        assert_eq!(count(&[5]), Some(84), "both rules log every packet");

        run("nft", &["reset", "counters", "table", "ip", "lwnflog-g5"]);
        let error = one_by_one[0].read().unwrap_err();
        assert!(
            matches!(
                error,
                RuleError::CounterReset {
                    before: 42,
                    now: 0,
                    ..
                }
            ),
            "{error:?}"
        );
        run("iptables-nft", &["-t", "raw", "-F"]);
        let error = one_by_one[1].read().unwrap_err();
        assert!(matches!(error, RuleError::CounterGone { .. }), "{error:?}");
    });
}

#[test]
fn queues_of_iptables_are_found_and_counted() {
    isolated("queues_of_iptables_are_found_and_counted", || {
        let command = |numbers: &[u16]| iptables_queue_command(&spec(Target::Queue, numbers));
        run("sh", &["-c", &command(&[5]).unwrap()]);
        let five = only_rule(Target::Queue, 5);
        assert!(five.bypass && !five.counter.as_ref().unwrap().is_shared());
        let mut detected = Detected::new(&[five]).unwrap();
        send_packets(20);
        assert_eq!(detected.read().unwrap(), Some(20), "bypassed, and counted");
        run("iptables-nft", &["-t", "raw", "-F"]);

        run("sh", &["-c", &command(&[5, 6, 7, 8]).unwrap()]);
        assert!(logging_rules(Target::Queue, 4).unwrap().is_empty());
        assert!(logging_rules(Target::Queue, 9).unwrap().is_empty());
        assert!(logging_rules(Target::Group, 5).unwrap().is_empty());
        let all: Vec<LoggingRule> = (5..=8)
            .map(|number| only_rule(Target::Queue, number))
            .collect();
        assert_eq!(all[3].counter.as_ref().unwrap().shared_with, [5, 6, 7]);
        send_packets(20);
        assert_eq!(Detected::new(&all[..1]).unwrap().read().unwrap(), None);
        assert_eq!(Detected::new(&all).unwrap().read().unwrap(), Some(20));

        run("iptables-nft", &["-t", "raw", "-F"]);
        let limited = "iptables-nft -t raw -A PREROUTING -m limit --limit 1/s \
                       -j NFQUEUE --queue-num 5";
        run("sh", &["-c", limited]);
        let five = only_rule(Target::Queue, 5);
        assert!(!five.bypass);
        assert!(
            five.counter.is_some(),
            "iptables counts what its matches let through"
        );
    });
}

#[test]
fn queue_is_installed_or_the_kernel_s_lack_is_named() {
    isolated("queue_is_installed_or_the_kernel_s_lack_is_named", || {
        let spec = spec(Target::Queue, &[5, 6]).with_iface("lo").unwrap();
        if has_queue_statement() {
            println!("this kernel has `queue`");
            nft_load(&table_text(&spec));
            let loaded = ruleset();
            run("nft", &["delete", "table", "ip", "lwnflog-q5"]);
            let _table = install(&spec).unwrap();
            assert_eq!(without_owner(&ruleset()), loaded);
            assert!(only_rule(Target::Queue, 6).bypass);
            return;
        }
        println!("this kernel has no `queue`");
        let error = install(&spec).err().unwrap();
        assert!(
            matches!(
                error,
                RuleError::NoStatement {
                    statement: "queue",
                    ..
                }
            ),
            "{error:?}"
        );
        assert!(error.to_string().contains("CONFIG_NFT_QUEUE"), "{error}");
        assert_eq!(ruleset(), "", "nothing is left of the attempt");
    });
}

/// A reload is one transaction: whoever reads meanwhile sees the rules before or after it.
#[test]
fn rules_are_read_whole_while_they_are_reloaded() {
    isolated("rules_are_read_whole_while_they_are_reloaded", || {
        let text = table_text(&groups(&[5]));
        nft_load(&text);
        thread::scope(|scope| {
            let reloading = scope.spawn(|| (0..50).for_each(|_| nft_load(&text)));
            while !reloading.is_finished() {
                let rule = only_rule(Target::Group, 5);
                assert!(rule.hook.is_some() && rule.counter.is_some(), "{rule:?}");
            }
        });
    });
}

#[test]
fn an_existing_table_is_named() {
    isolated("an_existing_table_is_named", || {
        for (family, table) in [
            (RuleFamily::Ip, "ip lwnflog-g5"),
            (RuleFamily::Ip6, "ip6 lwnflog-g5"),
            (RuleFamily::Inet, "inet lwnflog-g5"),
        ] {
            let spec = groups(&[5]).with_family(family);
            nft_load(&table_text(&spec));
            let before = ruleset();
            let error = install(&spec).err().unwrap();
            assert!(matches!(error, RuleError::TableExists { .. }), "{error:?}");
            let said = error.to_string();
            assert!(said.contains(&format!("table `{table}` exists")), "{said}");
            assert_eq!(ruleset(), before);
            // What it says, done.
            let (_, remedy) = said.split_once("remove it with `").unwrap();
            run("sh", &["-c", remedy.trim_end_matches('`')]);
            drop(install(&spec).unwrap());
        }
    });
}

/// Each change leaves the table as it would be had it been made so, whatever it was before.
#[test]
fn rules_that_are_replaced_leave_nothing_behind() {
    isolated("rules_that_are_replaced_leave_nothing_behind", || {
        let of = |numbers: &[u16], ifaces: &[&str], matching: Option<&str>| {
            let mut spec = groups(numbers);
            for iface in ifaces {
                spec = spec.with_iface(iface).unwrap();
            }
            match matching {
                Some(text) => spec.with_match(Match::compile(text, RuleFamily::Ip).unwrap()),
                None => spec,
            }
        };
        for numbers in [&[5][..], &[5, 6]] {
            let ports = Some("udp dport { 9, 53 }");
            let states = [
                (&["lo"][..], None),
                (&["lo", "eth0"], None),
                (&["lo"], None),
                (&[], None),
                (&["lo", "eth0"], ports),
                (&[], ports),
                (&["lo"], Some("ip ttl 64")),
                (&["a", "b", "c"], ports),
                (&["a", "b"], ports),
                (&[], None),
                (&["a", "b"], None),
            ];
            let mut table = install(&of(numbers, &[], None)).unwrap();
            for (ifaces, matching) in states {
                let spec = of(numbers, ifaces, matching);
                table.replace(&spec).unwrap();
                let made = install(&spec.with_table("other")).unwrap();
                assert_eq!(lines_of("lwnflog-g5"), lines_of("other"), "{ifaces:?}");
                drop(made);
            }
        }
    });
}

/// A table's lines, whatever the order in which its chains were made.
fn lines_of(table: &str) -> Vec<String> {
    let listing = run("nft", &["list", "table", "ip", table]);
    let lines = listing.lines().skip(1).map(|line| line.trim().to_owned());
    let mut lines: Vec<_> = lines.collect();
    lines.sort();
    lines
}

#[test]
fn missing_right_is_named() {
    fn without_right() {
        let refused = logging_rules(Target::Group, 5).unwrap_err();
        assert!(matches!(refused, RuleError::NoRight), "{refused:?}");
        let error = install(&groups(&[5])).err().unwrap();
        assert!(matches!(error, RuleError::NoRight), "{error:?}");
        assert!(error.to_string().contains("CAP_NET_ADMIN"), "{error}");
    }
    isolated_with("missing_right_is_named", without_right, || {
        let command = this_test("missing_right_is_named");
        let output = Command::new("setpriv")
            .args(["--bounding-set", "-net_admin", "--inh-caps", "-net_admin"])
            .args(command)
            .env(ROLE, "without right")
            .output()
            .expect("`setpriv` (package util-linux) takes the right away");
        assert_passed("missing_right_is_named", &output);
    });
}
