//! The table over netlink, owned by a socket: it vanishes with the process, `kill -9` included.

use std::{thread, time::Duration};

use super::{
    RuleSpec, Target,
    constants::{NFT_MSG_NEWRULE, NFT_MSG_NEWTABLE},
    error::RuleError,
    socket::{NftSocket, Refusal, bad_message, refused},
    table,
};

const CREATE: &str = "create the table";
const REPLACE_RULES: &str = "replace the rules of the table";
const DELETE_RULES: &str = "delete the rules of the table";

/// Longer than a packet takes through a chain that it entered before the rules were deleted.
const STRAGGLERS: Duration = Duration::from_millis(20);

/// The installed table: the kernel removes it when this is dropped, or when the
/// process ends, in whatever way. Other processes can list it but not change it.
#[must_use = "the table is removed when this is dropped"]
pub struct InstalledTable {
    socket: NftSocket,
    spec: RuleSpec,
}

/// Installs the table in the network namespace of the calling thread: all of it, or nothing.
///
/// Packets count and are logged from the moment this returns, so bind the group first.
pub fn install(spec: &RuleSpec) -> Result<InstalledTable, RuleError> {
    let steps = table::create(spec).map_err(|error| bad_message(CREATE, error))?;
    let kinds: Vec<u16> = steps.iter().map(|step| step.kind).collect();
    let mut socket = NftSocket::open()?;
    match socket.commit(CREATE, spec.family_number(), steps)? {
        None => Ok(InstalledTable {
            socket,
            spec: spec.clone(),
        }),
        Some(refusal) => Err(explain(&refusal, &kinds, spec)),
    }
}

impl InstalledTable {
    /// What it does now.
    pub fn spec(&self) -> &RuleSpec {
        &self.spec
    }

    /// Has it do something else, of the same groups at the same hook, in one transaction: each
    /// packet meets the rules of before or these. Its counters go on.
    pub fn replace(&mut self, spec: &RuleSpec) -> Result<(), RuleError> {
        let steps =
            table::replace(&self.spec, spec).map_err(|error| bad_message(REPLACE_RULES, error))?;
        match self
            .socket
            .commit(REPLACE_RULES, spec.family_number(), steps)?
        {
            None => {
                self.spec = spec.clone();
                Ok(())
            }
            Some(refusal) => Err(refused(REPLACE_RULES, refusal.errno)),
        }
    }

    /// Ends logging and keeps the counters: packets that arrive after this are neither counted
    /// nor logged, so that what the counters then show is final.
    ///
    /// Takes 20 ms, for packets that other CPUs were handling with the old rules.
    pub fn stop_logging(&mut self) -> Result<(), RuleError> {
        let steps = table::delete_rules(self.spec.table())
            .map_err(|error| bad_message(DELETE_RULES, error))?;
        match self
            .socket
            .commit(DELETE_RULES, self.spec.family_number(), steps)?
        {
            None => {
                thread::sleep(STRAGGLERS);
                Ok(())
            }
            Some(refusal) => Err(refused(DELETE_RULES, refusal.errno)),
        }
    }
}

/// What the kernel's objection to one step of [`install`] means.
fn explain(refusal: &Refusal, kinds: &[u16], spec: &RuleSpec) -> RuleError {
    let table = || format!("{} {}", spec.family(), spec.table());
    let kind = refusal.step.and_then(|step| kinds.get(step).copied());
    match (kind, refusal.errno) {
        (Some(NFT_MSG_NEWTABLE), libc::EEXIST) => RuleError::TableExists { table: table() },
        // The right itself was checked before: this is about another one's table.
        (Some(NFT_MSG_NEWTABLE), libc::EPERM) => RuleError::TableOwned { table: table() },
        (Some(NFT_MSG_NEWTABLE), libc::EINVAL | libc::EOPNOTSUPP) => RuleError::NoOwnedTables,
        (Some(NFT_MSG_NEWRULE), libc::ENOENT | libc::EOPNOTSUPP) => match spec.target() {
            Target::Group => RuleError::NoStatement {
                statement: "log",
                config: "CONFIG_NFT_LOG and CONFIG_NETFILTER_NETLINK_LOG",
                module: "nft_log",
                otherwise: ", or no named counter (CONFIG_NFT_OBJREF, `modprobe nft_objref`)",
            },
            Target::Queue => RuleError::NoStatement {
                statement: "queue",
                config: "CONFIG_NFT_QUEUE",
                module: "nft_queue",
                otherwise: "; without it, leave out --install-rule and load the rule with \
                            iptables-nft: `lwnflog rules` shows the command",
            },
        },
        (Some(_), errno) => {
            let source = std::io::Error::from_raw_os_error(errno);
            RuleError::Refused {
                request: CREATE,
                source,
            }
        }
        (None, errno) => refused(CREATE, errno),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objections_are_told_apart() {
        let kinds = [NFT_MSG_NEWTABLE, NFT_MSG_NEWRULE];
        let spec = RuleSpec::new(Target::Queue, &[5]).unwrap();
        let spec = spec.with_family(crate::nft::RuleFamily::Inet);
        let explain =
            |step, errno| format!("{:?}", explain(&Refusal { step, errno }, &kinds, &spec));
        assert_eq!(explain(None, libc::EPERM), "NoRight");
        assert_eq!(explain(None, libc::EOPNOTSUPP), "NoNfTables");
        assert_eq!(
            explain(Some(0), libc::EEXIST),
            "TableExists { table: \"inet lwnflog-q5\" }"
        );
        assert!(explain(Some(0), libc::EPERM).contains("TableOwned"));
        assert_eq!(explain(Some(0), libc::EINVAL), "NoOwnedTables");
        assert!(explain(Some(1), libc::ENOENT).contains("CONFIG_NFT_QUEUE"));
        assert!(explain(Some(1), libc::ENOMEM).contains("Refused"));
        assert!(
            explain(Some(9), libc::EPERM).contains("NoRight"),
            "no such step"
        );
    }
}
