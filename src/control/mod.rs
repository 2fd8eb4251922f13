//! Control of a running capture from outside: a Unix socket, a JSON request and an answer a line.
//! `docs/CONTROL.md` is its description.
//!
//! ```text
//!   lwnflog ctl, any program ──line──> server (a thread a client, few at a time)
//!                                        │ Call: request, who asks, where the answer goes
//!                                        v
//!                                      the main thread ──Order──> session
//! ```
//!
//! Nothing of it is in a capturing thread.

pub mod client;
pub mod place;
pub mod request;
pub mod server;

pub use request::{Asked, Request};
pub use server::{Call, Server};

/// The version of requests and answers.
pub const VERSION: u32 = 1;
