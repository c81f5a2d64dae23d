//! What a request costs beside the least that it could cost: a regression here makes every call of every front end and
//! every verdict dearer. `cargo bench --bench requests` runs all rows, `-- proxy`, `session`, `seen` or `new` one of
//! them; `--rounds 7 --seconds 4` says how long, and `--instructions DIR` counts instructions under valgrind instead
//! and leaves the profiles in that folder.
//!
//! Upstream, yardsticks and Vestibule run as processes of their own; this one logs in, makes the load and reads what
//! the others spent. Request and answer have the same bytes for both. They take turns, so that a machine that slows
//! down slows both, and the ratio is that of the medians.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a bench fails by panicking and prints")]

mod field;
mod instructions;
mod load;
mod login;
mod processes;
mod rows;
mod servers;
mod table;

use std::path::Path;
use std::time::Duration;

use http::HeaderValue;

use field::Field;
use rows::Row;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["role", "upstream"] => runtime().block_on(servers::upstream()),
        ["role", "proxy", upstream, bearer, cookies] => {
            let cookies = HeaderValue::from_str(cookies).unwrap();
            runtime().block_on(servers::proxy(upstream.parse().unwrap(), bearer.parse().unwrap(), cookies));
        }
        ["role", "answer", answer] => runtime().block_on(servers::answer(Path::new(answer))),
        ["role", "verify", answer] => runtime().block_on(servers::verify(Path::new(answer))),
        words => {
            let named = Row::ALL.into_iter().filter(|row| words.contains(&row.name()));
            let rows: Vec<Row> = if named.clone().count() == 0 { Row::ALL.to_vec() } else { named.collect() };
            match words.iter().position(|word| *word == "--instructions").and_then(|at| words.get(at + 1)) {
                Some(directory) => rows.into_iter().for_each(|row| count(row, Path::new(directory))),
                None => compare(&rows, option(words, "--rounds", 5), option(words, "--seconds", 4)),
            }
        }
    }
}

/// The runtime that `vestibule run` has too.
pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap()
}

/// The number behind `name`.
fn option(words: &[&str], name: &str, default: u64) -> u64 {
    words
        .windows(2)
        .find_map(|pair| if pair.first() == Some(&name) { pair.last()?.parse().ok() } else { None })
        .unwrap_or(default)
}

fn compare(rows: &[Row], rounds: u64, seconds: u64) {
    let time = Duration::from_secs(seconds);
    let field = Field::set(None);
    for row in rows {
        let ready = field.prepare(*row, None);
        let remembered = field.remembered();
        ready.bare().run(time / 4);
        ready.ours().run(time / 4);
        let (mut bare, mut ours) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            bare.push(ready.bare().run(time));
            ours.push(ready.ours().run(time));
        }
        println!("\n{}, {rounds} x {seconds} s each", ready.describe());
        table::print(row.name(), row.target(), &bare, &ours);
        assert!(bare.iter().chain(&ours).all(|run| run.broken == 0), "connections broke");
        let remembered = (field.remembered() - remembered) / ours.iter().map(|run| run.requests).sum::<f64>();
        assert!(*row != Row::New || remembered < 0.01, "{remembered} of the tokens were not new");
    }
}

fn count(row: Row, directory: &Path) {
    let directory = directory.join(row.name());
    std::fs::create_dir_all(&directory).unwrap();
    let field = Field::set(Some(&directory));
    let ready = field.prepare(row, Some(&directory));
    let mut counts = Vec::new();
    for (name, side) in [("yardstick", ready.bare()), ("vestibule", ready.ours())] {
        side.run(Duration::from_secs(2));
        instructions::zero(side.id());
        let run = side.run(Duration::from_secs(4));
        let count = instructions::dump(side.id(), &instructions::out_file(&directory, name)) / run.requests;
        println!("{} {name:<12} {count:>10.0} instructions in user space for one request", row.name());
        counts.push(count);
    }
    println!("{} ratio {:.3}", row.name(), counts.iter().rev().copied().reduce(|ours, bare| ours / bare).unwrap());
}
