//! What a proxied `/api/` call costs beside a bare hyper proxy: a regression here makes every call of every front end
//! dearer. Run with `cargo bench --bench proxy`, optionally `-- --rounds 7 --seconds 4`, or with `-- --instructions DIR`
//! to count instructions under valgrind and leave the profiles in that folder.
//!
//! Upstream, yardstick and Vestibule run as processes of their own; this one logs in, makes the load and reads what
//! the others spent. Request and answer have the same bytes for both. They take turns, so that a machine that slows
//! down slows both, and the ratio is that of the medians.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a bench fails by panicking and prints")]

mod instructions;
mod load;
mod login;
mod servers;

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use http::HeaderValue;
use vestibule::demo::provider::DemoProvider;

use load::{Load, Run};

/// Connections that ask at once.
const CONNECTIONS: usize = 32;

/// What other software leaves in a browser's cookies for the same host.
const OTHER_COOKIES: &str = "_ga=GA1.1.1380172938.1763970000; theme=dark; consent=necessary:true|stats:false; \
                             _pk_id.1.1fff=4b1d8a2e5c7f9031.1763970000.; locale=en-GB";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["role", "upstream"] => runtime().block_on(servers::upstream()),
        ["role", "yardstick", upstream, bearer, cookies] => {
            let cookies = HeaderValue::from_str(cookies).unwrap();
            runtime().block_on(servers::yardstick(upstream.parse().unwrap(), bearer.parse().unwrap(), cookies));
        }
        words => match words.iter().position(|word| *word == "--instructions").and_then(|at| words.get(at + 1)) {
            Some(directory) => count(Path::new(directory)),
            None => compare(option(words, "--rounds", 5), Duration::from_secs(option(words, "--seconds", 4))),
        },
    }
}

/// The runtime that `vestibule run` has too.
fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap()
}

/// The number behind `name`.
fn option(words: &[&str], name: &str, default: u64) -> u64 {
    words
        .windows(2)
        .find_map(|pair| if pair.first() == Some(&name) { pair.last()?.parse().ok() } else { None })
        .unwrap_or(default)
}

/// A process that ends with this.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How `program` is started: as it is, or so that its instructions are counted into `profile`.
fn command(program: impl AsRef<OsStr>, profile: Option<&Path>) -> Command {
    let Some(profile) = profile else { return Command::new(program) };
    let [valgrind, tool] = instructions::COUNTED;
    let mut command = Command::new(valgrind);
    command
        .arg(tool)
        .arg(format!("--callgrind-out-file={}", profile.display()))
        .arg("--quiet")
        .arg(program.as_ref());
    command
}

/// Starts this program in another role and waits for its port.
fn role(words: &[&str], profile: Option<&Path>) -> (Process, SocketAddr) {
    let mut command = command(std::env::current_exe().unwrap(), profile);
    let mut child = command.arg("role").args(words).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    (Process(child), SocketAddr::from(([127, 0, 0, 1], line.trim().parse().unwrap())))
}

/// Starts Vestibule itself, as released, and waits until it answers.
fn vestibule(config: &Path, address: SocketAddr, profile: Option<&Path>) -> Process {
    let mut command = command(env!("CARGO_BIN_EXE_vestibule"), profile);
    let command = command.arg("run").arg("--config").arg(config).stdout(Stdio::null());
    let process = Process(command.spawn().unwrap());
    let begun = Instant::now();
    while TcpStream::connect(address).is_err() {
        assert!(begun.elapsed() < Duration::from_secs(60), "vestibule does not listen");
        std::thread::sleep(Duration::from_millis(10));
    }
    process
}

/// An address that is free now.
fn free_address() -> SocketAddr {
    TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap().local_addr().unwrap()
}

/// Everything that takes part, and what is asked.
struct Field {
    yardstick: (Process, SocketAddr),
    vestibule: (Process, SocketAddr),
    request: String,
    _upstream: Process,
    _provider: DemoProvider,
    _runtime: tokio::runtime::Runtime,
    _directory: tempfile::TempDir,
}

impl Field {
    fn set(profiles: Option<[&Path; 2]>) -> Self {
        let [bare_profile, our_profile] = profiles.map_or([None; 2], |profiles| profiles.map(Some));
        let (upstream, upstream_address) = role(&["upstream"], None);
        let runtime = runtime();
        let (address, directory) = (free_address(), tempfile::tempdir().unwrap());
        let provider = runtime.block_on(login::provider());
        let config = login::config(&provider, [address, free_address()], upstream_address, directory.path());
        let vestibule = vestibule(&config, address, our_profile);
        let session = login::log_in(address);
        let bearer = check(address, &session);
        let words = ["yardstick", &upstream_address.to_string(), &bearer.to_string(), OTHER_COOKIES];
        let (yardstick, yardstick_address) = role(&words, bare_profile);
        assert_eq!(check(yardstick_address, &session), bearer);
        let request = request(&session);
        println!("request {} bytes, bearer {bearer} bytes, answer 2 kB, {CONNECTIONS} connections", request.len());
        Self {
            yardstick: (yardstick, yardstick_address),
            vestibule: (vestibule, address),
            request,
            _upstream: upstream,
            _provider: provider,
            _runtime: runtime,
            _directory: directory,
        }
    }

    fn run(&self, (process, address): &(Process, SocketAddr), time: Duration) -> Run {
        Load { address: *address, request: self.request.as_bytes(), connections: CONNECTIONS, time }.run(process.0.id())
    }
}

fn compare(rounds: u64, time: Duration) {
    let field = Field::set(None);
    for each in [&field.yardstick, &field.vestibule] {
        field.run(each, time / 4);
    }
    let (mut bare, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        bare.push(field.run(&field.yardstick, time));
        ours.push(field.run(&field.vestibule, time));
    }
    println!("{rounds} x {time:?} each");
    table(&bare, &ours);
}

fn count(directory: &Path) {
    let profiles = ["bare", "vestibule"].map(|name| instructions::out_file(directory, name));
    let [bare_profile, our_profile] = &profiles;
    let field = Field::set(Some([bare_profile, our_profile]));
    let mut counts = Vec::new();
    for (name, each, profile) in
        [("bare hyper", &field.yardstick, bare_profile), ("vestibule", &field.vestibule, our_profile)]
    {
        field.run(each, Duration::from_secs(2));
        instructions::zero(each.0.0.id());
        let run = field.run(each, Duration::from_secs(4));
        let count = instructions::dump(each.0.0.id(), profile) / run.requests;
        println!("{name:<12} {count:>10.0} instructions in user space for one request");
        counts.push(count);
    }
    println!("ratio {:.3}", counts.iter().rev().copied().reduce(|ours, bare| ours / bare).unwrap());
}

/// A call as Caddy would pass it on for a page's `fetch`.
fn request(session: &str) -> String {
    format!(
        "GET /api/items?page=2&sort=name HTTP/1.1\r\n\
         Host: {host}\r\n\
         User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36\r\n\
         Accept: application/json\r\n\
         Accept-Encoding: gzip, deflate, br, zstd\r\n\
         Accept-Language: en-GB,en;q=0.9\r\n\
         Cookie: {OTHER_COOKIES}; {session}\r\n\
         Referer: https://{host}/items\r\n\
         Sec-Ch-Ua-Platform: \"Linux\"\r\n\
         Sec-Fetch-Dest: empty\r\n\
         Sec-Fetch-Mode: cors\r\n\
         Sec-Fetch-Site: same-origin\r\n\
         Via: 2.0 Caddy\r\n\
         X-Forwarded-For: 203.0.113.7\r\n\
         X-Forwarded-Host: {host}\r\n\
         X-Forwarded-Proto: https\r\n\r\n",
        host = login::HOST
    )
}

/// Asks once and returns the size of the bearer that came upstream; other cookies came too, and none of ours.
fn check(address: SocketAddr, session: &str) -> usize {
    let request = request(session).replace("/api/items", "/api/cookies");
    let answer = load::first_answer(&mut TcpStream::connect(address).unwrap(), request.as_bytes());
    let text = String::from_utf8(answer).unwrap();
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
    assert_eq!(load::header(&text, "x-cookies"), Some(OTHER_COOKIES));
    load::header(&text, "x-bearer-size").unwrap().parse().unwrap()
}

fn median(runs: &[Run], of: impl Fn(&Run) -> f64) -> f64 {
    let mut values: Vec<f64> = runs.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn table(bare: &[Run], ours: &[Run]) {
    println!("{:<12} {:>16} {:>12} {:>10} {:>10}", "", "CPU us/request", "requests/s", "p50 us", "p99 us");
    for (name, runs) in [("bare hyper", bare), ("vestibule", ours)] {
        let of = |value: fn(&Run) -> f64| median(runs, value);
        let (cpu, rate) = (of(|run| run.cpu_micros), of(|run| run.rate));
        println!("{name:<12} {cpu:>16.2} {rate:>12.0} {:>10.0} {:>10.0}", of(|run| run.p50), of(|run| run.p99));
    }
    let ratios: Vec<f64> = bare.iter().zip(ours).map(|(bare, ours)| ours.cpu_micros / bare.cpu_micros).collect();
    let spread: Vec<String> = ratios.iter().map(|ratio| format!("{ratio:.3}")).collect();
    let ratio = median(ours, |run| run.cpu_micros) / median(bare, |run| run.cpu_micros);
    println!("CPU ratio of medians {ratio:.3} (each round: {}); target 1.08", spread.join(" "));
}
