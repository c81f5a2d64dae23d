//! Step-up authentication: a path, or the upstream behind it, asks for a stronger or more recent login than there was.

mod rules;
mod upstream;
mod ways;

use url::Url;

use crate::world::World;
use crate::world::answer::{Answer, parameter};
use crate::world::browser::Browser;

/// The reason code, and the `error` of RFC 9470.
const INSUFFICIENT: &str = "insufficient_user_authentication";

/// A world whose paths below `/api/` have these rules.
async fn world(paths: &'static [(&'static str, &'static str)]) -> World {
    let builder = World::builder().config(move |toml| {
        toml.set("routes.web.paths", "\"/api/\"", "{}");
        for (prefix, rule) in paths {
            toml.set("routes.web.paths", &format!("\"{prefix}\""), rule);
        }
        toml
    });
    builder.start().await
}

/// Where a script that was refused is told to send its page, which adds the way back to it.
#[track_caller]
fn login_url(refused: &Answer) -> String {
    let url = refused.json()["login_url"].as_str().unwrap_or_default().to_owned();
    let start = "https://app.test/login/start/";
    assert!(url.starts_with(start) && !url.contains('?'), "not the way to a step-up: {}", refused.describe());
    url
}

/// What the provider is asked for by the login that begins at `url`.
async fn asked(browser: &Browser, url: &str) -> (Option<String>, Option<String>, Url) {
    let to = browser.navigate(url).stay().await.is(302).location();
    (parameter(&to, "acr_values"), parameter(&to, "max_age"), to)
}
