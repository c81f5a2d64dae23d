//! The page that a person sees when something is refused: plain, accessible, light and dark, without a script.

use std::fmt::Write as _;
use std::sync::LazyLock;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;

use crate::error::{Asker, Reason, Refusal};

/// Shared look of all our pages. `default-src 'none'` of the pages' policy allows this one inline style by its hash.
pub const STYLE: &str = "\
:root{color-scheme:light dark;font:1rem/1.5 system-ui,sans-serif;--ground:#f5f6f8;--card:#fff;--text:#171a21;\
--quiet:#545b69;--line:#dcdfe6;--accent:#1d4ed8;--on-accent:#fff}\
@media(prefers-color-scheme:dark){:root{--ground:#11141a;--card:#191d26;--text:#e8eaf0;--quiet:#a3abbb;--line:#2d3342;\
--accent:#8fb0ff;--on-accent:#0d1526}}\
body{margin:0;padding:12vh 1rem 2rem;background:var(--ground);color:var(--text)}\
main{box-sizing:border-box;max-width:32rem;margin:0 auto;padding:1.5rem 2rem 1.75rem;border:1px solid var(--line);\
border-radius:.75rem;background:var(--card)}\
h1{margin:0;font-size:1.5rem;line-height:1.25;letter-spacing:-.015em}\
a{color:var(--accent)}\
a.action,button{box-sizing:border-box;display:inline-block;font:inherit;padding:.55rem 1.1rem;border:1px solid var(--line);\
border-radius:.5rem;background:none;color:inherit;text-decoration:none;cursor:pointer}\
a.action:hover,button:hover{border-color:var(--quiet)}\
a.action:focus-visible,button:focus-visible{outline:3px solid var(--accent);outline-offset:2px}\
a.first{background:var(--accent);border-color:var(--accent);color:var(--on-accent);font-weight:550}\
ul.choices{list-style:none;margin:1rem 0;padding:0;display:grid;gap:.5rem}\
.choices a,.choices button{width:100%;text-align:start}\
.choices small{display:block;color:var(--quiet)}\
.facts{margin:2rem 0 0;font-size:.875rem;color:var(--quiet)}\
main>:last-child,form>:last-child{margin-bottom:0}";

/// The policy of all our answers: nothing but that style, no frame around it, no script in it.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let hash = STANDARD.encode(digest::digest(&digest::SHA256, STYLE.as_bytes()));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    );
    HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"))
});

/// `Content-Security-Policy` of all our answers.
#[must_use]
pub fn policy() -> HeaderValue {
    POLICY.clone()
}

/// A whole page around `body`, which is trusted markup; `title` is escaped here.
#[must_use]
pub fn page(title: &str, body: &str) -> String {
    let title = escape(title);
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>{title}</title>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<style>{STYLE}</style>\n</head>\n\
         <body>\n<main>\n<h1>{title}</h1>\n{body}</main>\n</body>\n</html>\n"
    )
}

/// Escapes text for HTML content and quoted attributes.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            _ => out.push(char),
        }
    }
    out
}

/// The page of a refusal: what happened, what to do, and the two facts that a support desk asks for.
#[must_use]
pub fn error_page(refusal: &Refusal, asker: &Asker<'_>) -> String {
    let reason = refusal.reason;
    let (title, text) = words(reason, asker);
    let mut body = format!("<p>{}</p>\n", escape(refusal.words.as_deref().unwrap_or(text)));
    let way_on = refusal.way_on.as_deref().or(asker.login_url);
    if let (true, Some(url)) = (offers_login(refusal), way_on) {
        let _ = writeln!(body, "<p><a class=\"action first\" href=\"{}\">{}</a></p>", escape(url), label(reason));
    }
    let _ = writeln!(
        body,
        "<p class=\"facts\">Reason: <code>{}</code><br>\nRequest: <code>{}</code></p>",
        reason.code(),
        escape(asker.request_id)
    );
    page(title, &body)
}

/// Whether a login can help. One as somebody else can only where we know how that is done.
fn offers_login(refusal: &Refusal) -> bool {
    use Reason as R;
    if refusal.reason == R::Forbidden {
        return refusal.way_on.is_some();
    }
    matches!(
        refusal.reason,
        R::UnknownLogin
            | R::LoginLoop
            | R::LoginExpired
            | R::IssuerMismatch
            | R::LoginUsed
            | R::LoginRequired
            | R::InsufficientUserAuthentication
            | R::StepUpFailed
            | R::AccessDenied
            | R::ProviderRefused
            | R::LoginFailed
            | R::ProviderUnavailable
            | R::ProviderTimeout
    )
}

fn label(reason: Reason) -> &'static str {
    match reason {
        Reason::LoginRequired => "Sign in",
        Reason::InsufficientUserAuthentication => "Sign in once more",
        Reason::Forbidden => "Sign in as somebody else",
        _ => "Start again",
    }
}

fn words(reason: Reason, asker: &Asker<'_>) -> (&'static str, &'static str) {
    use Reason as R;
    match reason {
        R::LoginRequired if asker.kind == crate::web::Kind::Form => (
            "You are not signed in",
            "Nothing was sent. Open the link below in a new tab and sign in there, then come back to this form and send it again.",
        ),
        R::LoginRequired => ("You are not signed in", "Sign in to see this page."),
        R::InsufficientUserAuthentication | R::StepUpFailed => of_step_up(reason, asker),
        R::UnknownLogin | R::LoginUsed => (
            "This sign-in cannot be finished",
            "It was begun in another browser, already used, or its cookie did not come back.",
        ),
        R::LoginExpired => {
            ("This sign-in took too long", "It was begun too long ago, or the configuration changed meanwhile.")
        }
        R::IssuerMismatch | R::LoginFailed | R::ProviderRefused => {
            ("Sign-in failed", "The sign-in service gave an answer that could not be accepted.")
        }
        R::AccessDenied => {
            ("Sign-in was refused", "The sign-in service says that access was denied or the sign-in was cancelled.")
        }
        R::ProviderUnavailable | R::ProviderTimeout => (
            "The sign-in service does not answer",
            "Try again in a moment. If it goes on, tell whoever runs this site.",
        ),
        R::LoginLoop => ("Signing in does not last", "You have just signed in several times, one after the other."),
        R::Forbidden => {
            ("You may not see this page", "You are signed in, but your account is not among those allowed here.")
        }
        R::CrossSite | R::CsrfHeaderMissing => (
            "This request came from another site",
            "For your safety it was not carried out. Go to the site itself and try there.",
        ),
        R::BadRedirect => {
            ("This link leads somewhere unexpected", "The address that it would send you to is not allowed here.")
        }
        R::BearerRequired | R::InvalidToken | R::InvalidRequest | R::InsufficientScope | R::NoDeviceEndpoint => {
            of_programs(reason)
        }
        R::NotFound => ("There is no such page", "Check the address."),
        R::UpstreamUnreachable | R::UpstreamBroken | R::UpstreamTimeout => {
            ("The application does not answer", "Try again in a moment. If it goes on, tell whoever runs this site.")
        }
        R::StoreUnavailable | R::ShuttingDown | R::Internal => {
            ("Something went wrong here", "Try again in a moment. If it goes on, tell whoever runs this site.")
        }
        R::BadRequest
        | R::AmbiguousPath
        | R::UntrustedPeer
        | R::HostMismatch
        | R::MethodNotAllowed
        | R::RequestTimeout
        | R::BodyTooLarge
        | R::UriTooLong
        | R::UnsupportedMediaType
        | R::HeadTooLarge
        | R::TooManyRequests
        | R::UpgradeUnsupported => ("This request cannot be served", "It is not in a form that this site accepts."),
    }
}

/// Somebody is known, and that is not enough here.
fn of_step_up(reason: Reason, asker: &Asker<'_>) -> (&'static str, &'static str) {
    match (reason, asker.kind) {
        (Reason::StepUpFailed, _) => (
            "This sign-in is not enough",
            "The page that you asked for wants a stronger or more recent sign-in than the sign-in service gave, so nothing \
             has changed here. If you cannot sign in in another way, tell whoever runs this site.",
        ),
        (_, crate::web::Kind::Form) => (
            "Sign in once more",
            "This form wants a stronger or more recent sign-in, and was not accepted. Open the link below in a new tab and \
             sign in there, then come back to this form and send it again.",
        ),
        _ => ("Sign in once more", "You are signed in, but this page wants a stronger or more recent sign-in."),
    }
}

/// What only programs should meet, for a person who does.
fn of_programs(reason: Reason) -> (&'static str, &'static str) {
    match reason {
        Reason::InsufficientScope => (
            "The access token does not reach this far",
            "The program that sent this request was not given the scope for it.",
        ),
        Reason::NoDeviceEndpoint => (
            "The sign-in service knows no devices",
            "Programs cannot be signed in from here. Tell whoever runs this site.",
        ),
        _ => (
            "This address is for programs",
            "Programs that call it show an access token, and this request showed none that is good here.",
        ),
    }
}
