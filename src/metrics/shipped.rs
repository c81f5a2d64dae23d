//! The dashboard and the alert rules that ship name what we export, by its names and labels, and leave nothing out.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::tests::touch_all;
use super::{Metrics, families};

const DASHBOARD: &str = include_str!("../../config/grafana-dashboard.json");
const ALERTS: &str = include_str!("../../config/alerts.yml");

/// Families that no panel shows, each with the reason.
const NOT_SHOWN: &[(&str, &str)] = &[];

/// What the scraper adds to every series.
const SCRAPED: [&str; 2] = ["job", "instance"];

/// Every family that is exported, with its labels.
fn exported() -> BTreeMap<String, BTreeSet<String>> {
    let metrics = Metrics::new();
    touch_all(&metrics);
    let mut known: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in metrics.render().lines().filter(|line| !line.starts_with('#')) {
        let (series, _) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let labels = labels.trim_end_matches('}').split("\",").filter_map(|pair| pair.split_once('='));
        known.entry(name.to_owned()).or_default().extend(labels.map(|(label, _)| label.to_owned()));
    }
    known
}

/// What a query names: each metric with the labels that are asked of it, and the labels it groups by.
#[derive(Debug, Default, PartialEq, Eq)]
struct Query {
    metrics: Vec<(String, BTreeSet<String>)>,
    grouped: Option<BTreeSet<String>>,
}

fn is_word(char: char) -> bool {
    char.is_ascii_alphanumeric() || char == '_'
}

fn words(text: &str) -> BTreeSet<String> {
    text.split(',').map(|word| word.trim().to_owned()).filter(|word| !word.is_empty()).collect()
}

impl Query {
    fn read(text: &str) -> Self {
        let mut query = Self::default();
        let mut rest = text;
        while let Some(start) = rest.find(is_word) {
            let (_, from) = rest.split_at(start);
            let (word, after) = from.split_at(from.find(|char| !is_word(char)).unwrap_or(from.len()));
            rest = after;
            if word.starts_with("vestibule_") || word.starts_with("process_") {
                let (asked, after) = match after.strip_prefix('{').and_then(|matchers| matchers.split_once('}')) {
                    Some((matchers, after)) => (matchers, after),
                    None => ("", after),
                };
                // Values have commas only between quotes, and none of ours has one.
                let labels = asked.split(',').filter_map(|matcher| matcher.split_once(['=', '!']));
                let labels = labels.map(|(label, _)| label.trim().to_owned()).collect();
                query.metrics.push((word.to_owned(), labels));
                rest = after;
            } else if matches!(word, "by" | "on" | "group_left") {
                let (list, after) = after.trim_start().strip_prefix('(').and_then(|list| list.split_once(')')).unwrap();
                query.grouped.get_or_insert_default().extend(words(list));
                rest = after;
            } else if let Some(after) = after.strip_prefix('"') {
                // A quoted text is no word of the language.
                rest = after.split_once('"').map_or("", |(_, after)| after);
            }
        }
        query
    }

    /// Asserts that what it names is exported; `shown` are the labels that a legend or a text takes from its result.
    fn stands(&self, known: &BTreeMap<String, BTreeSet<String>>, shown: &BTreeSet<String>, place: &str) {
        let mut all: BTreeSet<String> = SCRAPED.map(str::to_owned).into();
        for (name, asked) in &self.metrics {
            let labels = known.get(name).unwrap_or_else(|| panic!("{place}: there is no metric {name}"));
            for label in asked {
                assert!(
                    labels.contains(label) || SCRAPED.contains(&label.as_str()),
                    "{place}: {name} has no label {label}"
                );
            }
            all.extend(labels.iter().cloned());
        }
        let grouped = self.grouped.clone().unwrap_or_default();
        assert!(grouped.is_subset(&all), "{place}: it groups by what is not there: {grouped:?}");
        let left = self.grouped.clone().unwrap_or(all);
        let left: BTreeSet<String> = left.into_iter().filter(|label| label != "le").collect();
        assert!(shown.is_subset(&left), "{place}: it shows what it does not have: {shown:?} of {left:?}");
    }
}

/// The labels in `{{ … }}` and `{{ $labels.… }}`.
fn shown(text: &str) -> BTreeSet<String> {
    let inner = text.split("{{").skip(1).filter_map(|rest| rest.split_once("}}")).map(|(inner, _)| inner.trim());
    let labels = inner.filter(|inner| !inner.starts_with("$value"));
    labels.map(|label| label.trim_start_matches("$labels.").to_owned()).collect()
}

/// Every query of the dashboard, with its panel and legend.
fn panels() -> Vec<(String, String, String)> {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mut queries = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            queries.push((text(&panel["title"]), text(&target["expr"]), text(&target["legendFormat"])));
        }
    }
    for annotation in
        dashboard["annotations"]["list"].as_array().unwrap().iter().filter(|one| one.get("expr").is_some())
    {
        queries.push((text(&annotation["name"]), text(&annotation["expr"]), text(&annotation["textFormat"])));
    }
    for variable in dashboard["templating"]["list"].as_array().unwrap().iter().filter(|one| one["type"] == "query") {
        let (metric, label) = variable["definition"].as_str().unwrap().rsplit_once(", ").unwrap();
        let label = format!("{{{{{}}}}}", label.trim_end_matches(')'));
        queries.push((text(&variable["name"]), metric.trim_start_matches("label_values(").to_owned(), label));
    }
    queries
}

#[test]
fn a_query_is_read_as_prometheus_reads_it() {
    let query = Query::read(
        "sum by (job, le) (rate(vestibule_a_bucket{route=~\"a|b\",code!=\"by (x)\"}[5m])) / on (job) vestibule_b > 0.1",
    );
    let metrics = [("vestibule_a_bucket", "route,code"), ("vestibule_b", "")];
    assert_eq!(query.metrics, metrics.map(|(name, labels)| (name.to_owned(), words(labels))));
    assert_eq!(query.grouped, Some(words("job,le")));
    assert_eq!(shown("{{ $labels.route }} {{$value}} {{code}}"), words("route,code"));
}

#[test]
fn every_query_of_the_dashboard_names_what_is_exported() {
    let (known, queries) = (exported(), panels());
    assert!(queries.len() > 40, "{}", queries.len());
    for (title, expression, legend) in &queries {
        let query = Query::read(expression);
        assert!(!query.metrics.is_empty(), "{title}: {expression}");
        query.stands(&known, &shown(legend), title);
    }
}

#[test]
fn every_family_is_on_the_dashboard() {
    let shown: BTreeSet<String> = panels()
        .iter()
        .flat_map(|(_, expression, _)| Query::read(expression).metrics)
        .map(|(name, _)| name)
        .collect();
    for name in families::NAMES {
        let there = ["", "_bucket", "_count", "_sum"].iter().any(|end| shown.contains(&format!("{name}{end}")));
        let left_out = NOT_SHOWN.iter().any(|(left_out, _)| left_out == name);
        assert!(there != left_out, "{name} is to be on the dashboard, or among NOT_SHOWN with the reason");
    }
}

#[test]
fn every_alert_rule_names_what_is_exported() {
    let known = exported();
    let rules: Vec<&str> = ALERTS.split("- alert: ").skip(1).collect();
    assert!(rules.len() > 15, "{}", rules.len());
    for rule in rules {
        let (name, rest) = rule.split_once('\n').unwrap();
        let (expression, rest) = rest.split_once("expr:").unwrap().1.split_once("        for:").unwrap();
        let query = Query::read(expression);
        // What Prometheus itself says of a scrape.
        assert!(!query.metrics.is_empty() || expression.contains("up{"), "{name}: {expression}");
        query.stands(&known, &shown(rest), name);
        // Metrics that its texts send people to.
        for metric in rest.split('`').skip(1).step_by(2).filter(|word| word.starts_with("vestibule_")) {
            assert!(known.contains_key(metric), "{name}: there is no metric {metric}");
        }
    }
}
