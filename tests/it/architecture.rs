//! The house rules that no compiler checks: the order of the modules, the size of files, and the home of each crate.

use std::fs;
use std::path::{Path, PathBuf};

/// Where an outside crate or module may be named: any path that starts with one of these.
const HOMES: &[(&str, &[&str])] = &[
    ("openidconnect", &["provider/"]),
    ("jsonwebtoken", &["provider/", "demo/"]),
    ("toml", &["config/"]),
    ("notify", &["reload"]),
    ("prometheus", &["metrics"]),
    ("redb", &["session/file/"]),
    ("listenfd", &["cli/"]),
    ("sd_notify", &["cli/"]),
    ("std::env", &["config/", "cli"]),
    ("std::fs", &["config/", "reload", "session/", "server/", "demo/"]),
];

/// Longest file, in lines.
const MAX_LINES: usize = 400;

/// One file of `src`.
struct Source {
    /// Relative to `src`, with `/`.
    path: String,
    text: String,
}

/// The lines of a file that are code, with their numbers: comments and the contents of strings are blanked out.
fn code(text: &str) -> Vec<(usize, String)> {
    let mut lines = Vec::new();
    let (mut in_string, mut raw_end) = (false, None::<String>);
    for (number, line) in text.lines().enumerate() {
        let mut kept = String::new();
        let mut rest = line;
        while let Some(char) = rest.chars().next() {
            if let Some(end) = &raw_end {
                let Some(at) = rest.find(end.as_str()) else { break };
                rest = &rest[at + end.len()..];
                raw_end = None;
                continue;
            }
            if in_string {
                let escaped = char == '\\';
                in_string = char != '"';
                rest = rest.get(if escaped { 2 } else { char.len_utf8() }..).unwrap_or("");
                continue;
            }
            if rest.starts_with("//") {
                break;
            }
            if let Some(hashes) = raw_string_start(rest, &kept) {
                rest = &rest[hashes + 2..];
                raw_end = Some(format!("\"{}", "#".repeat(hashes)));
                continue;
            }
            if rest.starts_with("'\"'") {
                rest = &rest[3..];
                continue;
            }
            in_string = char == '"';
            kept.push(if in_string { ' ' } else { char });
            rest = &rest[char.len_utf8()..];
        }
        lines.push((number + 1, kept));
    }
    lines
}

/// The number of hashes when `rest` starts a raw string.
fn raw_string_start(rest: &str, before: &str) -> Option<usize> {
    if before.ends_with(|char: char| char.is_alphanumeric() && char != 'b') {
        return None;
    }
    let body = rest.strip_prefix('r')?;
    let hashes = body.len() - body.trim_start_matches('#').len();
    body[hashes..].starts_with('"').then_some(hashes)
}

/// The modules in their order, as the doc comment of `src/lib.rs` states it: `cli → demo → …`.
fn order(lib: &str) -> Vec<String> {
    let text: String = lib.lines().map(|line| line.trim_start_matches("//!").trim()).collect::<Vec<_>>().join(" ");
    let list = text
        .split('`')
        .find(|quoted| quoted.starts_with("cli → "))
        .expect("lib.rs states the order: `cli → …`");
    list.split('→').map(|name| name.trim().to_owned()).collect()
}

/// The modules that `line` reaches by `crate::x` or `crate::{x, y}`.
fn reached(line: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in line.match_indices("crate::") {
        if line[..at].ends_with(|char: char| char.is_alphanumeric() || char == '_') {
            continue;
        }
        let rest = &line[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            Some(group) => {
                let mut depth = 0;
                let mut names = vec![String::new()];
                for char in group.chars() {
                    match char {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => names.push(String::new()),
                        _ if depth == 0 => names.last_mut().expect("never empty").push(char),
                        _ => {}
                    }
                }
                found.extend(names.iter().map(|name| first_name(name)));
            }
            None => found.push(first_name(rest)),
        }
    }
    found.retain(|name| !name.is_empty());
    found
}

/// The identifier that `text` begins with.
fn first_name(text: &str) -> String {
    text.trim_start().chars().take_while(|char| char.is_alphanumeric() || *char == '_').collect()
}

/// The module that a file belongs to: `session/refresh.rs` → `session`.
fn module_of(path: &str) -> &str {
    path.split('/').next().unwrap_or(path).trim_end_matches(".rs")
}

/// Joins the lines of a `use` that rustfmt broke, so that `crate::{` and its names stand together.
fn joined(lines: Vec<(usize, String)>) -> Vec<(usize, String)> {
    let mut out: Vec<(usize, String)> = Vec::new();
    let mut open = false;
    for (number, line) in lines {
        match out.last_mut() {
            Some((_, last)) if open => {
                last.push_str(line.trim());
                open = !last.contains(';');
            }
            _ => {
                open = line.trim_start().starts_with("use ") && !line.contains(';')
                    || line.trim_start().starts_with("pub use ") && !line.contains(';');
                out.push((number, line));
            }
        }
    }
    out
}

/// Uses of modules that stand further up.
fn against_the_order(source: &Source, order: &[String]) -> Vec<String> {
    let own = module_of(&source.path);
    let place = |name: &str| order.iter().position(|module| module == name);
    let Some(here) = place(own) else { return Vec::new() };
    let mut faults = Vec::new();
    for (number, line) in joined(code(&source.text)) {
        for name in reached(&line) {
            if place(&name).is_some_and(|there| there < here) {
                faults.push(format!("src/{}:{number}: {own} must not use {name}", source.path));
            }
        }
    }
    faults
}

/// Names of crates outside their home.
fn away_from_home(source: &Source) -> Vec<String> {
    let mut faults = Vec::new();
    for (number, line) in joined(code(&source.text)) {
        for (name, homes) in HOMES {
            if names(&line, name) && !homes.iter().any(|home| source.path.starts_with(home)) {
                faults.push(format!("src/{}:{number}: {name} belongs in {}", source.path, homes.join(", ")));
            }
        }
    }
    faults
}

/// Whether `line` names the crate or module: as `name::`, `use name`, or within `use std::{…}`.
fn names(line: &str, name: &str) -> bool {
    let whole = |text: &str| {
        text.match_indices(name).any(|(at, _)| {
            let before = text[..at].chars().next_back();
            let after = &text[at + name.len()..];
            let free = before.is_none_or(|char| !(char.is_alphanumeric() || matches!(char, '_' | ':' | '.')));
            free && (after.starts_with("::") || (text.trim_start().starts_with("use ") && !begins_word(after)))
        })
    };
    let grouped = name.strip_prefix("std::").is_some_and(|inner| {
        line.find("std::{").is_some_and(|at| {
            line[at + 6..]
                .split([',', '{', '}', ' '])
                .any(|part| part == inner || part.starts_with(&format!("{inner}::")))
        })
    });
    whole(line) || grouped
}

/// Whether an identifier goes on here.
fn begins_word(text: &str) -> bool {
    text.starts_with(|char: char| char.is_alphanumeric() || char == '_')
}

/// What every file must keep: its size, and its first line.
fn shape(folder: &str, source: &Source) -> Vec<String> {
    let mut faults = Vec::new();
    let lines = source.text.lines().count();
    if lines > MAX_LINES {
        faults.push(format!("{folder}/{}: {lines} lines, more than {MAX_LINES}", source.path));
    }
    if !source.text.starts_with("//!") {
        faults.push(format!("{folder}/{}:1: says not why it exists (`//!`)", source.path));
    }
    faults
}

/// Shape, and that nobody but `cli` knows the demo.
fn house_rules(source: &Source) -> Vec<String> {
    let mut faults = shape("src", source);
    let may_know_demo = ["demo", "cli", "lib.rs", "main.rs"].iter().any(|home| source.path.starts_with(home));
    if !may_know_demo {
        let naming = code(&source.text).into_iter().filter(|(_, line)| words(line).any(|word| word == "demo"));
        faults.extend(naming.map(|(number, _)| format!("src/{}:{number}: only cli may know the demo", source.path)));
    }
    faults
}

/// The identifiers of a line.
fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|char: char| !(char.is_alphanumeric() || char == '_'))
}

/// All Rust files below a folder of the project.
fn sources(folder: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let relative = path.strip_prefix(&root).unwrap().to_str().unwrap().replace('\\', "/");
                found.push(Source { path: relative, text: fs::read_to_string(&path).unwrap() });
            }
        }
    }
    found
}

fn source(path: &str, text: &str) -> Source {
    Source { path: path.to_owned(), text: text.to_owned() }
}

#[test]
fn every_file_keeps_to_the_order_its_size_and_its_crates() {
    let sources = sources("src");
    let lib = sources.iter().find(|source| source.path == "lib.rs").unwrap();
    let order = order(&lib.text);
    let declared = code(&lib.text);
    let declared = declared.iter().filter_map(|(_, line)| line.strip_prefix("pub mod ")?.strip_suffix(';'));
    assert_eq!(declared.collect::<Vec<_>>(), order, "lib.rs declares its modules in another order than it states");
    let faults: Vec<String> = sources
        .iter()
        .flat_map(|source| [against_the_order(source, &order), away_from_home(source), house_rules(source)])
        .flatten()
        .collect();
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn every_file_of_the_tests_keeps_its_size() {
    let sources = sources("tests");
    assert!(sources.iter().any(|source| source.path == "it/architecture.rs"), "the scan finds its own file");
    let faults: Vec<String> = sources.iter().flat_map(|source| shape("tests", source)).collect();
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn the_scanner_sees_a_use_against_the_order() {
    let order = order("//! `cli → server →\n//! mode → session → web`: so.\n");
    let fault = |path: &str, text: &str| against_the_order(&source(path, text), &order);
    assert_eq!(
        fault("session/refresh.rs", "//! x\nuse crate::mode;\n"),
        ["src/session/refresh.rs:2: session must not use mode"]
    );
    assert_eq!(fault("session/mod.rs", "use crate::{\n    web,\n    server::{Edge, mode},\n};\n").len(), 1);
    assert_eq!(fault("web/mod.rs", "fn f() { crate::cli::run() }\n").len(), 1);
    assert_eq!(fault("web/mod.rs", "let x = \"a\"; crate::cli::run(\"b\")\n").len(), 1);
    assert_eq!(
        fault("web/mod.rs", "// see crate::cli\nlet x = \"crate::cli\"; let y = r#\"\"crate::cli\"#;\n").len(),
        0
    );
    assert_eq!(fault("mode/mod.rs", "use crate::{session, web};\nuse crate::mode::x;\nuse my_crate::cli;\n").len(), 0);
}

#[test]
fn the_scanner_sees_a_crate_away_from_home() {
    let fault = |path: &str, text: &str| away_from_home(&source(path, text)).len();
    assert_eq!(fault("web/mod.rs", "use openidconnect::Nonce;\n"), 1);
    assert_eq!(fault("web/mod.rs", "use std::{env, fmt};\n"), 1);
    assert_eq!(fault("web/mod.rs", "use std::{\n    fmt,\n    fs::File,\n};\n"), 1);
    assert_eq!(fault("web/mod.rs", "let x = std::fs::read(p);\n"), 1);
    assert_eq!(fault("mode/mod.rs", "let x = toml::from_str(p);\n"), 1);
    assert_eq!(fault("provider/mod.rs", "use openidconnect::Nonce;\nlet toml = self.toml; my_toml::x();\n"), 0);
    assert_eq!(fault("web/mod.rs", "/// See openidconnect::Nonce.\nuse tokio::fs;\nuse std::fmt;\n"), 0);
}

#[test]
fn the_scanner_sees_what_breaks_a_house_rule() {
    let fault = |path: &str, text: &str| house_rules(&source(path, text)).len();
    assert_eq!(fault("web/mod.rs", "use std::fmt;\n"), 1);
    assert_eq!(fault("web/mod.rs", "//! x\nuse crate::demo::provider;\n"), 1);
    assert_eq!(fault("web/mod.rs", &format!("//! x\n{}", "\n".repeat(400))), 1);
    assert_eq!(fault("cli.rs", "//! x\nuse crate::demo;\n"), 0);
    assert_eq!(fault("web/mod.rs", "//! Not the demo.\n"), 0);
}
