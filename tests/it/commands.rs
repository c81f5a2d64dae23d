//! The small commands: `healthcheck`, `schema`, `completions` and `man`.

use std::fs;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::world::{World, port};

const METRICS: &str = "127.0.0.2:0";

/// Exit code, and both outputs one after the other.
fn run(arguments: &[&str]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_vestibule")).args(arguments).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(text).unwrap())
}

/// `healthcheck` for a file with this text.
fn healthcheck(folder: &Path, text: &str, more: &[&str]) -> (i32, String) {
    let file = folder.join("healthcheck.toml");
    fs::write(&file, text).unwrap();
    run(&[&["healthcheck", "--config", file.to_str().unwrap()], more].concat())
}

/// Answers one request, and gives the head of it.
fn answer_once(mut stream: impl Read + Write, answer: &str) -> String {
    let mut head = String::new();
    let mut reader = BufReader::new(&mut stream);
    while reader.read_line(&mut head).unwrap() > 2 {}
    stream.write_all(answer.as_bytes()).unwrap();
    head
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_is_asked_how_it_is_also_when_an_edit_has_broken_its_file() {
    let world = World::start().await;
    let address = world.bound(METRICS).await;
    let whole = fs::read_to_string(world.dir().join("vestibule.toml"))
        .unwrap()
        .replace(METRICS, &address.to_string());
    let asked = |text: &str, more: &[&str]| tokio::task::block_in_place(|| healthcheck(world.dir(), text, more));
    let (code, said) = asked(&whole, &[]);
    assert_eq!(code, 0, "{said}");
    assert!(said.starts_with("ready\n") && said.contains("store memory: up"), "{said}");
    assert_eq!(asked(&whole, &["--live"]), (0, "alive\n".to_owned()));
    // What serves is what was read before, so the container must not be ended for an edit.
    for broken in
        [whole.replace("auth-code", "auth-cod"), format!("{whole}\n[routes.web]\n"), format!("{whole}\nx = \n")]
    {
        let (code, said) = asked(&broken, &[]);
        assert_eq!(code, 0, "{broken}: {said}");
    }
    let off = whole.replace(&format!("\"{address}\""), "\"off\"");
    let (code, said) = asked(&off, &[]);
    assert!(code == 1 && said.contains("is \"off\""), "{said}");
    let free = port::free();
    let (code, said) = asked(&whole.replace(&address.to_string(), &free.to_string()), &[]);
    assert!(code == 1 && said.contains(&format!("nobody answers at {free}")), "{said}");
    world.finish().await;
}

#[test]
fn a_process_that_is_not_ready_is_not_well() {
    let folder = tempfile::tempdir().unwrap();
    let everywhere = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = everywhere.local_addr().unwrap().port();
    let asked = std::thread::spawn(move || {
        answer_once(everywhere.accept().unwrap().0, "HTTP/1.1 503 Service Unavailable\r\n\r\nnot ready\n")
    });
    let text = format!("[server]\nmetrics_listen = \"0.0.0.0:{port}\"\n");
    let (code, said) = healthcheck(folder.path(), &text, &[]);
    assert!(code == 1 && said.contains("answers 503: not ready"), "{said}");
    let head = asked.join().unwrap();
    assert!(
        head.starts_with("GET /readyz?verbose HTTP/1.1\r\n") && head.contains(&format!("Host: 127.0.0.1:{port}\r\n"))
    );

    let path = folder.path().join("metrics.sock");
    let socket = UnixListener::bind(&path).unwrap();
    let asked = std::thread::spawn(move || answer_once(socket.accept().unwrap().0, "HTTP/1.1 200 OK\r\n\r\nready\n"));
    let text = format!("[server]\nmetrics_listen = \"unix:{}\"\n", path.display());
    assert_eq!(healthcheck(folder.path(), &text, &[]), (0, "ready\n".to_owned()));
    asked.join().unwrap();

    let stranger = TcpListener::bind("127.0.0.1:0").unwrap();
    let text = format!("[server]\nmetrics_listen = \"{}\"\n", stranger.local_addr().unwrap());
    std::thread::spawn(move || answer_once(stranger.accept().unwrap().0, "220 mail.example.com ESMTP\r\n\r\n"));
    let (code, said) = healthcheck(folder.path(), &text, &[]);
    assert!(code == 1 && said.contains("does not speak HTTP"), "{said}");
}

#[test]
fn the_schema_is_the_one_that_is_shipped() {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/vestibule.schema.json");
    assert_eq!(run(&["schema"]), (0, fs::read_to_string(shipped).unwrap()));
}

/// The commands, as the help has them.
fn commands() -> Vec<String> {
    let (code, help) = run(&["--help"]);
    assert_eq!(code, 0);
    let list = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let names: Vec<String> = list.lines().map(|line| line.split_whitespace().next().unwrap().to_owned()).collect();
    for known in ["run", "check", "diff", "explain", "init", "caddyfile", "keygen", "healthcheck", "schema", "man"] {
        assert!(names.iter().any(|name| name == known), "{known} is not in {names:?}");
    }
    names
}

#[test]
fn shells_learn_of_every_command() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let (code, script) = run(&["completions", shell]);
        assert_eq!(code, 0);
        for command in commands() {
            assert!(script.contains(&command), "{shell} does not know {command}");
        }
        assert!(script.contains("--bearer") || script.contains("bearer"), "{shell} does not know the options");
    }
    let (_, script) = run(&["completions", "bash"]);
    let mut bash = Command::new("bash").arg("-n").stdin(Stdio::piped()).spawn().unwrap();
    bash.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    assert!(bash.wait().unwrap().success(), "bash cannot read it");
    assert_eq!(run(&["completions", "no-shell"]).0, 2);
}

#[test]
fn man_has_a_page_of_every_command() {
    let (code, page) = run(&["man"]);
    assert_eq!(code, 0);
    assert!(page.contains(".TH vestibule 1"), "{page}");
    let folder = tempfile::tempdir().unwrap();
    let (code, said) = run(&["man", "--folder", folder.path().to_str().unwrap()]);
    assert_eq!(code, 0, "{said}");
    for command in commands().iter().filter(|command| *command != "help") {
        let page = fs::read_to_string(folder.path().join(format!("vestibule-{command}.1"))).unwrap();
        assert!(page.contains(".SH SYNOPSIS"), "{command}: {page}");
    }
    let (code, said) = run(&["man", "--folder", folder.path().join("nowhere").to_str().unwrap()]);
    assert!(code == 1 && said.contains("cannot write to"), "{said}");
}
