//! `[server]` and `[log]`.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use tracing_subscriber::EnvFilter;

use super::Secret;
use super::report::{Wrong, quote};
use super::section::Section;

/// `[server]`.
#[derive(Debug, PartialEq, Eq)]
pub struct Server {
    /// Where `/metrics`, `/livez` and `/readyz` answer.
    pub metrics_listen: Option<Listen>,
    /// The names with a dot that it is called by, lower case and without a port.
    pub metrics_hosts: Vec<String>,
    /// Where verdicts for Caddy's `forward_auth` are given; absent: none are.
    pub verdict_listen: Option<Listen>,
    /// Peers that may speak to the listeners of routes; all others get 403. Peers on a unix socket always may.
    pub trusted_proxies: Vec<IpNet>,
    /// Where operators act on the process; absent: they cannot.
    pub control: Option<Control>,
    /// How long requests in flight may take to finish after SIGTERM. Default 30 s.
    pub drain_timeout: Duration,
    /// How much longer streams go on when everything else is done, within `drain_timeout`. Default 0 s.
    pub stream_close_delay: Duration,
}

/// `server.control` and `server.control_token`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    /// Where it listens.
    pub listen: Listen,
    /// The bearer token that it asks for. On TCP there always is one.
    pub token: Option<Secret>,
}

/// Where to listen: `127.0.0.1:9080`, `[::1]:9080` or `unix:/run/vestibule/app.sock`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Listen {
    /// A TCP address; port 0 is allowed and picks a free one.
    Tcp(SocketAddr),
    /// A unix socket path.
    Unix(PathBuf),
}

impl fmt::Display for Listen {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(formatter, "{address}"),
            Self::Unix(path) => write!(formatter, "unix:{}", path.display()),
        }
    }
}

/// `[log]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// A `tracing` filter such as `info` or `info,vestibule::provider=debug`. Default `info`.
    pub level: String,
    /// How a line looks.
    pub format: LogFormat,
}

/// `log.format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Human on a terminal, JSON otherwise (the default).
    Auto,
    /// One readable line an event.
    Human,
    /// One JSON object a line.
    Json,
}

/// The longest path of a unix socket that all of Linux and the BSDs can bind.
const LONGEST_SOCKET_PATH: usize = 103;

impl Server {
    pub(super) fn resolve(section: &Section<'_>) -> Option<Self> {
        let metrics_listen = section.parse("metrics_listen", |text| match text {
            "off" => Ok(None),
            text => Listen::parse(text).map(Some),
        });
        let metrics_hosts = section.list("metrics_hosts", host_name);
        let verdict_listen = section.optional("verdict_listen", |section, name| section.parse(name, Listen::parse));
        let trusted_proxies = section.list("trusted_proxies", network);
        if trusted_proxies.iter().flatten().any(|network| network.prefix_len() == 0) {
            let wrong = Wrong::new("every machine that reaches a listener is trusted to say who the client is");
            section.cx.warn(&section.at("trusted_proxies"), wrong.hint("name Caddy's address"));
        }
        let control = Control::resolve(section);
        let drain_timeout = section.duration_or_zero("drain_timeout");
        let stream_close_delay = section.duration_or_zero("stream_close_delay");
        Some(Self {
            metrics_listen: metrics_listen?,
            metrics_hosts: metrics_hosts?,
            verdict_listen: verdict_listen?,
            control: control?,
            trusted_proxies: trusted_proxies?,
            drain_timeout: drain_timeout?,
            stream_close_delay: stream_close_delay?,
        })
    }
}

impl Control {
    /// `Some(None)`: there is none.
    fn resolve(section: &Section<'_>) -> Option<Option<Self>> {
        let listen = section.optional("control", |section, name| section.parse(name, Listen::parse));
        let token = section.token("control_token")?;
        let at = section.at("control");
        let Some(listen) = listen? else {
            if token.is_some() {
                let wrong = Wrong::new("nobody asks for this token");
                section.cx.warn(&section.at("control_token"), wrong.hint("set `control`, or remove the token"));
            }
            return Some(None);
        };
        if matches!(listen, Listen::Tcp(_)) && token.is_none() {
            let wrong = Wrong::new("every program of this machine could act on this process");
            let hint = "set `control_token = { file = \"/etc/vestibule/control.token\" }`, or listen on a socket, \
                        `\"unix:/run/vestibule/control.sock\"`";
            section.cx.error(&at, wrong.hint(hint));
            return None;
        }
        if !listen.is_local() {
            let wrong = Wrong::new("other machines can reach this listener, and its token travels without TLS");
            section.cx.warn(&at, wrong.hint("listen on loopback or on a unix socket"));
        }
        Some(Some(Self { listen, token }))
    }
}

impl Listen {
    /// `127.0.0.1:9080`, `[::1]:9080` or `unix:/absolute/path`.
    pub(super) fn parse(text: &str) -> Result<Self, Wrong> {
        if let Some(path) = text.strip_prefix("unix:") {
            return socket(path).map(Self::Unix);
        }
        text.parse().map(Self::Tcp).map_err(|_| {
            let wrong = Wrong::new(format!("{} is no address to listen on", quote(text)));
            let port = text.rsplit(':').next().filter(|port| port.parse::<u16>().is_ok()).unwrap_or("9080");
            wrong.hint(format!("write an IP address and a port, `\"127.0.0.1:{port}\"`, or a socket, `\"unix:/run/vestibule/app.sock\"`"))
        })
    }

    /// Whether only this machine can reach it.
    #[must_use]
    pub const fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().is_loopback(),
            Self::Unix(_) => true,
        }
    }
}

/// A host name as clients write it, in lower case.
fn host_name(text: &str) -> Result<String, Wrong> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    if text.is_empty() || !text.bytes().all(plain) {
        return Err(Wrong::new(format!("{} is no host name", quote(text)))
            .hint("write `\"vestibule.example.net\"`: one name, without scheme and port"));
    }
    Ok(text.to_ascii_lowercase())
}

/// What stands behind `unix:`.
pub(super) fn socket(path: &str) -> Result<PathBuf, Wrong> {
    // `unix:///run/app.sock` is the same as a URL.
    match path.strip_prefix("//").unwrap_or(path) {
        path if !path.starts_with('/') => Err(Wrong::new("the path of a socket must be absolute")),
        path if path.ends_with('/') || path.contains('\0') => Err(Wrong::new("this is no path of a socket")),
        path if path.len() > LONGEST_SOCKET_PATH => {
            Err(Wrong::new(format!("the path of a socket has at most {LONGEST_SOCKET_PATH} bytes")))
        }
        path => Ok(PathBuf::from(path)),
    }
}

/// `10.0.0.0/8`, or an address alone.
fn network(text: &str) -> Result<IpNet, Wrong> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(address));
    }
    let network: IpNet = text.parse().map_err(|_| {
        Wrong::new(format!("{} is no network", quote(text)))
            .hint("write `\"10.0.0.0/8\"`, or an address: names are not looked up")
    })?;
    if network.trunc() != network {
        return Err(Wrong::new(format!("{} is no network but an address in one", quote(text))).hint(format!(
            "write `\"{}\"` or `\"{}\"`",
            network.trunc(),
            network.addr()
        )));
    }
    Ok(network)
}

impl Log {
    pub(super) fn resolve(section: &Section<'_>) -> Option<Self> {
        let level = section.parse("level", |text| {
            EnvFilter::builder().parse(text).map(|_| text.to_owned()).map_err(|_| {
                Wrong::new(format!("{} is no log filter", quote(text)))
                    .hint("write error, warn, info, debug or trace, or such as `\"info,vestibule::provider=debug\"`")
            })
        });
        let format = section.choice("format", |text| match text {
            "auto" => Some(LogFormat::Auto),
            "human" => Some(LogFormat::Human),
            "json" => Some(LogFormat::Json),
            _ => None,
        });
        Some(Self { level: level?, format: format? })
    }
}
