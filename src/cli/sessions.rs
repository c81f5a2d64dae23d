//! `vestibule sessions`: who is logged in at the running process, and the end of it.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::Value;
use url::form_urlencoded::Serializer;

use crate::cli::call::{Question, ask};
use crate::cli::{ConfigArgs, complain, say};
use crate::config::{self, Control, Severity};

/// How many sessions are fetched at once.
const PAGE: &str = "1000";

/// Asks the running process by its `server.control`, as the configuration names it. No answer holds a token.
#[derive(Debug, Args)]
#[command(after_help = "Exit code: 0 when it was done, 1 when not, or when nobody answers.")]
pub(super) struct SessionsArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the sessions that are meant, or all
    List {
        #[command(flatten)]
        config: ConfigArgs,
        #[command(flatten)]
        which: Which,
        /// One JSON object for each session, a line each
        #[arg(long)]
        json: bool,
    },
    /// End the sessions that are meant now, with their streams, and say how many they were
    End {
        #[command(flatten)]
        config: ConfigArgs,
        #[command(flatten)]
        which: Which,
        /// Every session, on purpose
        #[arg(long)]
        all: bool,
    },
}

/// Which sessions; what is said must hold together.
#[derive(Debug, Args)]
struct Which {
    /// The id of a session, or its beginning, as the log has it
    #[arg(long, value_name = "HEX")]
    id: Option<String>,
    /// The user, as the provider names it: `sub`
    #[arg(long, value_name = "SUB", allow_hyphen_values = true)]
    sub: Option<String>,
    /// The provider's name for its own session
    #[arg(long, value_name = "SID", allow_hyphen_values = true)]
    sid: Option<String>,
    /// The route that they were made on
    #[arg(long, value_name = "NAME")]
    route: Option<String>,
    /// The provider, by its name in the configuration
    #[arg(long, value_name = "NAME")]
    provider: Option<String>,
    /// The login was at least so long ago, such as 8h
    #[arg(long, value_name = "TIME")]
    older_than: Option<String>,
    /// The last use was at least so long ago, such as 30m
    #[arg(long, value_name = "TIME")]
    idle_for: Option<String>,
}

impl Which {
    fn parameters(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let Self { id, sub, sid, route, provider, older_than, idle_for } = self;
        let all = [
            ("id", id),
            ("sub", sub),
            ("sid", sid),
            ("route", route),
            ("provider", provider),
            ("older_than", older_than),
            ("idle_for", idle_for),
        ];
        all.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?)))
    }
}

/// Does it.
pub(super) fn sessions(args: &SessionsArgs) -> ExitCode {
    let done = match &args.command {
        Command::List { config, which, json } => control(config).and_then(|control| list(&control, which, *json)),
        Command::End { config, which, all } => control(config).and_then(|control| end(&control, which, *all)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            complain(&why);
            ExitCode::FAILURE
        }
    }
}

/// Where the running process takes orders.
fn control(args: &ConfigArgs) -> Result<Control, String> {
    let loaded = config::load(&args.path(), &config::System).map_err(|report| report.render(Severity::Error, false))?;
    let none = "error: `server.control` is not set, so there is nobody to ask: set it, for example to \
                \"unix:/run/vestibule/control.sock\"";
    loaded.config.server.control.ok_or_else(|| none.to_owned())
}

fn list(control: &Control, which: &Which, json: bool) -> Result<(), String> {
    let mut after = None;
    let mut count = 0;
    loop {
        let more: Option<String> = after.take();
        let next = more.iter().map(|after| ("after", after.as_str()));
        let page =
            answered(control, |target| Question::get(target), which.parameters().chain(next).chain([("limit", PAGE)]))?;
        for session in page.get("sessions").and_then(Value::as_array).into_iter().flatten() {
            if count == 0 && !json {
                say(
                    "ID                ROUTE         PROVIDER      USER                          LAST USED             LOGIN",
                );
            }
            count += 1;
            say(&if json { session.to_string() } else { line(session) });
        }
        match page.get("next").and_then(Value::as_str) {
            Some(next) => after = Some(next.to_owned()),
            None => break,
        }
    }
    if count == 0 && !json {
        say("nobody");
    }
    Ok(())
}

/// A session in one line. What a provider wrote is shown without what a terminal would take for an order.
fn line(session: &Value) -> String {
    let text = |name: &str| {
        let text = session.get(name).and_then(Value::as_str).unwrap_or_default();
        text.chars().filter(|letter| !letter.is_control()).collect::<String>()
    };
    let id: String = text("id").chars().take(16).collect();
    let user = match text("preferred_username") {
        name if name.is_empty() => text("sub"),
        name => format!("{name} ({})", text("sub")),
    };
    let (route, provider) = (text("route"), text("provider"));
    format!("{id}  {route:<12}  {provider:<12}  {user:<28}  {}  {}", text("last_used_at"), text("created_at"))
}

fn end(control: &Control, which: &Which, all: bool) -> Result<(), String> {
    let all = all.then_some(("all", "true"));
    let ended = answered(control, |target| Question::delete(target), which.parameters().chain(all))?;
    let count = ended.get("ended").and_then(Value::as_u64).unwrap_or_default();
    say(&format!("{count} session{} ended", if count == 1 { "" } else { "s" }));
    Ok(())
}

/// The JSON of a 200; everything else is an error in the process's own words.
fn answered<'a, 'q>(
    control: &Control,
    question: impl for<'t> FnOnce(&'t str) -> Question<'t>,
    parameters: impl Iterator<Item = (&'a str, &'q str)>,
) -> Result<Value, String> {
    let query = Serializer::new(String::new()).extend_pairs(parameters).finish();
    let target = format!("/-/sessions?{query}");
    let listen = &control.listen;
    match ask(listen, &question(&target).with(control.token.as_ref())) {
        Ok((200, body)) => {
            serde_json::from_str(&body).map_err(|error| format!("error: {listen} answers no JSON: {error}"))
        }
        Ok((status, body)) => Err(format!("error: {listen} answers {status}: {body}")),
        Err(error) => Err(format!("error: nobody answers at {listen}: {error}")),
    }
}
