//! The clients that Vestibule was made for, calling it as their published code does.

use http::Method;
use serde_json::json;
use url::Url;

use crate::world::World;
use crate::world::answer::Answer;
use crate::world::ask::Ask;
use crate::world::browser::Browser;

/// Where the front end that POSTs is served; its API is at `https://app.test/web`.
pub const FRONT_END: &str = "https://www.app.test";

/// A world for the front end that POSTs: it lives on another origin, and the provider sends the browser back to it.
pub async fn spa_world() -> World {
    let world = World::builder()
        .config(|toml| {
            toml.text("routes.web", "base_path", "/web")
                .text("routes.web", "redirect_uri", "https://www.app.test/")
                .text("routes.web", "home_url", "https://www.app.test/")
                .set("routes.web", "allowed_origins", "[\"https://www.app.test\"]")
                .set("routes.web", "expose_headers", "[\"X-Total-Count\"]")
        })
        .provider(|options| {
            let client = options.clients.remove(0);
            let client = client.redirect_uri("https://www.app.test/");
            options.clients.push(client.post_logout_redirect_uri("https://app.test/web/logout/end"));
        })
        .without_front_end()
        .start()
        .await;
    world.add_host("www.app.test", true).await;
    world
}

/// The react-admin front end that POSTs. It calls `.json()` on whatever comes, with `Accept: */*`.
pub struct Spa {
    pub browser: Browser,
}

impl Spa {
    /// The front end in `browser`.
    pub fn new(browser: &Browser) -> Self {
        Self { browser: browser.clone() }
    }

    /// `fetch(new Request(api + path, { method, credentials: "include" }))`
    pub fn fetch(&self, method: Method, path: &str) -> Ask {
        self.browser.fetch_from(FRONT_END, method, &format!("https://app.test/web{path}"))
    }

    /// `login`, first half: where the provider is.
    pub async fn login_start(&self) -> Url {
        let answer = self.fetch(Method::POST, "/login/start").await.is(200);
        answer.json()["authorization_request_url"].as_str().unwrap().parse().unwrap()
    }

    /// The user picks somebody at the provider; gives `location.href` of the page that comes back.
    pub async fn pick(&self, provider: &Url, user: &str) -> Url {
        let picker = self.browser.click(FRONT_END, provider.as_str()).await.is(200).says("Who are you?");
        let back = self.browser.choose(&picker, user).await.is(200);
        assert_eq!(back.url.origin().ascii_serialization(), FRONT_END, "{}", back.describe());
        back.url
    }

    /// `login`, second half, and `checkAuth`.
    pub fn login_end(&self, href: &str) -> Ask {
        self.fetch(Method::POST, "/login/end").json(&json!({ "request_url": href }))
    }

    /// A whole login.
    pub async fn log_in(&self, user: &str) -> Answer {
        let href = self.pick(&self.login_start().await, user).await;
        let answer = self.login_end(href.as_str()).await.is(200);
        assert_eq!(answer.json(), json!({ "handled": true, "logged_in": true }));
        answer
    }
}

/// A call of the generated Go client: `Accept: application/json`, no `Origin`, no Fetch Metadata.
pub fn go(browser: &Browser, method: Method, path: &str) -> Ask {
    browser.fetch(method, path).like_a_program().header("accept", "application/json")
}
