//! What the same work costs in other gateways, before the same provider and the same upstream, each as it is unless told
//! otherwise: `cargo bench --bench peers`, with `--rounds 5 --seconds 4`.
//!
//! It takes oauth2-proxy (`go install github.com/oauth2-proxy/oauth2-proxy/v7@v7.15.6`; `OAUTH2_PROXY_BIN` says where it
//! is) and Apache with mod_auth_openidc (Debian's `apache2-bin` and `libapache2-mod-auth-openidc`). Who is not there is
//! said to be missing. go-oidc-agent cannot be had from the Go proxy any more.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a bench fails by panicking and prints")]

mod gateways;
#[expect(dead_code, reason = "instructions are counted of the rows of another bench")]
mod instructions;
#[expect(dead_code, reason = "nobody asks how many there were")]
mod load;
#[expect(dead_code, reason = "other benches need bearers")]
mod login;
#[expect(dead_code, reason = "gateways are started in ways of their own")]
mod processes;
#[expect(dead_code, reason = "the rows are those of another bench")]
mod rows;
#[expect(dead_code, reason = "of the servers only the upstream takes part")]
mod servers;

use std::net::SocketAddr;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use gateways::{Gateway, Site};
use load::{Load, Run, median};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let ["role", "upstream"] = words.as_slice() {
        return runtime().block_on(servers::upstream());
    }
    let number = |name: &str, default: u64| {
        let at = words.iter().position(|word| *word == name);
        at.and_then(|at| words.get(at + 1)?.parse().ok()).unwrap_or(default)
    };
    compare(number("--rounds", 5), Duration::from_secs(number("--seconds", 4)));
}

/// The runtime of provider and upstream.
pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap()
}

fn compare(rounds: u64, time: Duration) {
    let runtime = runtime();
    let provider = runtime.block_on(login::provider(vec![gateways::client()]));
    let (_upstream, upstream) = processes::role(&["upstream"], None);
    let folder = tempfile::tempdir().unwrap();
    let site = Site { issuer: provider.issuer(), upstream, folder: folder.path() };
    let ours = Gateway::vestibule(&site);
    let others =
        [("oauth2-proxy", Gateway::oauth2_proxy(&site)), ("mod_auth_openidc", Gateway::mod_auth_openidc(&site))];
    for (name, gateway) in &others {
        if gateway.is_none() {
            println!("SKIPPED: {name} is not here");
        }
    }
    let all: Vec<&Gateway> =
        std::iter::once(&ours).chain(others.iter().filter_map(|(_, gateway)| gateway.as_ref())).collect();
    row("a call: session cookie in, bearer out", &all, |gateway| Some(gateway.proxied()), (rounds, time));
    row("a verdict on a session", &all, Gateway::verdict, (rounds, time));
}

/// Has all of them do one kind of work in turns, so that a machine that slows down slows all, and prints the medians.
fn row(
    what: &str,
    gateways: &[&Gateway],
    ask: impl Fn(&Gateway) -> Option<(SocketAddr, String)>,
    (rounds, time): (u64, Duration),
) {
    let who = gateways.iter().filter_map(|gateway| Some((gateway, ask(gateway)?)));
    let mut sides: Vec<_> = who
        .map(|(gateway, (address, request))| {
            let cursors: [AtomicUsize; load::CONNECTIONS] = std::array::from_fn(|_| AtomicUsize::new(0));
            (gateway, address, [request], cursors, Vec::<Run>::new())
        })
        .collect();
    for round in 0..=rounds {
        for (gateway, address, requests, cursors, runs) in &mut sides {
            let run = Load { address: *address, requests, cursors, time }.run(gateway.pid());
            // The first one warms up.
            if round > 0 {
                runs.push(run);
            }
        }
    }
    println!("\n{what}, {} connections, {rounds} x {} s each", load::CONNECTIONS, time.as_secs());
    println!(
        "{:<18}{:>10}{:>14}{:>12}{:>10}{:>10}{:>10}{:>14}",
        "", "request", "CPU us/each", "each/s", "p50 us", "p99 us", "broken", "ours of its"
    );
    let ours = sides.first().map_or(f64::NAN, |(.., runs)| median(runs, |run| run.cpu_micros));
    for (gateway, _, [request], _, runs) in &sides {
        let of = |value: fn(&Run) -> f64| median(runs, value);
        let cpu = of(|run| run.cpu_micros);
        println!(
            "{:<18}{:>10}{cpu:>14.1}{:>12.0}{:>10.0}{:>10.0}{:>10}{:>14.2}",
            gateway.name,
            request.len(),
            of(|run| run.rate),
            of(|run| run.p50),
            of(|run| run.p99),
            runs.iter().map(|run| run.broken).sum::<usize>(),
            ours / cpu
        );
    }
}
