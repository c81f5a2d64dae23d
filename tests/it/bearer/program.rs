//! A program that logs in by the device flow (RFC 8628) at the development provider, and the person who lets it.

use serde_json::Value;
use vestibule::demo::provider::Endpoint;

use crate::world::World;
use crate::world::answer::Answer;

/// What it asks for tokens with.
const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// A program, registered as `client_id`.
pub struct Program<'w> {
    pub world: &'w World,
    pub client_id: &'static str,
}

/// What it was told to wait with.
pub struct Waiting {
    pub device_code: String,
    pub user_code: String,
    /// Where the person is sent, code and all.
    pub page: String,
    pub seconds: u64,
}

impl Program<'_> {
    /// Asks for a code.
    pub async fn begin(&self) -> Waiting {
        let form = [("client_id", self.client_id), ("scope", "openid read")];
        let told = self.post(Endpoint::DeviceAuthorization, &form).await.is(200).json();
        let text = |name: &str| told[name].as_str().unwrap().to_owned();
        assert_eq!(text("verification_uri"), self.world.provider.url(Endpoint::DevicePage));
        Waiting {
            device_code: text("device_code"),
            user_code: text("user_code"),
            page: text("verification_uri_complete"),
            seconds: told["interval"].as_u64().unwrap(),
        }
    }

    /// Asks whether the person is done.
    pub async fn poll(&self, waiting: &Waiting) -> Answer {
        let form = [("grant_type", GRANT_TYPE), ("client_id", self.client_id), ("device_code", &waiting.device_code)];
        self.post(Endpoint::Token, &form).await
    }

    /// Whoever sits before the page lets the program in as `user`.
    pub async fn allow(&self, waiting: &Waiting, user: &str) -> Answer {
        let browser = self.world.new_browser();
        let page = browser.navigate(&waiting.page).await.is(200).says(&waiting.user_code);
        let fields = [("user_code", waiting.user_code.as_str()), ("user", user)];
        browser.submit(&page, &fields).await
    }

    /// The whole of it: the tokens.
    pub async fn log_in(&self, user: &str) -> Value {
        let waiting = self.begin().await;
        self.allow(&waiting, user).await.is(200).says("The program is signed in");
        self.poll(&waiting).await.is(200).json()
    }

    /// New tokens for a refresh token.
    pub async fn refresh(&self, token: &str) -> Answer {
        let form = [("grant_type", "refresh_token"), ("client_id", self.client_id), ("refresh_token", token)];
        self.post(Endpoint::Token, &form).await
    }

    /// Sends a form as a program does.
    pub async fn post(&self, endpoint: Endpoint, form: &[(&str, &str)]) -> Answer {
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let ask = self.world.new_browser().post(&self.world.provider.url(endpoint)).like_a_program();
        ask.header("content-type", "application/x-www-form-urlencoded").body(body).await
    }
}

/// An error answer of the provider's (RFC 6749 5.2).
#[track_caller]
pub fn oauth_error(answer: Answer, code: &str) {
    let answer = answer.is(400);
    assert_eq!(answer.json()["error"], code, "{}", answer.describe());
}
