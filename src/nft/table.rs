//! The table as netlink messages: the same rules as [`super::text`], statement by statement.

use neli::{consts::nl::NlmF, err::MsgError};

use super::{
    At, RuleSpec,
    constants::*,
    message::{AttrResult, Attrs, attrs, be16, be32, be64, bytes, nested, string},
    plan::{Part, Plan, burst},
    socket::Step,
};

/// The kernel puts a number in place of `%d`.
const MAP: &str = "__map%d";

/// All that makes the table, in order: table, counters, chains, maps, rules.
pub(super) fn create(spec: &RuleSpec) -> Result<Vec<Step>, MsgError> {
    let plan = Plan::new(spec);
    let named = spec.table();
    let mut steps = vec![table(named)?];
    for name in &plan.counters {
        steps.push(counter(named, name)?);
    }
    for chain in &plan.chains {
        steps.push(match chain.hook {
            Some(at) => base_chain(named, &chain.name, at)?,
            None => plain_chain(named, &chain.name)?,
        });
    }
    steps.extend(rules(named, &plan)?);
    Ok(steps)
}

/// Takes all rules out of all chains of the table and puts others in: both at once, so that each
/// packet meets either.
pub(super) fn replace(before: &RuleSpec, now: &RuleSpec) -> Result<Vec<Step>, MsgError> {
    let named = now.table();
    let mut steps = delete_rules(named)?;
    for set in before
        .matching()
        .map_or(&[][..], |matching| matching.sets())
    {
        steps.push(set.delete(named)?);
    }
    let (before, now) = (Plan::new(before), Plan::new(now));
    // Without rules nothing leads to them any more; left where they are, they would be in the way of
    // the next change.
    let stays = |name: &str| now.chains.iter().any(|chain| chain.name == name);
    for chain in before.chains.iter().filter(|chain| !stays(&chain.name)) {
        steps.push(delete_chain(named, &chain.name)?);
    }
    for name in now
        .counters
        .iter()
        .filter(|name| !before.counters.contains(name))
    {
        steps.push(counter(named, name)?);
    }
    let known = |name: &str| before.chains.iter().any(|chain| chain.name == name);
    for chain in now.chains.iter().filter(|chain| !known(&chain.name)) {
        steps.push(plain_chain(named, &chain.name)?);
    }
    steps.extend(rules(named, &now)?);
    Ok(steps)
}

fn rules(table: &str, plan: &Plan<'_>) -> Result<Vec<Step>, MsgError> {
    let mut steps = Vec::new();
    let (mut maps, mut sets) = (0, false);
    for chain in &plan.chains {
        for rule in &chain.rules {
            let mut body = Vec::new();
            for part in rule {
                encode(table, part, (&mut maps, &mut sets), &mut body, &mut steps)?;
            }
            steps.push(rule_step(table, &chain.name, body)?);
        }
    }
    Ok(steps)
}

/// Adds the expressions of a part to `body`, and the sets that they name to `steps`.
fn encode(
    table: &str,
    part: &Part<'_>,
    (maps, sets): (&mut u32, &mut bool),
    body: &mut Vec<AttrResult>,
    steps: &mut Vec<Step>,
) -> Result<(), MsgError> {
    match part {
        Part::Interface { name, out, not } => {
            body.extend(match_iface(
                name,
                if *out {
                    NFT_META_OIFNAME
                } else {
                    NFT_META_IIFNAME
                },
                if *not { NFT_CMP_NEQ } else { NFT_CMP_EQ },
            ));
        }
        Part::Cgroup { level, id } => body.extend(of_cgroup(*level, *id)),
        Part::Match(matching) => {
            // Of the rules that say the same, the first brings its sets.
            if !std::mem::replace(sets, true) {
                for set in matching.sets() {
                    steps.extend(set.create(table)?);
                }
            }
            let expressions = matching.expressions().iter();
            body.extend(expressions.map(|raw| bytes(NFTA_LIST_ELEM, raw)));
        }
        Part::Over(rate) => body.push(over(*rate)),
        Part::Count(name) => body.push(count(name)),
        Part::Log { group, prefix } => body.push(log(*group, *prefix)),
        Part::Queue(numbers) => body.push(queue(numbers)),
        Part::Drop => body.push(verdict(NF_DROP, None)),
        Part::Return => body.push(verdict(NFT_RETURN, None)),
        Part::Goto(chain) => body.push(verdict(NFT_GOTO, Some(chain))),
        Part::ByCpu(map) => {
            *maps += 1;
            steps.extend(verdict_map(table, *maps, map)?);
            body.extend([load_meta(NFT_META_CPU), go_by_map(*maps)]);
        }
        Part::ByFlow(map) => {
            *maps += 1;
            steps.extend(verdict_map(table, *maps, map)?);
            body.extend([flow_hash(map.len()), go_by_map(*maps)]);
        }
    }
    Ok(())
}

/// Takes all rules out of all chains of the table and leaves the counters.
pub(super) fn delete_rules(table: &str) -> Result<Vec<Step>, MsgError> {
    let attrs = attrs([string(NFTA_RULE_TABLE, table)])?;
    Ok(vec![Step {
        kind: NFT_MSG_DELRULE,
        flags: NlmF::empty(),
        attrs,
    }])
}

fn delete_chain(table: &str, name: &str) -> Result<Step, MsgError> {
    let attrs = attrs([
        string(NFTA_CHAIN_TABLE, table),
        string(NFTA_CHAIN_NAME, name),
    ])?;
    Ok(Step {
        kind: NFT_MSG_DELCHAIN,
        flags: NlmF::empty(),
        attrs,
    })
}

fn new(kind: u16, attrs: Attrs) -> Step {
    Step {
        kind,
        flags: NlmF::CREATE | NlmF::EXCL,
        attrs,
    }
}

/// The table, which goes when the socket that makes it closes.
fn table(name: &str) -> Result<Step, MsgError> {
    let attrs = attrs([
        string(NFTA_TABLE_NAME, name),
        be32(NFTA_TABLE_FLAGS, NFT_TABLE_F_OWNER),
    ])?;
    Ok(new(NFT_MSG_NEWTABLE, attrs))
}

fn counter(table: &str, name: &str) -> Result<Step, MsgError> {
    let attrs = attrs([
        string(NFTA_OBJ_TABLE, table),
        string(NFTA_OBJ_NAME, name),
        be32(NFTA_OBJ_TYPE, NFT_OBJECT_COUNTER),
        nested(NFTA_OBJ_DATA, []),
    ])?;
    Ok(new(NFT_MSG_NEWOBJ, attrs))
}

fn plain_chain(table: &str, name: &str) -> Result<Step, MsgError> {
    let attrs = attrs([
        string(NFTA_CHAIN_TABLE, table),
        string(NFTA_CHAIN_NAME, name),
    ])?;
    Ok(new(NFT_MSG_NEWCHAIN, attrs))
}

fn base_chain(table: &str, name: &str, at: At) -> Result<Step, MsgError> {
    let attrs = attrs([
        string(NFTA_CHAIN_TABLE, table),
        string(NFTA_CHAIN_NAME, name),
        nested(
            NFTA_CHAIN_HOOK,
            [
                be32(NFTA_HOOK_HOOKNUM, at.number()),
                bytes(NFTA_HOOK_PRIORITY, &at.priority().to_be_bytes()),
            ],
        ),
        be32(NFTA_CHAIN_POLICY, NF_ACCEPT),
        string(NFTA_CHAIN_TYPE, "filter"),
    ])?;
    Ok(new(NFT_MSG_NEWCHAIN, attrs))
}

fn rule_step(
    table: &str,
    chain: &str,
    body: impl IntoIterator<Item = AttrResult>,
) -> Result<Step, MsgError> {
    let attrs = attrs([
        string(NFTA_RULE_TABLE, table),
        string(NFTA_RULE_CHAIN, chain),
        nested(NFTA_RULE_EXPRESSIONS, body),
    ])?;
    Ok(Step {
        kind: NFT_MSG_NEWRULE,
        flags: NlmF::CREATE | NlmF::APPEND,
        attrs,
    })
}

fn expression(name: &str, data: impl IntoIterator<Item = AttrResult>) -> AttrResult {
    nested(
        NFTA_LIST_ELEM,
        [string(NFTA_EXPR_NAME, name), nested(NFTA_EXPR_DATA, data)],
    )
}

/// Puts a property of the packet into register 1.
fn load_meta(key: u32) -> AttrResult {
    expression(
        "meta",
        [be32(NFTA_META_KEY, key), be32(NFTA_META_DREG, NFT_REG_1)],
    )
}

/// `iifname "eth0"` and its like: `key` says which interface, `op` whether it is to be the one.
fn match_iface(name: &str, key: u32, op: u32) -> [AttrResult; 2] {
    let value = match name.strip_suffix('*') {
        Some(beginning) => beginning.as_bytes().to_vec(),
        None => {
            // With its zeros, so that `eth1` does not match `eth10`.
            let mut padded = name.as_bytes().to_vec();
            padded.resize(IFNAMSIZ, 0);
            padded
        }
    };
    [load_meta(key), compare(op, &value)]
}

/// `socket cgroupv2 level N`: the packet's socket is of a process in this cgroup, or below it
/// (`net/netfilter/nft_socket.c`; since Linux 5.13).
fn of_cgroup(level: u32, id: u64) -> [AttrResult; 2] {
    let load = expression(
        "socket",
        [
            be32(NFTA_SOCKET_KEY, NFT_SOCKET_CGROUPV2),
            be32(NFTA_SOCKET_DREG, NFT_REG_1),
            be32(NFTA_SOCKET_LEVEL, level),
        ],
    );
    [load, compare(NFT_CMP_EQ, &id.to_ne_bytes())]
}

/// Compares register 1 with a value.
fn compare(op: u32, value: &[u8]) -> AttrResult {
    expression(
        "cmp",
        [
            be32(NFTA_CMP_SREG, NFT_REG_1),
            be32(NFTA_CMP_OP, op),
            nested(NFTA_CMP_DATA, [bytes(NFTA_DATA_VALUE, value)]),
        ],
    )
}

/// `counter name "detected"`
fn count(name: &str) -> AttrResult {
    expression(
        "objref",
        [
            be32(NFTA_OBJREF_IMM_TYPE, NFT_OBJECT_COUNTER),
            string(NFTA_OBJREF_IMM_NAME, name),
        ],
    )
}

/// `limit rate over N/second burst M packets`.
fn over(rate: u32) -> AttrResult {
    expression(
        "limit",
        [
            be64(NFTA_LIMIT_RATE, u64::from(rate)),
            be64(NFTA_LIMIT_UNIT, 1),
            be32(NFTA_LIMIT_BURST, burst(rate)),
            be32(NFTA_LIMIT_TYPE, NFT_LIMIT_PKTS),
            be32(NFTA_LIMIT_FLAGS, NFT_LIMIT_F_INV),
        ],
    )
}

/// `symhash mod N`: the same for both directions of a connection.
fn flow_hash(modulus: usize) -> AttrResult {
    let modulus = u32::try_from(modulus).map_err(|error| MsgError::new(error.to_string()))?;
    expression(
        "hash",
        [
            be32(NFTA_HASH_DREG, NFT_REG_1),
            be32(NFTA_HASH_MODULUS, modulus),
            be32(NFTA_HASH_OFFSET, 0),
            be32(NFTA_HASH_TYPE, NFT_HASH_SYM),
        ],
    )
}

fn log(group: u16, prefix: Option<&str>) -> AttrResult {
    let prefix = prefix.map(|text| string(NFTA_LOG_PREFIX, text));
    expression(
        "log",
        [be16(NFTA_LOG_GROUP, group)].into_iter().chain(prefix),
    )
}

/// Consecutive queues; without a reader the packet goes on.
fn queue(numbers: &[u16]) -> AttrResult {
    let total = u16::try_from(numbers.len()).map_err(|error| MsgError::new(error.to_string()))?;
    let fanout = if total > 1 {
        NFT_QUEUE_FLAG_CPU_FANOUT
    } else {
        0
    };
    expression(
        "queue",
        [
            be16(NFTA_QUEUE_NUM, numbers.first().copied().unwrap_or_default()),
            be16(NFTA_QUEUE_TOTAL, total),
            be16(NFTA_QUEUE_FLAGS, NFT_QUEUE_FLAG_BYPASS | fanout),
        ],
    )
}

/// `drop`, `return` or `goto g5`.
fn verdict(code: u32, chain: Option<&str>) -> AttrResult {
    expression(
        "immediate",
        [
            be32(NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT),
            nested(NFTA_IMMEDIATE_DATA, [verdict_data(code, chain)]),
        ],
    )
}

fn verdict_data(code: u32, chain: Option<&str>) -> AttrResult {
    let chain = chain.map(|name| string(NFTA_VERDICT_CHAIN, name));
    nested(
        NFTA_DATA_VERDICT,
        [be32(NFTA_VERDICT_CODE, code)].into_iter().chain(chain),
    )
}

/// The unnamed map from a number to a chain; `id` names it within the batch.
fn verdict_map(table: &str, id: u32, spread: &[(u32, String)]) -> Result<[Step; 2], MsgError> {
    let size = u32::try_from(spread.len()).map_err(|error| MsgError::new(error.to_string()))?;
    // Its keys are in the machine's byte order; this lets `nft list` know.
    let mut print_keys = vec![NFTNL_UDATA_SET_KEYBYTEORDER, 4];
    print_keys.extend(BYTEORDER_HOST_ENDIAN.to_ne_bytes());
    let map = attrs([
        string(NFTA_SET_TABLE, table),
        string(NFTA_SET_NAME, MAP),
        be32(
            NFTA_SET_FLAGS,
            NFT_SET_ANONYMOUS | NFT_SET_CONSTANT | NFT_SET_MAP,
        ),
        be32(NFTA_SET_KEY_TYPE, TYPE_INTEGER),
        be32(NFTA_SET_KEY_LEN, 4),
        be32(NFTA_SET_DATA_TYPE, NFT_DATA_VERDICT),
        be32(NFTA_SET_DATA_LEN, 0),
        be32(NFTA_SET_ID, id),
        nested(NFTA_SET_DESC, [be32(NFTA_SET_DESC_SIZE, size)]),
        bytes(NFTA_SET_USERDATA, &print_keys),
    ])?;
    let elements = spread.iter().map(|(key, chain)| {
        nested(
            NFTA_LIST_ELEM,
            [
                nested(
                    NFTA_SET_ELEM_KEY,
                    [bytes(NFTA_DATA_VALUE, &key.to_ne_bytes())],
                ),
                nested(NFTA_SET_ELEM_DATA, [verdict_data(NFT_GOTO, Some(chain))]),
            ],
        )
    });
    let elements = attrs([
        string(NFTA_SET_ELEM_LIST_TABLE, table),
        string(NFTA_SET_ELEM_LIST_SET, MAP),
        be32(NFTA_SET_ELEM_LIST_SET_ID, id),
        nested(NFTA_SET_ELEM_LIST_ELEMENTS, elements),
    ])?;
    Ok([new(NFT_MSG_NEWSET, map), new(NFT_MSG_NEWSETELEM, elements)])
}

/// Looks register 1 up in the map and follows the verdict found; without one, the next rule.
fn go_by_map(id: u32) -> AttrResult {
    expression(
        "lookup",
        [
            string(NFTA_LOOKUP_SET, MAP),
            be32(NFTA_LOOKUP_SREG, NFT_REG_1),
            be32(NFTA_LOOKUP_DREG, NFT_REG_VERDICT),
            be32(NFTA_LOOKUP_SET_ID, id),
        ],
    )
}
