//! The keys of `[routes.NAME]` and of its path rules.

use super::{TEXT_OR_TEXTS, TEXTS, key};
use crate::config::schema::Key;
use crate::config::schema::Kind::{Bool, Choice, Duration, Either, Map, Size, Table, Text};
use crate::config::schema::Need::{Default, Optional, Required, Usual};

pub(in crate::config) const ROUTE: &[Key] = &[
    key("mode", Choice(&["auth-code", "device", "verify"]), Required("\"auth-code\""), "What is done for this client."),
    key("listen", Text, Optional("\"127.0.0.1:9081\""), "The listener that Caddy dials. Absent: server.listen."),
    key("provider", Text, Optional("\"corp\""), "The provider. May be left out when there is only one."),
    key(
        "providers",
        TEXTS,
        Optional("[\"corp\", \"partners\"]"),
        "Several providers: the user chooses (auth-code), or the tokens of all are accepted (verify).",
    ),
    key(
        "public_url",
        TEXT_OR_TEXTS,
        Usual("\"https://app.example.com\""),
        "The site as browsers see it, or a list of such; the first is the main one. Gives hosts, origins and every \
         absolute URL. https; http on loopback only. A verify route may say `resource` instead.",
    ),
    key("base_path", Text, Default("\"\""), "The path below which login/start, userinfo, logout and the others live."),
    key(
        "redirect_uri",
        TEXT_OR_TEXTS,
        Optional("\"https://app.example.com/\""),
        "The redirect URI of front ends that post the code themselves, one for each public_url. Absent: \
         <public_url><base_path>/login/end.",
    ),
    key(
        "home_url",
        Text,
        Optional("\"https://app.example.com/\""),
        "Where to go when nobody said. Absent: the main public_url.",
    ),
    key("allowed_origins", TEXTS, Default("[]"), "Origins beside public_url whose scripts may call us."),
    key("expose_headers", TEXTS, Default("[]"), "Response headers that scripts of those origins may read."),
    key(
        "allowed_redirects",
        TEXTS,
        Optional("[\"https://www.example.com/\"]"),
        "Where login and logout may send the browser: origin and path prefix, query and fragment are free. Absent: \
         anywhere on public_url and allowed_origins.",
    ),
    key(
        "groups_claim",
        Text,
        Default("\"groups\""),
        "The claim that holds a user's groups; dots descend into objects.",
    ),
    key(
        "claims_source",
        Choice(&["id_token", "access_token"]),
        Default("\"id_token\""),
        "What the claims endpoint and groups are read from.",
    ),
    key(
        "claims",
        Choice(&["standard", "all"]),
        Default("\"standard\""),
        "What the claims endpoint shows: the standard claims and the groups, or all. Never a token.",
    ),
    key(
        "audiences",
        TEXTS,
        Optional("[\"https://api.example.com\"]"),
        "Device and verify: what this API is called in the `aud` of tokens that are meant for it; one of these must be \
         there. Required where bearers are verified.",
    ),
    key(
        "verify",
        Bool,
        Optional("true"),
        "Device: whether bearers are verified before they are handed on. Absent: they are. false: the upstream must.",
    ),
    key(
        "authorized_parties",
        TEXTS,
        Optional("[\"cli\"]"),
        "Device and verify: the clients that a token may have been issued to (azp, or else client_id). Absent: any.",
    ),
    key(
        "required_scopes",
        TEXTS,
        Optional("[\"read:things\"]"),
        "Device and verify: scopes that a token must have, all of them.",
    ),
    key(
        "token_profile",
        Choice(&["jwt", "rfc9068"]),
        Optional("\"jwt\""),
        "Device and verify: what a token must look like. \"jwt\": no token of another kind. \"rfc9068\": an access token \
         by the letter of RFC 9068. Absent: \"jwt\".",
    ),
    key(
        "resource",
        Text,
        Optional("\"https://api.example.com\""),
        "Device and verify: what clients know this API as (RFC 9728). Absent: the main public_url.",
    ),
    key("upstream", Text, Usual("\"api\""), "The upstream of path rules that name none: a name, or a URL in place."),
    key(
        "paths",
        Map(&Table(&[PATH_RULE])),
        Optional("\"/api/\""),
        "What is done below a path; the longest prefix wins, whole segments only. Absent: \"/api/\" = {}, or \"/\" = {} in \
         verify mode. Never below base_path.",
    ),
];

pub(in crate::config) const PATH_RULE: &[Key] = &[
    key("upstream", Text, Optional("\"api\""), "Where requests go: a name, or a URL in place. Absent: the route's."),
    key("strip_prefix", Text, Optional("\"/api\""), "Cut from the front of the path before it is sent on."),
    key(
        "unauthenticated",
        Choice(&["401", "login", "pass"]),
        Default("\"401\""),
        "What a request without a session, or without a bearer, gets. \"login\": navigations are sent to log in, all else \
         gets 401. \"pass\": it goes on as nobody.",
    ),
    key("methods", TEXTS, Optional("[\"GET\", \"HEAD\"]"), "Methods allowed. Absent: all but TRACE and CONNECT."),
    key("allowed_groups", TEXTS, Optional("[\"staff\"]"), "The user must be in one of these groups."),
    key(
        "allowed_email_domains",
        TEXTS,
        Optional("[\"example.com\"]"),
        "The user's verified e-mail address must be in one of these domains.",
    ),
    key(
        "required_claims",
        Map(&TEXT_OR_TEXTS),
        Optional("{ department = [\"it\", \"hr\"] }"),
        "Claims that must have, or contain, one of these values; dots descend into objects.",
    ),
    key(
        "acr_values",
        TEXTS,
        Optional("[\"urn:example:mfa\"]"),
        "Authentication contexts (acr) that are good enough. Whoever has another is asked to log in for one of these.",
    ),
    key(
        "max_age",
        Duration,
        Optional("\"15m\""),
        "How long ago the user may have authenticated (auth_time), give or take clock_skew; whoever did so earlier is asked \
         to do it again. Absent: at any time.",
    ),
    key(
        "identity_headers",
        Either(&[Choice(&["oauth2-proxy", "authelia"]), Map(&Text)]),
        Default("{}"),
        "Headers that tell the upstream who calls: those of oauth2-proxy, those of Authelia, or a table header = claim.",
    ),
    key(
        "authorization",
        Choice(&["bearer", "remove", "pass"]),
        Optional("\"bearer\""),
        "What happens to Authorization. \"bearer\": the session's access token, or the bearer that was verified, goes on \
         and nothing else. \"remove\": none does. \"pass\": whatever the client sent does. Absent: \"bearer\" below /api/ \
         and on device and verify routes, \"remove\" elsewhere.",
    ),
    key(
        "csrf_header",
        Text,
        Optional("\"X-CSRF\""),
        "A header that each request must carry on top of the origin checks.",
    ),
    key("max_body", Size, Optional("\"10MiB\""), "The largest request body. Absent: no limit."),
];
