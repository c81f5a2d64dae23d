//! Everything that takes part, running: the provider, the upstream, Vestibule, and a yardstick for each row.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use vestibule::demo::provider::DemoProvider;

use crate::load::{CONNECTIONS, Load, Run, first_answer, header};
use crate::processes::{Process, free_address, role, vestibule};
use crate::rows::{Row, bearer, call, question};
use crate::{instructions, login};

/// One side of a row.
pub(crate) struct Side<'a> {
    process: &'a Process,
    address: SocketAddr,
    requests: &'a [String],
    cursors: &'a [AtomicUsize; CONNECTIONS],
}

impl Side<'_> {
    /// Runs the load for `time` and says what the process spent.
    pub(crate) fn run(&self, time: Duration) -> Run {
        let Self { process, address, requests, cursors } = *self;
        Load { address, requests, cursors, time }.run(process.id())
    }

    /// The process.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }
}

/// A row that is ready to run.
pub(crate) struct Match<'a> {
    field: &'a Field,
    row: Row,
    bare: (Process, SocketAddr),
    requests: Vec<String>,
    cursors: [[AtomicUsize; CONNECTIONS]; 2],
}

impl Match<'_> {
    /// The yardstick.
    pub(crate) fn bare(&self) -> Side<'_> {
        let (process, address) = &self.bare;
        Side { process, address: *address, requests: &self.requests, cursors: &self.cursors[0] }
    }

    /// Vestibule.
    pub(crate) fn ours(&self) -> Side<'_> {
        let (process, address) = (&self.field.vestibule, self.field.address(self.row));
        Side { process, address, requests: &self.requests, cursors: &self.cursors[1] }
    }

    /// The sizes, for the reader.
    pub(crate) fn describe(&self) -> String {
        let request = self.requests.first().map_or(0, String::len);
        format!("{}: request {request} bytes, {CONNECTIONS} connections", self.row.name())
    }
}

/// The world around the rows.
pub(crate) struct Field {
    vestibule: Process,
    listen: SocketAddr,
    verdicts: SocketAddr,
    metrics: SocketAddr,
    session: String,
    upstream: (Process, SocketAddr),
    provider: DemoProvider,
    _runtime: tokio::runtime::Runtime,
    directory: tempfile::TempDir,
}

impl Field {
    /// Starts everything but the yardsticks; with `profiles`, instructions are counted into that folder.
    pub(crate) fn set(profiles: Option<&Path>) -> Self {
        let upstream = role(&["upstream"], None);
        let runtime = crate::runtime();
        let directory = tempfile::tempdir().unwrap();
        let [listen, verdicts, metrics] = std::array::from_fn(|_| free_address());
        let provider = runtime.block_on(login::provider(Vec::new()));
        let config = login::config(provider.issuer(), [listen, verdicts, metrics], upstream.1, directory.path());
        let profile = profiles.map(|folder| instructions::out_file(folder, "vestibule"));
        let vestibule = vestibule(&config, &[listen, verdicts, metrics], profile.as_deref());
        let session = login::log_in(listen, "/login/start");
        Self { vestibule, listen, verdicts, metrics, session, upstream, provider, _runtime: runtime, directory }
    }

    fn address(&self, row: Row) -> SocketAddr {
        match row {
            Row::Proxy => self.listen,
            Row::Session | Row::Seen | Row::New => self.verdicts,
        }
    }

    /// Makes a row ready: what is asked, and a yardstick that answers with the same bytes.
    pub(crate) fn prepare(&self, row: Row, profiles: Option<&Path>) -> Match<'_> {
        let profile = profiles.map(|folder| instructions::out_file(folder, "yardstick"));
        let tokens = (0..row.tokens()).map(|number| login::token(&self.provider, number));
        let requests: Vec<String> = match row {
            Row::Proxy => vec![call("/api/items?page=2&sort=name", &self.session)],
            Row::Session => vec![question("/web", &self.session)],
            Row::Seen | Row::New => tokens.map(|token| bearer(&token)).collect(),
        };
        let bare = match row {
            Row::Proxy => self.bare_proxy(profile.as_deref()),
            Row::Session | Row::Seen | Row::New => {
                self.bare_answers(row, requests.first().unwrap(), profile.as_deref())
            }
        };
        let cursors = std::array::from_fn(|_| std::array::from_fn(|_| AtomicUsize::new(0)));
        Match { field: self, row, bare, requests, cursors }
    }

    /// A proxy that lets the same bytes through, in both directions.
    fn bare_proxy(&self, profile: Option<&Path>) -> (Process, SocketAddr) {
        let size = self.passes(self.listen);
        let bare = role(&["proxy", &self.upstream.1.to_string(), &size.to_string(), login::OTHER_COOKIES], profile);
        assert_eq!(self.passes(bare.1), size);
        bare
    }

    /// Asks once and returns the size of the bearer that came upstream; other cookies came too, and none of ours.
    fn passes(&self, address: SocketAddr) -> usize {
        let text = ask(address, &call("/api/cookies", &self.session));
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
        assert_eq!(header(&text, "x-cookies"), Some(login::OTHER_COOKIES));
        header(&text, "x-bearer-size").unwrap().parse().unwrap()
    }

    /// A server that says what Vestibule says.
    fn bare_answers(&self, row: Row, request: &str, profile: Option<&Path>) -> (Process, SocketAddr) {
        let answer = ask(self.verdicts, request);
        assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
        let file = self.directory.path().join(row.name());
        std::fs::write(&file, &answer).unwrap();
        let kind = if row == Row::New { "verify" } else { "answer" };
        let bare = role(&[kind, &file.display().to_string()], profile);
        assert_eq!(ask(bare.1, request).len(), answer.len());
        bare
    }

    /// How many verdicts came from memory so far: none in a row of new tokens.
    pub(crate) fn remembered(&self) -> f64 {
        let text = ask(self.metrics, "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let series = "vestibule_jwt_verifications_total{result=\"remembered\",route=\"things\"} ";
        text.lines().find_map(|line| line.strip_prefix(series)).map_or(0.0, |count| count.parse().unwrap())
    }
}

fn ask(address: SocketAddr, request: &str) -> String {
    let answer = first_answer(&mut TcpStream::connect(address).unwrap(), request.as_bytes());
    String::from_utf8(answer).unwrap()
}
