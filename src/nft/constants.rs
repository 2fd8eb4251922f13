//! Numbers of the kernel's nftables interface, named as in its headers.
//!
//! From `linux/netfilter/nfnetlink.h`, `linux/netfilter/nf_tables.h`,
//! `linux/netfilter/nf_tables_compat.h` and `linux/netfilter.h`. neli has none of them.
//! Attribute types are `u16`; values that go into a 32-bit attribute are `u32`.

// nfnetlink.h: subsystems and the messages that bracket a batch.
pub(super) const NFNL_SUBSYS_NFTABLES: u16 = 10;
pub(super) const NFNL_MSG_BATCH_BEGIN: u16 = 0x10;
pub(super) const NFNL_MSG_BATCH_END: u16 = 0x11;

// nf_tables.h: the rules' generation.
pub(super) const NFT_MSG_GETGEN: u16 = 16;
pub(super) const NFTA_GEN_ID: u16 = 1;

// netfilter.h: protocol families, hook and verdicts.
pub(super) const NFPROTO_UNSPEC: u8 = 0;
pub(super) const NFPROTO_INET: u8 = 1;
pub(super) const NFPROTO_IPV4: u8 = 2;
pub(super) const NFPROTO_ARP: u8 = 3;
pub(super) const NFPROTO_NETDEV: u8 = 5;
pub(super) const NFPROTO_BRIDGE: u8 = 7;
pub(super) const NFPROTO_IPV6: u8 = 10;
pub(super) const NF_DROP: u32 = 0;
pub(super) const NF_ACCEPT: u32 = 1;
/// -4 as the 32 bits that travel.
pub(super) const NFT_GOTO: u32 = 0xffff_fffc;
/// -5 as the 32 bits that travel.
pub(super) const NFT_RETURN: u32 = 0xffff_fffb;

// enum nf_tables_msg_types
pub(super) const NFT_MSG_NEWTABLE: u16 = 0;
pub(super) const NFT_MSG_GETTABLE: u16 = 1;
pub(super) const NFT_MSG_NEWCHAIN: u16 = 3;
pub(super) const NFT_MSG_GETCHAIN: u16 = 4;
pub(super) const NFT_MSG_DELCHAIN: u16 = 5;
pub(super) const NFT_MSG_NEWRULE: u16 = 6;
pub(super) const NFT_MSG_GETRULE: u16 = 7;
pub(super) const NFT_MSG_DELRULE: u16 = 8;
pub(super) const NFT_MSG_NEWSET: u16 = 9;
pub(super) const NFT_MSG_GETSET: u16 = 10;
pub(super) const NFT_MSG_DELSET: u16 = 11;
pub(super) const NFT_MSG_NEWSETELEM: u16 = 12;
pub(super) const NFT_MSG_GETSETELEM: u16 = 13;
pub(super) const NFT_MSG_NEWOBJ: u16 = 18;
pub(super) const NFT_MSG_GETOBJ: u16 = 19;
pub(super) const NFT_MSG_GETFLOWTABLE: u16 = 23;

// enum nft_list_attributes
pub(super) const NFTA_LIST_ELEM: u16 = 1;

// enum nft_hook_attributes
pub(super) const NFTA_HOOK_HOOKNUM: u16 = 1;
pub(super) const NFTA_HOOK_PRIORITY: u16 = 2;

// enum nft_table_attributes, enum nft_table_flags
pub(super) const NFTA_TABLE_NAME: u16 = 1;
pub(super) const NFTA_TABLE_FLAGS: u16 = 2;
pub(super) const NFTA_TABLE_HANDLE: u16 = 4;
/// The table belongs to the netlink socket that made it, and goes when that socket closes.
pub(super) const NFT_TABLE_F_OWNER: u32 = 0x2;
/// Its chains are at no hook until it is woken.
pub(super) const NFT_TABLE_F_DORMANT: u32 = 0x1;

// enum nft_chain_attributes
pub(super) const NFTA_CHAIN_TABLE: u16 = 1;
pub(super) const NFTA_CHAIN_NAME: u16 = 3;
pub(super) const NFTA_CHAIN_HOOK: u16 = 4;
pub(super) const NFTA_CHAIN_POLICY: u16 = 5;
/// Its rules, and what leads to it.
pub(super) const NFTA_CHAIN_USE: u16 = 6;
pub(super) const NFTA_CHAIN_TYPE: u16 = 7;

// enum nft_flowtable_attributes, enum nft_flowtable_hook_attributes, enum nft_devices_attributes,
// enum nft_flowtable_flags
pub(super) const NFTA_FLOWTABLE_TABLE: u16 = 1;
pub(super) const NFTA_FLOWTABLE_NAME: u16 = 2;
pub(super) const NFTA_FLOWTABLE_HOOK: u16 = 3;
pub(super) const NFTA_FLOWTABLE_FLAGS: u16 = 7;
pub(super) const NFTA_FLOWTABLE_HOOK_DEVS: u16 = 3;
pub(super) const NFTA_DEVICE_NAME: u16 = 1;
pub(super) const NF_FLOWTABLE_HW_OFFLOAD: u32 = 0x1;

// enum nft_rule_attributes
pub(super) const NFTA_RULE_TABLE: u16 = 1;
pub(super) const NFTA_RULE_CHAIN: u16 = 2;
pub(super) const NFTA_RULE_HANDLE: u16 = 3;
pub(super) const NFTA_RULE_EXPRESSIONS: u16 = 4;

// enum nft_set_attributes, enum nft_set_flags, enum nft_set_desc_attributes
pub(super) const NFTA_SET_TABLE: u16 = 1;
pub(super) const NFTA_SET_NAME: u16 = 2;
pub(super) const NFTA_SET_FLAGS: u16 = 3;
pub(super) const NFTA_SET_KEY_TYPE: u16 = 4;
pub(super) const NFTA_SET_KEY_LEN: u16 = 5;
pub(super) const NFTA_SET_DATA_TYPE: u16 = 6;
pub(super) const NFTA_SET_DATA_LEN: u16 = 7;
pub(super) const NFTA_SET_DESC: u16 = 9;
pub(super) const NFTA_SET_ID: u16 = 10;
pub(super) const NFTA_SET_USERDATA: u16 = 13;
pub(super) const NFTA_SET_DESC_SIZE: u16 = 1;
pub(super) const NFT_SET_ANONYMOUS: u32 = 0x1;
pub(super) const NFT_SET_CONSTANT: u32 = 0x2;
pub(super) const NFT_SET_MAP: u32 = 0x8;
pub(super) const NFT_DATA_VERDICT: u32 = 0xffff_ff00;

// enum nft_set_elem_attributes, enum nft_set_elem_list_attributes
pub(super) const NFTA_SET_ELEM_KEY: u16 = 1;
pub(super) const NFTA_SET_ELEM_DATA: u16 = 2;
pub(super) const NFTA_SET_ELEM_LIST_TABLE: u16 = 1;
pub(super) const NFTA_SET_ELEM_LIST_SET: u16 = 2;
pub(super) const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
pub(super) const NFTA_SET_ELEM_LIST_SET_ID: u16 = 4;

// enum nft_data_attributes, enum nft_verdict_attributes
pub(super) const NFTA_DATA_VALUE: u16 = 1;
pub(super) const NFTA_DATA_VERDICT: u16 = 2;
pub(super) const NFTA_VERDICT_CODE: u16 = 1;
pub(super) const NFTA_VERDICT_CHAIN: u16 = 2;

// enum nft_registers
pub(super) const NFT_REG_VERDICT: u32 = 0;
pub(super) const NFT_REG_1: u32 = 1;

// enum nft_expr_attributes, and the expressions used here
pub(super) const NFTA_EXPR_NAME: u16 = 1;
pub(super) const NFTA_EXPR_DATA: u16 = 2;

pub(super) const NFTA_IMMEDIATE_DREG: u16 = 1;
pub(super) const NFTA_IMMEDIATE_DATA: u16 = 2;

pub(super) const NFTA_SOCKET_KEY: u16 = 1;
pub(super) const NFTA_SOCKET_DREG: u16 = 2;
pub(super) const NFTA_SOCKET_LEVEL: u16 = 3;
pub(super) const NFT_SOCKET_CGROUPV2: u32 = 3;
pub(super) const NFTA_CMP_SREG: u16 = 1;
pub(super) const NFTA_CMP_OP: u16 = 2;
pub(super) const NFTA_CMP_DATA: u16 = 3;
pub(super) const NFT_CMP_EQ: u32 = 0;
pub(super) const NFT_CMP_NEQ: u32 = 1;

pub(super) const NFTA_LOOKUP_SET: u16 = 1;
pub(super) const NFTA_LOOKUP_SREG: u16 = 2;
pub(super) const NFTA_LOOKUP_DREG: u16 = 3;
pub(super) const NFTA_LOOKUP_SET_ID: u16 = 4;

pub(super) const NFTA_META_DREG: u16 = 1;
pub(super) const NFTA_META_KEY: u16 = 2;
pub(super) const NFTA_META_SREG: u16 = 3;
pub(super) const NFT_META_MARK: u32 = 3;
pub(super) const NFT_META_IIF: u32 = 4;
pub(super) const NFT_META_OIF: u32 = 5;
pub(super) const NFT_META_IIFNAME: u32 = 6;
pub(super) const NFT_META_OIFNAME: u32 = 7;
pub(super) const NFT_META_IIFTYPE: u32 = 8;
pub(super) const NFT_META_OIFTYPE: u32 = 9;
pub(super) const NFT_META_SKUID: u32 = 10;
pub(super) const NFT_META_SKGID: u32 = 11;
pub(super) const NFT_META_RTCLASSID: u32 = 13;
pub(super) const NFT_META_CPU: u32 = 20;
pub(super) const NFT_META_IIFGROUP: u32 = 21;
pub(super) const NFT_META_OIFGROUP: u32 = 22;
pub(super) const NFT_META_CGROUP: u32 = 23;
pub(super) const NFT_META_IIFKIND: u32 = 26;
pub(super) const NFT_META_OIFKIND: u32 = 27;

pub(super) const NFTA_CT_DREG: u16 = 1;
pub(super) const NFTA_CT_SREG: u16 = 4;
pub(super) const NFTA_EXTHDR_DREG: u16 = 1;
pub(super) const NFTA_PAYLOAD_SREG: u16 = 5;

pub(super) const NFTA_COUNTER_PACKETS: u16 = 2;

pub(super) const NFTA_LIMIT_RATE: u16 = 1;
pub(super) const NFTA_LIMIT_UNIT: u16 = 2;
pub(super) const NFTA_LIMIT_BURST: u16 = 3;
pub(super) const NFTA_LIMIT_TYPE: u16 = 4;
pub(super) const NFTA_LIMIT_FLAGS: u16 = 5;
pub(super) const NFT_LIMIT_PKTS: u32 = 0;
/// `over`: what is beyond the rate matches.
pub(super) const NFT_LIMIT_F_INV: u32 = 0x1;

pub(super) const NFTA_HASH_DREG: u16 = 2;
pub(super) const NFTA_HASH_MODULUS: u16 = 4;
pub(super) const NFTA_HASH_OFFSET: u16 = 6;
pub(super) const NFTA_HASH_TYPE: u16 = 7;
pub(super) const NFT_HASH_SYM: u32 = 1;

pub(super) const NFTA_LOG_GROUP: u16 = 1;
pub(super) const NFTA_LOG_PREFIX: u16 = 2;
pub(super) const NFTA_LOG_SNAPLEN: u16 = 3;
pub(super) const NFTA_LOG_QTHRESHOLD: u16 = 4;

pub(super) const NFTA_QUEUE_NUM: u16 = 1;
pub(super) const NFTA_QUEUE_TOTAL: u16 = 2;
pub(super) const NFTA_QUEUE_FLAGS: u16 = 3;
pub(super) const NFT_QUEUE_FLAG_BYPASS: u16 = 0x1;
pub(super) const NFT_QUEUE_FLAG_CPU_FANOUT: u16 = 0x2;

pub(super) const NFTA_OBJREF_IMM_TYPE: u16 = 1;
pub(super) const NFTA_OBJREF_IMM_NAME: u16 = 2;
pub(super) const NFTA_OBJREF_SET_NAME: u16 = 4;

// enum nft_object_attributes
pub(super) const NFTA_OBJ_TABLE: u16 = 1;
pub(super) const NFTA_OBJ_NAME: u16 = 2;
pub(super) const NFTA_OBJ_TYPE: u16 = 3;
pub(super) const NFTA_OBJ_DATA: u16 = 4;
pub(super) const NFT_OBJECT_COUNTER: u32 = 1;

// nf_tables_compat.h: a target of iptables, run by nftables
pub(super) const NFTA_TARGET_NAME: u16 = 1;
pub(super) const NFTA_TARGET_REV: u16 = 2;
pub(super) const NFTA_TARGET_INFO: u16 = 3;

/// `NFTNL_UDATA_SET_KEYBYTEORDER` of libnftnl: tells `nft list` how to print a set's keys.
pub(super) const NFTNL_UDATA_SET_KEYBYTEORDER: u8 = 0;
/// `BYTEORDER_HOST_ENDIAN` of nft.
pub(super) const BYTEORDER_HOST_ENDIAN: u32 = 1;
/// `TYPE_INTEGER` of nft's data types, for printing only.
pub(super) const TYPE_INTEGER: u32 = 4;

/// Bytes of an interface name in the kernel, the closing zero included (`IFNAMSIZ`).
pub(super) const IFNAMSIZ: usize = 16;
/// Bytes of a log prefix, the closing zero included (`NF_LOG_PREFIXLEN`).
pub(super) const NF_LOG_PREFIXLEN: usize = 128;

/// The netlink message type of an nftables message.
pub(super) const fn message_type(nft_msg: u16) -> u16 {
    (NFNL_SUBSYS_NFTABLES << 8) | nft_msg
}
