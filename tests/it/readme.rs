//! What the README promises by name is there by that name.

use vestibule::error::Reason;

const README: &str = include_str!("../../README.md");

#[test]
fn the_readme_explains_every_reason_with_its_status() {
    for reason in Reason::ALL {
        let code = format!("`{}`", reason.code());
        let row = README.lines().find(|line| line.starts_with('|') && line.contains(&code));
        let row = row.unwrap_or_else(|| panic!("{code} is not in the README's table"));
        assert!(row.starts_with(&format!("| {} |", reason.status().as_u16())), "another status in: {row}");
    }
}

#[test]
fn the_readme_has_no_reason_of_its_own() {
    let table = README.split_once("| status | code |").unwrap().1.split_once("\n\n").unwrap().0;
    for code in table.lines().filter_map(|line| line.split('|').nth(2)).flat_map(|cell| cell.split(',')) {
        let code = code.trim().trim_matches('`');
        let known =
            code.starts_with("---") || code.is_empty() || Reason::ALL.iter().any(|reason| reason.code() == code);
        assert!(known, "the README explains {code}, which does not exist");
    }
}

/// The lines of the README's code blocks of a kind, in their order; a line that goes on in the next is one.
fn code(kind: &str) -> Vec<String> {
    let fence = format!("```{kind}\n");
    let blocks = README.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap());
    blocks
        .flat_map(|block| block.replace("\\\n", " ").lines().map(str::to_owned).collect::<Vec<_>>())
        .collect()
}

#[test]
fn the_first_command_starts_the_demo() {
    assert_eq!(code("sh")[0], "cargo run --features demo -- demo");
}

#[test]
fn a_newcomer_who_follows_the_readme_gets_what_it_shows() {
    let folder = tempfile::tempdir().unwrap();
    let run = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().skip(1).collect();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_vestibule"));
        command.args(words).current_dir(folder.path()).env_remove("VESTIBULE_CONFIG").output().unwrap()
    };
    let commands = code("sh");
    let init = commands.iter().find(|line| line.starts_with("vestibule init ")).unwrap();
    let told = run(init);
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    let told = String::from_utf8(told.stdout).unwrap();
    for uri in ["`https://app.example.com/login/end`", "`https://app.example.com/logout/end`"] {
        assert!(README.contains(uri) && told.contains(uri.trim_matches('`')), "{told}");
    }

    let written = std::fs::read_to_string(folder.path().join("vestibule.toml")).unwrap();
    let plain = |line: &&str| !line.starts_with('#') && !line.is_empty();
    let written: Vec<&str> = written.lines().filter(plain).collect();
    let shown = README.split_once("```toml\n").unwrap().1.split("```").next().unwrap();
    assert_eq!(shown.lines().filter(plain).collect::<Vec<_>>(), written);

    std::fs::write(folder.path().join("web.secret"), "the secret that the provider gave\n").unwrap();
    assert!(commands.iter().any(|line| line == "vestibule check"));
    let checked = run("vestibule check");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}
