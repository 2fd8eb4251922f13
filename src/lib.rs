//! lwnflog: packet capture at the Netfilter prerouting hook.

pub mod account;
pub mod capture;
pub mod cli;
pub mod config;
pub mod demo;
pub mod detected;
pub mod lab;
pub mod netlink;
pub mod packet;
pub mod record;
pub mod report;
pub mod ring;
pub mod rules;
pub mod run;
pub mod session;
pub mod source;
pub mod sys;
