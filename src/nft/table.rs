//! The table as netlink messages: the same rules as [`super::text`], statement by statement.

use neli::{consts::nl::NlmF, err::MsgError};

use super::{
    BASE_CHAIN, PRIORITY, RuleSpec, TABLE, Target,
    constants::*,
    message::{AttrResult, Attrs, attrs, be16, be32, bytes, nested, string},
    socket::Step,
};

/// The kernel puts a number in place of `%d`.
const CPU_MAP: &str = "__map%d";
/// Names the map within the batch, before it has its number.
const CPU_MAP_ID: u32 = 1;

/// All that makes the table, in order: table, counters, chains, map, rules.
pub(super) fn create(spec: &RuleSpec) -> Result<Vec<Step>, MsgError> {
    let mut steps = vec![table()?];
    let own_chains: &[u16] = if spec.per_cpu() { spec.numbers() } else { &[] };
    if own_chains.is_empty() {
        steps.push(counter(&spec.counter_name(spec.first()))?);
    }
    for &number in own_chains {
        steps.push(counter(&spec.counter_name(number))?);
    }
    for &number in own_chains {
        steps.push(group_chain(&RuleSpec::group_chain(number))?);
    }
    steps.push(base_chain()?);

    let only_iface = |op| {
        spec.iface()
            .into_iter()
            .flat_map(move |name| match_iface(name, op))
    };
    if own_chains.is_empty() {
        let rule_body = only_iface(NFT_CMP_EQ).chain(statements(spec, spec.first()));
        steps.push(rule(BASE_CHAIN, rule_body)?);
        return Ok(steps);
    }
    for &number in own_chains {
        steps.push(rule(
            &RuleSpec::group_chain(number),
            statements(spec, number),
        )?);
    }
    if spec.iface().is_some() {
        let leave = verdict(NFT_RETURN, None);
        steps.push(rule(BASE_CHAIN, only_iface(NFT_CMP_NEQ).chain([leave]))?);
    }
    let first = RuleSpec::group_chain(spec.first());
    steps.extend(cpu_map(&spec.spread())?);
    steps.push(rule(BASE_CHAIN, [load_meta(NFT_META_CPU), go_by_map()])?);
    steps.push(rule(BASE_CHAIN, [verdict(NFT_GOTO, Some(&first))])?);
    Ok(steps)
}

/// Takes all rules out of all chains of the table and leaves the counters.
pub(super) fn delete_rules() -> Result<Vec<Step>, MsgError> {
    let attrs = attrs([string(NFTA_RULE_TABLE, TABLE)])?;
    Ok(vec![Step {
        kind: NFT_MSG_DELRULE,
        flags: NlmF::empty(),
        attrs,
    }])
}

fn new(kind: u16, attrs: Attrs) -> Step {
    Step {
        kind,
        flags: NlmF::CREATE | NlmF::EXCL,
        attrs,
    }
}

/// The table, which goes when the socket that makes it closes.
fn table() -> Result<Step, MsgError> {
    let attrs = attrs([
        string(NFTA_TABLE_NAME, TABLE),
        be32(NFTA_TABLE_FLAGS, NFT_TABLE_F_OWNER),
    ])?;
    Ok(new(NFT_MSG_NEWTABLE, attrs))
}

fn counter(name: &str) -> Result<Step, MsgError> {
    let attrs = attrs([
        string(NFTA_OBJ_TABLE, TABLE),
        string(NFTA_OBJ_NAME, name),
        be32(NFTA_OBJ_TYPE, NFT_OBJECT_COUNTER),
        nested(NFTA_OBJ_DATA, []),
    ])?;
    Ok(new(NFT_MSG_NEWOBJ, attrs))
}

fn group_chain(name: &str) -> Result<Step, MsgError> {
    let attrs = attrs([
        string(NFTA_CHAIN_TABLE, TABLE),
        string(NFTA_CHAIN_NAME, name),
    ])?;
    Ok(new(NFT_MSG_NEWCHAIN, attrs))
}

fn base_chain() -> Result<Step, MsgError> {
    let attrs = attrs([
        string(NFTA_CHAIN_TABLE, TABLE),
        string(NFTA_CHAIN_NAME, BASE_CHAIN),
        nested(
            NFTA_CHAIN_HOOK,
            [
                be32(NFTA_HOOK_HOOKNUM, NF_INET_PRE_ROUTING),
                bytes(NFTA_HOOK_PRIORITY, &PRIORITY.to_be_bytes()),
            ],
        ),
        be32(NFTA_CHAIN_POLICY, NF_ACCEPT),
        string(NFTA_CHAIN_TYPE, "filter"),
    ])?;
    Ok(new(NFT_MSG_NEWCHAIN, attrs))
}

fn rule(chain: &str, body: impl IntoIterator<Item = AttrResult>) -> Result<Step, MsgError> {
    let attrs = attrs([
        string(NFTA_RULE_TABLE, TABLE),
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

/// `iifname "eth0"`, or `iifname != "eth0"`, by `op`.
fn match_iface(name: &str, op: u32) -> [AttrResult; 2] {
    // With its zeros, so that `eth1` does not match `eth10`.
    let mut padded = [0; IFNAMSIZ];
    for (to, from) in padded.iter_mut().zip(name.bytes()) {
        *to = from;
    }
    let compare = expression(
        "cmp",
        [
            be32(NFTA_CMP_SREG, NFT_REG_1),
            be32(NFTA_CMP_OP, op),
            nested(NFTA_CMP_DATA, [bytes(NFTA_DATA_VALUE, &padded)]),
        ],
    );
    [load_meta(NFT_META_IIFNAME), compare]
}

/// `counter name "detected" log group 5 drop`, or the queue's counterpart.
fn statements(spec: &RuleSpec, number: u16) -> Vec<AttrResult> {
    let count = expression(
        "objref",
        [
            be32(NFTA_OBJREF_IMM_TYPE, NFT_OBJECT_COUNTER),
            string(NFTA_OBJREF_IMM_NAME, &spec.counter_name(number)),
        ],
    );
    let hand_over = match spec.target() {
        Target::Group => log(number, spec.prefix()),
        Target::Queue => queue(spec.numbers()),
    };
    let drop = spec.drops().then(|| verdict(NF_DROP, None));
    [count, hand_over].into_iter().chain(drop).collect()
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

/// The unnamed map from a CPU to the chain of its group.
fn cpu_map(spread: &[(u32, u16)]) -> Result<[Step; 2], MsgError> {
    let size = u32::try_from(spread.len()).map_err(|error| MsgError::new(error.to_string()))?;
    // A CPU's number is in the machine's byte order; this lets `nft list` know.
    let mut print_keys = vec![NFTNL_UDATA_SET_KEYBYTEORDER, 4];
    print_keys.extend(BYTEORDER_HOST_ENDIAN.to_ne_bytes());
    let map = attrs([
        string(NFTA_SET_TABLE, TABLE),
        string(NFTA_SET_NAME, CPU_MAP),
        be32(
            NFTA_SET_FLAGS,
            NFT_SET_ANONYMOUS | NFT_SET_CONSTANT | NFT_SET_MAP,
        ),
        be32(NFTA_SET_KEY_TYPE, TYPE_INTEGER),
        be32(NFTA_SET_KEY_LEN, 4),
        be32(NFTA_SET_DATA_TYPE, NFT_DATA_VERDICT),
        be32(NFTA_SET_DATA_LEN, 0),
        be32(NFTA_SET_ID, CPU_MAP_ID),
        nested(NFTA_SET_DESC, [be32(NFTA_SET_DESC_SIZE, size)]),
        bytes(NFTA_SET_USERDATA, &print_keys),
    ])?;
    let elements = spread.iter().map(|&(cpu, number)| {
        let chain = RuleSpec::group_chain(number);
        nested(
            NFTA_LIST_ELEM,
            [
                nested(
                    NFTA_SET_ELEM_KEY,
                    [bytes(NFTA_DATA_VALUE, &cpu.to_ne_bytes())],
                ),
                nested(NFTA_SET_ELEM_DATA, [verdict_data(NFT_GOTO, Some(&chain))]),
            ],
        )
    });
    let elements = attrs([
        string(NFTA_SET_ELEM_LIST_TABLE, TABLE),
        string(NFTA_SET_ELEM_LIST_SET, CPU_MAP),
        be32(NFTA_SET_ELEM_LIST_SET_ID, CPU_MAP_ID),
        nested(NFTA_SET_ELEM_LIST_ELEMENTS, elements),
    ])?;
    Ok([new(NFT_MSG_NEWSET, map), new(NFT_MSG_NEWSETELEM, elements)])
}

/// Looks register 1 up in the map and follows the verdict found; without one, the next rule.
fn go_by_map() -> AttrResult {
    expression(
        "lookup",
        [
            string(NFTA_LOOKUP_SET, CPU_MAP),
            be32(NFTA_LOOKUP_SREG, NFT_REG_1),
            be32(NFTA_LOOKUP_DREG, NFT_REG_VERDICT),
            be32(NFTA_LOOKUP_SET_ID, CPU_MAP_ID),
        ],
    )
}
