//! The dashboard and the alert rules that ship: Prometheus takes them, they fire when they should, and what they say of the
//! README, the log and reason codes is so. That they name what is exported is shown beside the metrics.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use vestibule::error::Reason;
use vestibule::session::EndKind;

const ALERTS: &str = include_str!("../../config/alerts.yml");
const STORIES: &str = include_str!("../fixtures/alerts.test.yml");
const DASHBOARD: &str = include_str!("../../config/grafana-dashboard.json");
const README: &str = include_str!("../../README.md");

/// Every promtool at hand: the one that the environment names, the one beside the build, and that of this machine.
/// `tests/run` brings one.
fn promtools() -> Vec<PathBuf> {
    let named = std::env::var_os("PROMTOOL_BIN").map(PathBuf::from);
    let tools = Path::new(env!("CARGO_BIN_EXE_vestibule")).ancestors().nth(2).unwrap().join("tools");
    let all = named.into_iter().chain([tools.join("promtool"), PathBuf::from("promtool")]);
    let works =
        |path: &PathBuf| Command::new(path).arg("--version").output().is_ok_and(|output| output.status.success());
    all.filter(works).collect()
}

/// Asserts that every promtool is content.
#[track_caller]
fn content(arguments: &[&str], path: &Path) {
    for promtool in promtools() {
        let output = Command::new(&promtool).args(arguments).arg(path).output().unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{}:\n{said}", promtool.display());
    }
}

/// The name of each rule, and its text.
fn rules() -> Vec<(&'static str, &'static str)> {
    ALERTS.split("- alert: ").skip(1).map(|rule| rule.split_once('\n').unwrap()).collect()
}

/// All of `src`, where log lines are written.
fn source(folder: &Path) -> String {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let text = |path: PathBuf| if path.is_dir() { source(&path) } else { fs::read_to_string(path).unwrap() };
    entries.map(text).collect()
}

#[test]
fn prometheus_takes_the_rules_and_each_fires_when_it_should() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    content(&["check", "rules"], &root.join("config/alerts.yml"));
    content(&["test", "rules"], &root.join("tests/fixtures/alerts.test.yml"));
    let names: BTreeSet<&str> = rules().iter().map(|(name, _)| *name).collect();
    assert_eq!(names.len(), rules().len(), "a name is there twice");
    for name in names {
        assert!(STORIES.contains(&format!("alertname=\"{name}\"")), "no story lets {name} fire");
    }
}

#[test]
fn every_rule_says_how_bad_it_is_and_what_to_do() {
    let source = source(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    for (name, rule) in rules() {
        assert!(name.starts_with("Vestibule") && rule.contains("\n        for: "), "{name}");
        assert!(["critical", "warning"].iter().any(|word| rule.contains(&format!("severity: {word}\n"))), "{name}");
        let (_, texts) = rule.split_once("summary: ").unwrap();
        let (_, description) = texts.split_once("description: >-").unwrap();
        let description = description.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(description.len() > 80, "{name}: {description}");
        for section in description.split("(README, \"").skip(1) {
            let heading = section.split_once('"').unwrap().0;
            assert!(README.contains(&format!("\n### {heading}\n")), "{name}: the README has no part {heading}");
        }
        for line in description.split("log line `").skip(1) {
            let line = line.split_once('`').unwrap().0;
            assert!(source.contains(&format!("\"{line}")), "{name}: nothing logs {line}");
        }
    }
}

#[test]
fn reasons_and_kinds_in_rules_exist() {
    let reasons: Vec<&str> = Reason::ALL.iter().map(|reason| reason.code()).collect();
    let values = |label: &str| {
        let matchers = ALERTS
            .split(&format!("{label}=\""))
            .chain(ALERTS.split(&format!("{label}!~\"")))
            .collect::<Vec<_>>();
        let values = matchers.iter().filter_map(|rest| rest.split_once('"')).map(|(values, _)| values.to_owned());
        values.filter(|values| !values.contains(['\n', ' '])).collect::<Vec<String>>()
    };
    let named = values("reason");
    assert!(named.len() >= 4, "{named:?}");
    for reason in named.iter().flat_map(|values| values.split('|')) {
        assert!(reasons.contains(&reason), "there is no reason {reason}");
    }
    let failed = values("vestibule_logins_total{result");
    let failed: Vec<&str> = failed.iter().flat_map(|values| values.split('|')).collect();
    assert_eq!(failed, ["success", "access_denied", "login_required"]);
    assert!(failed[1..].iter().all(|reason| reasons.contains(reason)));
    assert!(values("kind").iter().all(|kind| kind == EndKind::Evicted.label()), "{:?}", values("kind"));
}

#[test]
fn grafana_finds_on_the_dashboard_what_it_needs() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    assert!(dashboard["schemaVersion"].as_u64().unwrap() >= 39 && dashboard["id"].is_null());
    let variables: Vec<&str> = dashboard["templating"]["list"]
        .as_array()
        .unwrap()
        .iter()
        .map(|variable| variable["name"].as_str().unwrap())
        .collect();
    assert_eq!(variables, ["datasource", "job", "instance", "route", "provider"]);
    let panels = dashboard["panels"].as_array().unwrap();
    let rows: Vec<&str> = panels
        .iter()
        .filter(|panel| panel["type"] == "row")
        .map(|row| row["title"].as_str().unwrap())
        .collect();
    for wanted in
        ["Traffic", "Logins", "Sessions and store", "Refreshes", "Providers and keys", "Upstreams and streams"]
    {
        assert!(rows.contains(&wanted), "{rows:?}");
    }
    let (mut ids, mut cells) = (BTreeSet::new(), BTreeSet::new());
    for panel in panels {
        let title = panel["title"].as_str().unwrap();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}: its id is taken");
        let side = |name: &str| panel["gridPos"][name].as_u64().unwrap();
        assert!(side("x") + side("w") <= 24, "{title} is too wide");
        for (x, y) in (0..side("w")).flat_map(|x| (0..side("h")).map(move |y| (x, y))) {
            assert!(cells.insert((side("x") + x, side("y") + y)), "{title} lies on another");
        }
        if panel["type"] == "row" {
            continue;
        }
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{title} has no unit");
        let targets = panel["targets"].as_array().unwrap();
        for target in targets {
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{title}");
            assert!(!target["legendFormat"].as_str().unwrap().is_empty(), "{title}");
        }
    }
}

/// Grafana asks Prometheus, which must understand.
#[test]
fn prometheus_understands_every_query_of_the_dashboard() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let targets = dashboard["panels"].as_array().unwrap().iter().flat_map(|panel| panel["targets"].as_array());
    let mut file = "groups:\n  - name: dashboard\n    rules:\n".to_owned();
    let mut count = 0;
    for target in targets.flatten() {
        let mut query = target["expr"].as_str().unwrap().replace("$__rate_interval", "5m");
        for variable in ["$job", "$instance", "$route", "$provider"] {
            query = query.replace(variable, ".*");
        }
        assert!(!query.contains('$'), "an unknown variable: {query}");
        count += 1;
        file.push_str(&format!("      - record: panel:{count}\n        expr: {}\n", Value::from(query)));
    }
    assert!(count > 40, "{count}");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dashboard.yml");
    fs::write(&path, file).unwrap();
    content(&["check", "rules"], &path);
}
