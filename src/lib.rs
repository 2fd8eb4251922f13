//! lwnflog: packet capture at the Netfilter prerouting hook.

pub mod lab;
pub mod rules;
pub mod sys;
pub mod netlink;
pub mod packet;
pub mod record;
