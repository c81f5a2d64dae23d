//! Where login and logout may send a browser, and which paths can be read in one way only (tables R and H; LS-6, LO-4,
//! PX-9, PX-10, PX-11).

use vestibule::demo::provider::Endpoint;

use crate::world::World;
use crate::world::answer::parameter;
use crate::world::raw::Raw;

/// Targets that lead elsewhere for some reader, with the row of table R. Percent-encoded where a query needs it.
const HOSTILE: &[(&str, &str)] = &[
    ("R01", "https://evil.example/"),
    ("R02", "//evil.example"),
    ("R02", "///evil.example"),
    ("R03", "/\\evil.example"),
    ("R04", "\\\\evil.example"),
    ("R05", "/%09/evil.example"),
    ("R06", "/%2509/evil.example"),
    ("R07", "/%0A/evil.example"),
    ("R07", "/%0D/evil.example"),
    ("R07", "/%0B/evil.example"),
    ("R07", "/%00/evil.example"),
    ("R08", "/%20/evil.example"),
    ("R08", "/%20\\evil.example"),
    ("R09", "%20https://evil.example"),
    ("R10", "http:evil.example"),
    ("R10", "https:evil.example"),
    ("R11", "https:/evil.example"),
    ("R11", "https:\\evil.example"),
    ("R12", "javascript:alert(1)"),
    ("R12", "JaVaScRiPt:alert(1)"),
    ("R12", "%01javascript:alert(1)"),
    ("R13", "data:text/html,x"),
    ("R13", "vbscript:x"),
    ("R13", "blob:https://app.test/x"),
    ("R13", "file:///etc/passwd"),
    ("R14", "/a/..//evil.example"),
    ("R14", "/./\\evil.example"),
    ("R15", "/%252f/evil.example"),
    ("R15", "/%252fevil.example"),
    ("R15", "%252f%252fevil.example"),
    ("R16", "https://app.test@evil.example"),
    ("R16", "https://app.test%252f@evil.example"),
    ("R17", "https://user:pass@app.test/"),
    ("R18", "https://evilapp.test"),
    ("R18", "https://app.test.evil.example"),
    ("R19", "https://sub.app.test/"),
    ("R19", "https://app.test:444/"),
    ("R20", "http://app.test/"),
    ("R28", "/%250d%250aSet-Cookie:x=1"),
    ("R28", "/%0d%0aSet-Cookie:x=1"),
    ("", ""),
    ("", "page"),
    ("", "?page"),
    ("", "https://"),
    ("", "https:///app.test/"),
];

#[tokio::test]
async fn ls_6_lo_4_r_table_hostile_targets_are_400_and_begin_nothing() {
    let world = World::start().await;
    let long = format!("/{}", "a".repeat(7_000));
    let member = world.new_browser();
    member.login("bob").await;
    for (row, target) in HOSTILE.iter().chain(&[("R27", long.as_str())]) {
        for path in ["/login/start?redirect=", "/login/start?failure=", "/logout?redirect="] {
            let answer = world.browser.click("/", &format!("{path}{target}")).stay().await;
            assert_eq!(answer.status.as_u16(), 400, "{row} {path}{target}: {}", answer.describe());
            answer.refused(400, "bad_redirect").lacks("location").lacks("set-cookie");
        }
        // LO-4: the same for somebody who is logged in, who then still is.
        member.click("/", &format!("/logout?redirect={target}")).stay().await.refused(400, "bad_redirect");
    }
    for query in ["redirect=/a&redirect=/b", "failure=/a&failure=/a"] {
        world.browser.navigate(&format!("/login/start?{query}")).stay().await.refused(400, "bad_redirect");
    }
    member.get("/api/me").await.is(200);
    // R21: nothing was begun that could be finished.
    assert_eq!(world.browser.cookies(), []);
    assert_eq!((world.provider.count(Endpoint::EndSession), world.sidecar().lasting().shared.sessions.count()), (0, 1));
    world.finish().await;
}

#[tokio::test]
async fn ls_6_r29_r22_good_targets_arrive_as_they_were_meant() {
    let world = World::start().await;
    for (target, arrives) in [
        ("/app?x=1%23frag", "https://app.test/app?x=1#frag"),
        ("/app%3Fa%3Db%26c%3D%252F%23top", "https://app.test/app?a=b&c=%2F#top"),
        ("https://app.test/page", "https://app.test/page"),
        ("https://app.test", "https://app.test/"),
        ("/%22%3E%3Cscript%3E", "https://app.test/%22%3E%3Cscript%3E"),
        ("/%27onload=", "https://app.test/%27onload="),
        ("/z%C3%BCrich", "https://app.test/z%C3%BCrich"),
    ] {
        let browser = world.new_browser();
        let picker = browser.navigate(&format!("/login/start?redirect={target}")).await.is(200);
        let callback = browser.callback_for(&picker, "alice").await;
        let landed = browser.navigate(callback.as_str()).stay().await.is(303);
        assert_eq!(landed.location().as_str().replace('\'', "%27"), arrives, "{target}");
        let page = browser.click("/", &format!("/logout?redirect={target}")).stay().await.is(302);
        let page = browser.click("/", page.location().as_str()).await.is(200);
        assert!(!page.text().contains("<script"), "{}", page.describe());
    }
    world.finish().await;
}

#[tokio::test]
async fn r19_a_list_narrows_to_origin_and_whole_segments() {
    let world = World::builder()
        .config(|toml| toml.set("routes.web", "allowed_redirects", "[\"https://www.app.test/shop\"]"))
        .start()
        .await;
    let start = |target: &str| world.browser.navigate(&format!("/login/start?redirect={target}")).stay();
    for good in
        ["https://www.app.test/shop", "https://www.app.test/shop/a?b", "https://www.app.test/shop%23x", "/local"]
    {
        start(good).await.is(302);
    }
    for bad in [
        "https://www.app.test/",
        "https://www.app.test/shopping",
        "https://www.app.test/shop/../admin",
        "https://www.app.test/shop%252f..%252fadmin",
        "https://app.test/page",
        "http://www.app.test/shop",
    ] {
        start(bad).await.refused(400, "bad_redirect");
    }
    world.finish().await;
}

#[tokio::test]
async fn px_10_r31_r33_where_a_rule_guards_a_path_no_other_reading_leads_out() {
    let world = World::start().await;
    world.browser.login("alice").await;
    let session = world.browser.cookies().into_iter().find(|cookie| !cookie.name.contains("loops")).unwrap();
    let address = world.address().await;
    let ask = |target: &str| {
        let head =
            format!("GET {target} HTTP/1.1\r\nHost: app.test\r\nCookie: {}={}\r\n\r\n", session.name, session.value);
        Raw::status(address, head)
    };
    for target in [
        "/api/../admin",
        "/api/%2e%2e/admin",
        "/api/%2E./admin",
        "/api/.%2e/admin",
        "/api/..%2fadmin",
        "/api/..%5cadmin",
        "/api/%5c..%5cadmin",
        "/api\\..\\admin",
        "/api/..;/admin",
        "/api/..%3b/admin",
        "/api//admin",
        "//api/admin",
        "/api/./x",
        "/api/%00",
        "/api/%0d%0ax",
        "/api/%",
        "/api/%zz",
    ] {
        assert_eq!(ask(target).await, 400, "{target}");
    }
    assert_eq!(world.upstream.count(), 0);
    // R32: what is encoded twice is one segment with a percent sign in its name, and goes on as it came.
    for target in
        ["/api/%252e%252e/x", "/api/%252f", "/api/a%20b", "/api/%C3%BC", "/api/...", "/api/.well-known/x", "/api/a;b=c"]
    {
        assert_eq!(ask(target).await, 200, "{target}");
        assert_eq!(world.upstream.last().target(), target);
    }
    world.finish().await;
}

#[tokio::test]
async fn px_10_a_route_with_one_rule_for_everything_passes_paths_as_they_came() {
    let world = World::builder()
        .config(|toml| toml.text("routes.web", "base_path", "/.vestibule").set("routes.web.paths", "\"/\"", "{}"))
        .provider(|options| options.clients[0].redirect_uris.push("https://app.test/.vestibule/login/end".to_owned()))
        .without_front_end()
        .start()
        .await;
    world.browser.navigate("/.vestibule/login/start?login_hint=alice").await.is(200);
    let cookies = world.browser.cookies();
    let session = cookies.iter().find(|cookie| cookie.name == "__Host-Http-vestibule-web").unwrap();
    for target in ["/a/../b", "/a//b", "/%2e%2e/x", "/a%2fb", "/x;y", "/%zz", "/logout"] {
        let head =
            format!("GET {target} HTTP/1.1\r\nHost: app.test\r\nCookie: {}={}\r\n\r\n", session.name, session.value);
        assert_eq!(Raw::status(world.address().await, head).await, 200, "{target}");
        assert_eq!(world.upstream.last().target(), target);
    }
    world.finish().await;
}

#[tokio::test]
async fn px_9_r36_the_upstream_is_the_configs_whatever_the_target_says() {
    let world = World::start().await;
    world.browser.login("alice").await;
    let session = world.browser.cookies().into_iter().find(|cookie| !cookie.name.contains("loops")).unwrap();
    let before = world.upstream.count();
    let address = world.address().await;
    for line in [
        "GET http://evil.test/api/x",
        "GET https://app.test/api/x",
        "GET app.test:443",
        "OPTIONS *",
        "GET /api@evil.test",
        "GET /api:80/x",
        "GET @evil.test/api/x",
        "CONNECT evil.test:443",
        "CONNECT app.test:443",
        "TRACE /api/x",
    ] {
        let cookie = format!("{}={}", session.name, session.value);
        let status =
            Raw::status(address, format!("{line} HTTP/1.1\r\nHost: app.test\r\nCookie: {cookie}\r\n\r\n")).await;
        assert!(matches!(status, 400 | 404 | 405), "{line}: {status}");
    }
    assert_eq!(world.upstream.count(), before);
    let own = world.upstream.address().to_string();
    world.browser.get("/api/x?url=http://evil.test/&access_token=%zz&&a=b;c").await.is(200);
    let seen = world.upstream.last();
    assert_eq!(seen.target(), "/api/x?url=http://evil.test/&access_token=%zz&&a=b;c", "PX-11: the query is untouched");
    assert!(seen.header("host").is_some_and(|host| host == "app.test" || host == own), "{}", seen.head);
    world.finish().await;
}

#[tokio::test]
async fn h24_in_3_a_host_that_is_none_is_400_and_a_strange_one_403() {
    let world = World::start().await;
    let address = world.address().await;
    for (hosts, expected) in [
        ("", 400),
        ("Host: app.test\r\nHost: app.test\r\n", 400),
        ("Host: app.test\r\nHost: evil.test\r\n", 400),
        ("Host: user@app.test\r\n", 400),
        ("Host: app test\r\n", 400),
        ("Host: app.test/x\r\n", 400),
        ("Host: \r\n", 403),
        ("Host: evil.test\r\n", 403),
        ("Host: app.test.evil.test\r\n", 403),
        ("Host: app.test:8443\r\n", 403),
        ("Host: APP.test\r\n", 302),
        ("Host: app.test:443\r\n", 302),
        ("Host: app.test.\r\n", 302),
    ] {
        let status = Raw::status(address, format!("GET /login/start HTTP/1.1\r\n{hosts}\r\n")).await;
        assert_eq!(status, expected, "{hosts:?}");
    }
    world.finish().await;
}

#[tokio::test]
async fn an_unauthenticated_page_comes_back_to_where_it_was() {
    let world = World::builder()
        .config(|toml| toml.set("routes.web.paths", "\"/api/\"", "{ unauthenticated = \"login\" }"))
        .start()
        .await;
    let start = world.browser.navigate("/api/page?a=b%26c&d=%2F").stay().await.is(302).location();
    assert_eq!(parameter(&start, "redirect").as_deref(), Some("https://app.test/api/page?a=b%26c&d=%2F"));
    let picker = world.browser.navigate("/api/page?a=b%26c&d=%2F").await.is(200);
    world.browser.choose(&picker, "alice").await.is(200).at("https://app.test/api/page?a=b%26c&d=%2F");
    assert_eq!(world.upstream.last().target(), "/api/page?a=b%26c&d=%2F");
    world.finish().await;
}
