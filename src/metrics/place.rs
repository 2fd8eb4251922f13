//! Where the server listens.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

/// An address or a Unix socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A TCP port.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Tcp(address) => write!(f, "http://{address}/metrics"),
            Place::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl FromStr for Place {
    type Err = String;

    /// `9753`: of the loopback; `192.0.2.1:9753`, `[::1]:9753`; `unix:/run/lwnflog/metrics.sock`.
    fn from_str(text: &str) -> Result<Place, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return match path.starts_with('/') {
                true => Ok(Place::Unix(path.into())),
                false => Err("unix: the whole path of a socket has to follow".to_owned()),
            };
        }
        if let Ok(port) = text.trim_start_matches(':').parse() {
            return Ok(Place::Tcp((IpAddr::V4(Ipv4Addr::LOCALHOST), port).into()));
        }
        let wrong = format!(
            "`{text}` is no place to listen at: write 9753, 192.0.2.1:9753, [::1]:9753 or unix:/run/lwnflog/metrics.sock"
        );
        text.parse().map(Place::Tcp).map_err(|_| wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_alone_is_of_the_loopback() {
        let tcp = |text: &str| Place::Tcp(text.parse().unwrap());
        for (text, wanted) in [
            ("9753", tcp("127.0.0.1:9753")),
            (":9753", tcp("127.0.0.1:9753")),
            ("[::1]:1", tcp("[::1]:1")),
            ("unix:/a", Place::Unix("/a".into())),
        ] {
            assert_eq!(text.parse(), Ok(wanted), "{text}");
        }
        for wrong in ["", "localhost", "99999", "unix:a", "1.2.3.4"] {
            assert!(wrong.parse::<Place>().is_err(), "{wrong}");
        }
    }
}
