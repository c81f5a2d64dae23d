//! The pages of this mode: signed out, confirm logout, choose a provider.

use std::fmt::Write as _;

use crate::error::page::{escape, page};

/// After logout. With `next` the browser goes on by itself; the link is for those that do not.
pub(super) fn signed_out(next: Option<&str>, home: &str) -> String {
    let mut body = String::from("<p>Your session here is over. You can close this window.</p>\n");
    let target = escape(next.unwrap_or(home));
    if next.is_some() {
        let _ = writeln!(body, "<meta http-equiv=\"refresh\" content=\"0;url={target}\">");
    }
    let _ = writeln!(body, "<p><a class=\"action\" href=\"{target}\">Continue</a></p>");
    page("Signed out", &body)
}

/// Another site linked to logout, or nobody knows who did: a person decides.
pub(super) fn confirm_logout(yes: &str, no: &str) -> String {
    let (yes, no) = (escape(yes), escape(no));
    let body = format!(
        "<p>You followed a link that ends your session here.</p>\n\
         <p><a class=\"action first\" href=\"{yes}\">Sign out</a> <a class=\"action\" href=\"{no}\">Stay signed in</a></p>\n"
    );
    page("Sign out?", &body)
}

/// Several providers, and nobody chose. `start` is `login/start` with the targets already in its query.
pub(super) fn chooser(providers: &[&str], start: &str) -> String {
    let mut body = String::from("<p>Choose where you have an account.</p>\n<ul class=\"choices\">\n");
    let joint = if start.contains('?') { '&' } else { '?' };
    for provider in providers {
        let url = escape(&format!("{start}{joint}provider={provider}"));
        let _ = writeln!(body, "<li><a class=\"action\" href=\"{url}\">{}</a></li>", escape(provider));
    }
    body.push_str("</ul>\n");
    page("Sign in", &body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r22_targets_are_escaped() {
        let page = signed_out(Some("https://a.example/\"><script>alert(1)</script>"), "https://a.example/");
        assert!(!page.contains("<script>"), "{page}");
        let page = chooser(&["corp"], "https://a.example/login/start?redirect=%22&x='");
        assert!(page.contains("&amp;x=&#39;&amp;provider=corp"), "{page}");
    }
}
