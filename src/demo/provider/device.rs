//! The device flow (RFC 8628): a program shows a code, a person types it in elsewhere, and the program polls meanwhile.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::json;

use super::call::{Answer, Call, html, json_answer, oauth_error};
use super::client::{Client, authenticate};
use super::journal::{Endpoint, Secret};
use super::ledger::{Grant, Ledger, Login};
use super::token::invalid_client;
use super::{Broken, Setup};
use crate::error::page::escape;
use crate::time::Timestamp;
use crate::web;

/// What a program asks for tokens with (RFC 8628 3.4).
pub(super) const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// How long a person has to type the code in.
const LIFETIME: Duration = Duration::from_secs(600);

/// What polling too fast costs, each time (3.5).
const SLOWER: Duration = Duration::from_secs(5);

/// Letters of a user code: none that looks like another, and no vowel, so that no word comes of it (6.1).
const LETTERS: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";

/// A program that waits.
pub(super) struct Device {
    user_code: String,
    client_id: String,
    scopes: Vec<String>,
    expires_at: Timestamp,
    interval: Duration,
    polled_at: Option<Timestamp>,
    decision: Decision,
}

/// What the person said.
enum Decision {
    /// Nothing yet.
    Pending,
    /// No.
    Denied,
    /// Yes; once it has been told, the code is used up.
    Granted(Arc<Grant>),
}

/// The device authorization endpoint (3.1, 3.2).
///
/// # Errors
/// [`Broken`] without randomness.
pub(super) fn begin(setup: &Setup, ledger: &mut Ledger, call: &Call) -> Result<Answer, Broken> {
    if call.method != Method::POST || call.repeats_itself() {
        return Ok(oauth_error(StatusCode::BAD_REQUEST, "invalid_request"));
    }
    let Some(client) = authenticate(&setup.clients, call) else { return Ok(invalid_client()) };
    if !client.device_flow {
        return Ok(oauth_error(StatusCode::BAD_REQUEST, "unauthorized_client"));
    }
    let device_code = ledger.marked(Secret::DeviceCode)?;
    ledger.remember(Secret::DeviceCode, &device_code);
    let device = Device {
        user_code: user_code()?,
        client_id: client.id.clone(),
        scopes: call.form("scope").unwrap_or_default().split_whitespace().map(str::to_owned).collect(),
        expires_at: call.now.plus(LIFETIME),
        interval: setup.device_interval,
        polled_at: None,
        decision: Decision::Pending,
    };
    let page = setup.url(Endpoint::DevicePage);
    let answer = json!({
        "device_code": device_code,
        "user_code": device.user_code,
        "verification_uri": page,
        "verification_uri_complete": format!("{page}?user_code={}", device.user_code),
        "expires_in": LIFETIME.as_secs(),
        "interval": device.interval.as_secs(),
    });
    ledger.devices.retain(|_, device| device.expires_at > call.now);
    ledger.devices.insert(device_code, device);
    Ok(json_answer(StatusCode::OK, &answer))
}

/// A program asks whether the person is done (3.4, 3.5): the grant, or the error code to answer with.
pub(super) fn redeem(ledger: &mut Ledger, call: &Call, client: &Client) -> Result<Arc<Grant>, &'static str> {
    let code = call.form("device_code").ok_or("invalid_request")?;
    let device = ledger.devices.get_mut(code).filter(|device| device.client_id == client.id).ok_or("invalid_grant")?;
    if device.expires_at <= call.now {
        return Err("expired_token");
    }
    let too_soon = device.polled_at.is_some_and(|polled| call.now.since(polled) < device.interval);
    device.polled_at = Some(call.now);
    if too_soon {
        device.interval += SLOWER;
        return Err("slow_down");
    }
    match &device.decision {
        Decision::Pending => Err("authorization_pending"),
        Decision::Denied => Err("access_denied"),
        Decision::Granted(_) => match ledger.devices.remove(code).map(|device| device.decision) {
            Some(Decision::Granted(grant)) => Ok(grant),
            _ => Err("invalid_grant"),
        },
    }
}

/// The page where a person types the code in, picks who to be, and says yes or no (3.3).
///
/// # Errors
/// [`Broken`] without randomness.
pub(super) fn page(setup: &Setup, ledger: &mut Ledger, call: &Call) -> Result<Answer, Broken> {
    let typed = call.either("user_code").map(normalized).unwrap_or_default();
    let waiting = ledger.devices.values_mut().find(|device| {
        device.user_code == typed && device.expires_at > call.now && matches!(device.decision, Decision::Pending)
    });
    let Some(device) = waiting else {
        let wrong = !typed.is_empty();
        return Ok(ask_for_code(setup, wrong));
    };
    if call.method == Method::POST && call.form("cancel").is_some() {
        device.decision = Decision::Denied;
        return Ok(html(
            StatusCode::OK,
            "The program was refused",
            "<p>It gets nothing. You can close this page.</p>\n",
        ));
    }
    let user = call.form("user").filter(|_| call.method == Method::POST);
    let user = user.and_then(|name| setup.users.iter().find(|user| user.is_called(name)));
    let Some(user) = user else { return Ok(picker(setup, device)) };
    let sid = web::token().map_err(|_| Broken)?;
    let login = Login { user: user.clone(), since: call.now, acr: setup.acr(""), sid };
    device.decision = Decision::Granted(Arc::new(Grant::new(&login, &device.client_id, device.scopes.clone(), None)));
    let text = format!("<p>The program may now act as {}. You can close this page.</p>\n", escape(&user.name));
    Ok(html(StatusCode::OK, "The program is signed in", &text))
}

/// The first half of the page.
fn ask_for_code(setup: &Setup, wrong: bool) -> Answer {
    let (status, complaint) = match wrong {
        true => (
            StatusCode::BAD_REQUEST,
            "<p role=\"alert\">No program waits for this code. It may have been too old; compare it with what the \
             program shows.</p>\n",
        ),
        false => (StatusCode::OK, ""),
    };
    let body = format!(
        "<p>A program asked you to come here. Type in the code that it shows.</p>\n{complaint}\
         <form method=\"get\" action=\"{}\">\n<p><label for=\"user_code\">Code</label>\n\
         <input id=\"user_code\" name=\"user_code\" autocomplete=\"off\" autocapitalize=\"characters\" \
         spellcheck=\"false\" size=\"9\" required autofocus></p>\n<p><button>Go on</button></p>\n</form>\n",
        escape(&setup.url(Endpoint::DevicePage)),
    );
    html(status, "Sign in a program", &body)
}

/// The second half.
fn picker(setup: &Setup, device: &Device) -> Answer {
    let mut body = format!(
        "<p>This is a development provider. The program <strong>{}</strong> shows the code <strong>{}</strong> and \
         wants to act for you. If that is not the code you see, do not let it.</p>\n\
         <form method=\"post\" action=\"{}\">\n<input type=\"hidden\" name=\"user_code\" value=\"{}\">\n",
        escape(&device.client_id),
        escape(&device.user_code),
        escape(&setup.url(Endpoint::DevicePage)),
        escape(&device.user_code),
    );
    for user in &setup.users {
        let _ = writeln!(
            body,
            "<p><button name=\"user\" value=\"{}\">{} {} ({})</button></p>",
            escape(&user.name),
            escape(&user.given_name),
            escape(&user.family_name),
            escape(&user.email)
        );
    }
    body.push_str("<p><button name=\"cancel\" value=\"1\">Do not let it</button></p>\n</form>\n");
    html(StatusCode::OK, "Who are you?", &body)
}

/// Eight letters in two groups; 34 bits, in force for ten minutes and guessed at a development provider only.
fn user_code() -> Result<String, Broken> {
    let random: [u8; 8] = web::bytes().map_err(|_| Broken)?;
    let mut letters = random
        .iter()
        .filter_map(|byte| LETTERS.get(usize::from(*byte) % LETTERS.len()))
        .map(|letter| char::from(*letter));
    let first: String = letters.by_ref().take(4).collect();
    Ok(format!("{first}-{}", letters.collect::<String>()))
}

/// What people make of a code when they type it: small letters, spaces, no dash.
fn normalized(typed: &str) -> String {
    let letters: String =
        typed.chars().filter(char::is_ascii_alphabetic).map(|char| char.to_ascii_uppercase()).collect();
    let (first, rest) = letters.split_at_checked(4).unwrap_or((&letters, ""));
    if rest.is_empty() { letters } else { format!("{first}-{rest}") }
}
