//! The nftables side: the table lwnflog installs, and what it reads of the rules that feed it.
