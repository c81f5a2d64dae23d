//! `vestibule healthcheck`: asks the running process how it is.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use crate::cli::{ConfigArgs, complain, say};
use crate::config::{self, Listen};

/// How long each step may take: a process that needs longer is not well.
const PATIENCE: Duration = Duration::from_secs(5);
/// More than any answer has.
const MAX_ANSWER: u64 = 64 * 1024;

/// Asks /readyz where the configuration says that the process answers its operators (`server.metrics_listen`). A file that
/// was broken by an edit is no illness: the process goes on with what it read before.
#[derive(Debug, Args)]
#[command(after_help = "Exit code: 0 when the process is well, 1 when it is not, or does not answer.")]
pub(super) struct HealthcheckArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Ask no more than whether the process answers at all: /livez
    #[arg(long)]
    live: bool,
}

/// Prints the answer.
pub(super) fn healthcheck(args: &HealthcheckArgs) -> ExitCode {
    let Some(listen) = config::metrics_listen(&args.config.path(), &config::System) else {
        complain("error: `server.metrics_listen` is \"off\", so there is nobody to ask");
        return ExitCode::FAILURE;
    };
    let path = if args.live { "/livez" } else { "/readyz?verbose" };
    match ask(&listen, path) {
        Ok((200, body)) => {
            say(&body);
            ExitCode::SUCCESS
        }
        Ok((status, body)) => {
            complain(&format!("error: {listen} answers {status}: {body}"));
            ExitCode::FAILURE
        }
        Err(error) => {
            complain(&format!("error: nobody answers at {listen}: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Status and body of the answer.
fn ask(listen: &Listen, path: &str) -> io::Result<(u16, String)> {
    match listen {
        Listen::Tcp(address) => {
            let address = dialled(*address);
            let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            talk(stream, &address.to_string(), path)
        }
        Listen::Unix(socket) => {
            let stream = UnixStream::connect(socket)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            talk(stream, "localhost", path)
        }
    }
}

fn talk(mut stream: impl Read + Write, host: &str, path: &str) -> io::Result<(u16, String)> {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
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
