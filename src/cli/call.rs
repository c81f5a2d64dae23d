//! A question to the running process, on one of the listeners that it has for its operators.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::config::{Listen, Secret};

/// How long each step may take: a process that needs longer is not well.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long ending many sessions may take.
const LONG: Duration = Duration::from_secs(120);
/// More than any answer has: a thousand sessions take half a megabyte.
const MAX_ANSWER: u64 = 16 * 1024 * 1024;

/// What is asked.
pub(super) struct Question<'a> {
    method: &'static str,
    target: &'a str,
    /// `control_token`.
    token: Option<&'a Secret>,
}

impl<'a> Question<'a> {
    /// To read something.
    pub(super) const fn get(target: &'a str) -> Self {
        Self { method: "GET", target, token: None }
    }

    /// To end something.
    pub(super) const fn delete(target: &'a str) -> Self {
        Self { method: "DELETE", target, token: None }
    }

    /// The same, by somebody who has the token.
    pub(super) const fn with(mut self, token: Option<&'a Secret>) -> Self {
        self.token = token;
        self
    }
}

/// Status and body of the answer.
pub(super) fn ask(listen: &Listen, question: &Question<'_>) -> io::Result<(u16, String)> {
    let patience = if question.method == "DELETE" { LONG } else { PATIENCE };
    match listen {
        Listen::Tcp(address) => {
            let address = dialled(*address);
            let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
            stream.set_read_timeout(Some(patience))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            talk(stream, &address.to_string(), question)
        }
        Listen::Unix(socket) => {
            let stream = UnixStream::connect(socket)?;
            stream.set_read_timeout(Some(patience))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            talk(stream, "localhost", question)
        }
    }
}

fn talk(mut stream: impl Read + Write, host: &str, question: &Question<'_>) -> io::Result<(u16, String)> {
    let Question { method, target, token } = question;
    let token = token.map(|token| format!("Authorization: Bearer {}\r\n", token.expose())).unwrap_or_default();
    write!(stream, "{method} {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{token}\r\n")?;
    let mut answer = String::new();
    stream.take(MAX_ANSWER).read_to_string(&mut answer)?;
    let no_http = || io::Error::other("what answers there does not speak HTTP");
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(no_http)?;
    let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
    Ok((status.ok_or_else(no_http)?, body.to_owned()))
}

/// A process that listens everywhere is asked on this machine.
fn dialled(address: SocketAddr) -> SocketAddr {
    let here: IpAddr = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(here, address.port())
}
