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
