//! `vestibule explain`: what would become of a request, and why.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Read as _};
use std::process::ExitCode;

use clap::Args;
use http::header::{AUTHORIZATION, HOST, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, Request, Uri, request};
use jiff::SignedDuration;
use serde_json::{Map, Value, json};

use crate::cli::{ConfigArgs, complain, say};
use crate::config::{self, Mode, PathRule, Severity};
use crate::mode::Place;
use crate::server::{Explained, Outcome, explain as explained};

/// clap's code for a command line that is wrong.
const MISUSED: u8 = 2;

/// Judges the request as the running process does, by the same code, and hands it on to nobody. Sessions are known to the
/// running process alone, so a browser's request is judged as that of somebody who is not logged in, or who is logged in
/// with the claims that you give. A bearer is verified: the provider is asked for its keys.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
                        vestibule explain GET https://app.example.com/api/things -H 'Accept: text/html'\n  \
                        vestibule explain GET https://app.example.com/wiki/ --claims '{\"groups\": [\"staff\"]}'\n  \
                        vestibule explain GET https://app.example.com/api/things --bearer < token\n\n\
                        Exit code: 0 when the request was explained, 1 when the configuration is broken, 2 when this \
                        command was.")]
pub(super) struct ExplainArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The method of the request
    #[arg(value_name = "METHOD")]
    method: String,
    /// Its URL, as the client asks for it
    #[arg(value_name = "URL")]
    url: String,
    /// One of its headers, as `curl` takes them; more of them may follow
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// It brings this bearer token; without a value it is read from standard input, and no process list shows it
    #[arg(long, value_name = "TOKEN", num_args = 0..=1, require_equals = true, default_missing_value = "-")]
    bearer: Option<String>,
    /// It comes from somebody who is logged in with these claims, a JSON object
    #[arg(long, value_name = "JSON")]
    claims: Option<String>,
    /// Answer as JSON: {"listeners": [{"listen", "route", "mode", "endpoint" or "rule", "upstream", "status", "code", ...}]}
    #[arg(long)]
    json: bool,
}

/// Reads the configuration as `run` does, and explains; nothing is bound or written.
pub(super) fn explain(args: &ExplainArgs) -> ExitCode {
    let (head, claims) = match head(args).and_then(|head| Ok((head, claims(args)?))) {
        Ok(request) => request,
        Err(why) => {
            complain(&format!("error: {why}"));
            return ExitCode::from(MISUSED);
        }
    };
    let loaded = match config::load(&args.config.path(), &config::System) {
        Ok(loaded) => loaded,
        Err(report) => {
            complain(&report.render(Severity::Error, std::io::stderr().is_terminal()));
            return ExitCode::FAILURE;
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let all = runtime.map_err(|error| error.to_string()).and_then(|runtime| {
        let all = runtime.block_on(explained(loaded.config, &head, claims.as_ref()));
        // A provider that is still being asked is waited for no more.
        runtime.shutdown_background();
        all
    });
    match all {
        Ok(all) => {
            say(&if args.json { as_json(&all).to_string() } else { in_words(args, &all) });
            ExitCode::SUCCESS
        }
        Err(why) => {
            complain(&format!("error: {why}"));
            ExitCode::FAILURE
        }
    }
}

/// The request as it would come from Caddy. Its path stays as it was written: how it is spelt is what may matter.
fn head(args: &ExplainArgs) -> Result<request::Parts, String> {
    let method = Method::from_bytes(args.method.as_bytes()).map_err(|_| format!("{:?} is no method", args.method))?;
    let wrong = || format!("{:?} is no URL such as https://app.example.com/path", args.url);
    let url: Uri = args.url.parse().map_err(|_| wrong())?;
    let host = url.authority().filter(|_| matches!(url.scheme_str(), Some("http" | "https"))).ok_or_else(wrong)?;
    let target = url.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
    let mut head = Request::new(()).into_parts().0;
    head.method = method;
    head.uri = Uri::from(target);
    head.headers.insert(HOST, HeaderValue::from_str(host.as_str()).map_err(|_| wrong())?);
    for header in &args.headers {
        let wrong = || format!("{header:?} is no header such as 'Accept: text/html'");
        let (name, value) = header.split_once(':').ok_or_else(wrong)?;
        let name = HeaderName::from_bytes(name.trim().as_bytes()).map_err(|_| wrong())?;
        let value = HeaderValue::from_str(value.trim()).map_err(|_| wrong())?;
        if name == HOST {
            head.headers.remove(HOST);
        }
        head.headers.append(name, value);
    }
    if let Some(token) = &args.bearer {
        let token = if token == "-" { read_token()? } else { token.clone() };
        let value = HeaderValue::from_str(&format!("Bearer {token}"));
        head.headers
            .append(AUTHORIZATION, value.map_err(|_| "the bearer cannot stand in a header".to_owned())?);
    }
    Ok(head)
}

fn claims(args: &ExplainArgs) -> Result<Option<Map<String, Value>>, String> {
    let Some(text) = &args.claims else { return Ok(None) };
    let claims = serde_json::from_str(text);
    claims.map(Some).map_err(|error| format!("the claims are no JSON object: {error}"))
}

fn read_token() -> Result<String, String> {
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .map_err(|error| format!("cannot read standard input: {error}"))?;
    Ok(text.trim().to_owned())
}

fn in_words(args: &ExplainArgs, all: &[Explained]) -> String {
    let mut text = format!("{} {}\n", args.method, args.url);
    for explained in all {
        let _ = write!(text, "\nListener {}", explained.listen);
        let mode = explained.route.as_ref().map(|route| &route.mode);
        text.push_str(match mode {
            Some(Mode::AuthCode(_)) if all.len() > 1 => ", to which Caddy leads browsers\n",
            Some(Mode::Device(_) | Mode::Verify(_)) if all.len() > 1 => {
                ", to which Caddy leads programs, and whoever brings a bearer\n"
            }
            _ => "\n",
        });
        let mut line = |name: &str, what: &str| {
            let _ = writeln!(text, "  {name:<10}{what}");
        };
        match &explained.route {
            Some(route) => line("route", &format!("{}, mode {}", route.name, route.mode.name())),
            None => line("route", "none"),
        }
        match (explained.place, explained.rule()) {
            (Some(Place::Endpoint(endpoint)), _) => line("endpoint", endpoint.label()),
            (_, Some(rule)) => {
                line("rule", &leads(rule));
                demands(rule).iter().for_each(|demand| line("", demand));
            }
            (_, None) => {}
        }
        match &explained.verdict {
            Some(verdict) => told(&mut line, "verdict", verdict),
            None => told(&mut line, "answer", &explained.outcome),
        }
        if args.claims.is_none() && explained.asks_for_session() {
            line("", "(for somebody who is not logged in; for others, say who: --claims)");
        }
    }
    text
}

fn told(line: &mut impl FnMut(&str, &str), name: &str, outcome: &Outcome) {
    match outcome {
        Outcome::HandedOn => line(name, "it goes to the upstream"),
        Outcome::Allowed(headers) => {
            line(name, "204: Caddy may let it pass");
            for (header, value) in headers {
                let value = if header.as_str().ends_with("authorization") { "(the bearer)" } else { printable(value) };
                line("", &format!("{header}: {value}"));
            }
        }
        Outcome::Answered(status, to) => {
            line(name, status.as_str());
            to.iter().for_each(|to| line("location", without_query(printable(to))));
        }
        Outcome::Untried(why) => line(name, &format!("not tried: {why}")),
        Outcome::Refused(status, refusal) => {
            line(name, &format!("{} {}", status.as_u16(), refusal.reason.code()));
            line("meaning", refusal.reason.meaning());
            refusal.detail.iter().for_each(|detail| line("why", detail));
            if let Some((header, value)) = outcome.challenge() {
                line("", &format!("{header}: {}", printable(value)));
            }
        }
    }
}

/// Where a rule leads.
fn leads(rule: &PathRule) -> String {
    match &rule.upstream {
        Some(upstream) => format!("{} leads to {}", rule.prefix, upstream.target),
        None => format!("{} has no upstream: Caddy asks for a verdict, and leads to the app itself", rule.prefix),
    }
}

/// What a rule asks of those who come.
fn demands(rule: &PathRule) -> Vec<String> {
    let list = |values: Vec<&str>| values.join(", ");
    let mut demands = Vec::new();
    if let Some(methods) = &rule.methods {
        demands.push(format!("methods: {}", list(methods.iter().map(Method::as_str).collect())));
    }
    if let Some(header) = &rule.csrf_header {
        demands.push(format!("header: {header}"));
    }
    if !rule.allowed_groups.is_empty() {
        demands.push(format!("one of the groups: {}", list(rule.allowed_groups.iter().map(String::as_str).collect())));
    }
    if !rule.allowed_email_domains.is_empty() {
        let domains = rule.allowed_email_domains.iter().map(String::as_str).collect();
        demands.push(format!("a verified e-mail address at: {}", list(domains)));
    }
    for (claim, values) in &rule.required_claims {
        demands.push(format!("claim {claim}: {}", list(values.iter().map(String::as_str).collect())));
    }
    if !rule.acr_values.is_empty() {
        demands.push(format!("acr: {}", list(rule.acr_values.iter().map(String::as_str).collect())));
    }
    if let Some(age) = rule.max_age.and_then(|age| SignedDuration::try_from(age).ok()) {
        demands.push(format!("authenticated within: {age:#}"));
    }
    demands
}

fn as_json(all: &[Explained]) -> Value {
    let one = |explained: &Explained| {
        let mut shown = outcome_json(&explained.outcome);
        let mut set = |name: &str, value: Value| shown.insert(name.to_owned(), value);
        set("listen", json!(explained.listen.to_string()));
        if let Some(route) = &explained.route {
            set("route", json!(route.name.as_str()));
            set("mode", json!(route.mode.name()));
        }
        if let Some(Place::Endpoint(endpoint)) = explained.place {
            set("endpoint", json!(endpoint.label()));
        }
        if let Some(rule) = explained.rule() {
            set("rule", json!(rule.prefix));
            set("upstream", json!(rule.upstream.as_ref().map(|upstream| upstream.name.as_str())));
        }
        if let Some(verdict) = &explained.verdict {
            set("verdict", Value::Object(outcome_json(verdict)));
        }
        Value::Object(shown)
    };
    json!({ "listeners": all.iter().map(one).collect::<Vec<_>>() })
}

fn outcome_json(outcome: &Outcome) -> Map<String, Value> {
    let mut shown = Map::new();
    let mut set = |name: &str, value: Value| shown.insert(name.to_owned(), value);
    set("outcome", json!(outcome.label()));
    match outcome {
        Outcome::HandedOn => {}
        Outcome::Allowed(headers) => {
            set("status", json!(204));
            set("headers", json!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>()));
        }
        Outcome::Answered(status, to) => {
            set("status", json!(status.as_u16()));
            to.iter().for_each(|to| drop(set("location", json!(without_query(printable(to))))));
        }
        Outcome::Untried(why) => drop(set("why", json!(why))),
        Outcome::Refused(status, refusal) => {
            set("status", json!(status.as_u16()));
            set("code", json!(refusal.reason.code()));
            set("meaning", json!(refusal.reason.meaning()));
            refusal.detail.iter().for_each(|why| drop(set("why", json!(why))));
            outcome.challenge().iter().for_each(|(_, value)| drop(set("challenge", json!(printable(value)))));
        }
    }
    shown
}

fn printable(value: &HeaderValue) -> &str {
    value.to_str().unwrap_or("(not text)")
}

/// What follows belongs to one login, or repeats what was asked for.
fn without_query(url: &str) -> &str {
    let url = url.split('?').next().unwrap_or_default();
    // What a step-up is for is sealed into the path, anew each time.
    let start = "/login/start";
    let sealed = url.find(start).filter(|at| url.get(at + start.len()..).is_some_and(|rest| rest.starts_with('/')));
    sealed.and_then(|at| url.get(..at + start.len())).unwrap_or(url)
}
