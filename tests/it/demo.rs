//! `vestibule demo` as a person starts it: the program itself, with every Caddy that is at hand.

mod running;
mod trouble;

use http::StatusCode;
use serde_json::json;

use crate::caddies;
use crate::world::eventually;
use crate::world::upstream::EchoUpstream;
use running::Running;

#[tokio::test]
async fn from_the_first_line_to_the_last_with_every_caddy() {
    for (caddy, signal) in caddies::all().iter().zip(["TERM", "INT", "HUP"].iter().cycle()) {
        let demo = Running::start(&["--caddy", caddy.to_str().unwrap()]).await;
        let browser = demo.browser();

        let page = browser.navigate("/").await.is(200).says("<title>Vestibule demo</title>");
        assert!(!page.text().contains("{{"), "a blank in the page was not filled in: {}", page.text());
        assert!(page.text().contains(demo.config().to_str().unwrap()));
        for file in ["/app.js", "/style.css"] {
            browser.get(file).await.is(200);
        }
        browser.get("/api/hello").await.refused(401, "login_required");

        browser.login("alice").await.says("<title>Vestibule demo</title>").at(&format!("{}/", demo.origin));
        assert_eq!(browser.get("/userinfo").await.is(200).json()["given_name"], "Alice");
        let answer = browser.get("/api/hello?from=here").await.is(200);
        let seen = answer.json();
        assert_eq!(seen["request"], "GET /api/hello?from=here");
        assert_eq!(seen["caller"]["preferred_username"], "alice");
        assert_eq!((&seen["token"]["iss"], &seen["token"]["aud"]), (&json!(demo.issuer), &json!("api")));
        assert_eq!(seen["headers"].get("cookie"), None, "the session went on to the API");
        assert!(!answer.text().contains("eyJ"), "the API shows the token");

        // The file that the banner names is the one that is followed.
        let text = std::fs::read_to_string(demo.config()).unwrap();
        let (open, closed) = text.rsplit_once("# [routes.web.paths]\n# ").unwrap();
        std::fs::write(demo.config(), format!("{open}[routes.web.paths]\n{closed}")).unwrap();
        eventually("the edit is served", || demo.said("configuration reloaded")).await;
        browser.get("/api/hello").await.is(200);
        let other = demo.browser();
        other.login("bob").await;
        other.get("/api/hello").await.refused(403, "forbidden");

        let words = demo.stop(signal).await;
        for expected in ["2 sign-ins", "2 calls let in by the API", "What to do next"] {
            assert!(words.contains(expected), "it does not say {expected}:\n{words}");
        }
    }
}

#[tokio::test]
async fn somebodys_own_front_end_and_api_stand_behind_the_login() {
    let Some(caddy) = caddies::all().into_iter().next() else { return };
    let (front, api) = (EchoUpstream::start().await, EchoUpstream::start().await);
    let arguments = ["--caddy", caddy.to_str().unwrap(), "--front", &front.url(), "--api", &api.url()];
    let demo = Running::start(&arguments).await;
    let browser = demo.browser();
    browser.login("alice").await;
    let page = front.last();
    assert_eq!((page.target(), page.header("authorization")), ("/", None));
    browser.get("/api/mine").await.is(200);
    let call = api.last();
    assert_eq!(call.target(), "/api/mine");
    assert!(call.header("authorization").is_some_and(|value| value.starts_with("Bearer ey")), "{}", call.head);
    assert!(demo.said("yours; accept tokens of the provider"));
    demo.stop("TERM").await;
}

#[tokio::test]
async fn the_api_lets_nobody_in_who_made_the_token_up() {
    let Some(caddy) = caddies::all().into_iter().next() else { return };
    let demo = Running::start(&["--caddy", caddy.to_str().unwrap()]).await;
    let api = demo.word_after("API");
    let browser = demo.browser();
    // As if somebody reached the API past Vestibule.
    running::direct(&browser, &api);
    let ask = |token: &str| {
        let ask = browser.get(&format!("{api}/api/hello")).header("authorization", &format!("Bearer {token}"));
        async move { ask.await }
    };
    let unsigned = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbGljZS0wMDAxIn0.";
    for made_up in ["", "x", unsigned] {
        let answer = ask(made_up).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{}", answer.describe());
        assert!(!answer.text().contains("alice"), "{}", answer.describe());
    }
    demo.stop("TERM").await;
}
