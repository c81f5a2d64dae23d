//! What must hold after every story: no panic (G2), no secret where it does not belong (G3), no cookie that browsers
//! would not take.

use vestibule::demo::provider::{Endpoint, Secret};

use super::canary::{self, Search, Watched};
use super::{World, log};

/// What the world did wrong.
pub async fn judge(world: &World) -> Vec<String> {
    let mut faults = Vec::new();
    let panics = log::panics();
    faults.extend(panics[world.panics..].iter().map(|panic| format!("panic: {panic}")));
    let jars = world.around.jars.lock().unwrap().clone();
    for jar in &jars {
        faults.extend(jar.lock().unwrap().rejected().iter().map(|cookie| format!("cookie not taken: {cookie}")));
    }

    let issued = world.provider.issued();
    let (authorize, end_session) = (world.provider.url(Endpoint::Authorize), world.provider.url(Endpoint::EndSession));
    let mut secrets: Vec<Watched> = issued
        .iter()
        .flat_map(|secret| canary::parts(&Watched::new(secret, &authorize, &end_session)))
        .collect();
    secrets.push(canary::marker(&world.canary, &end_session));
    let cookies = jars.iter().flat_map(|jar| jar.lock().unwrap().values("app.test")).filter(|value| value.len() >= 20);
    let cookies: Vec<Watched> =
        cookies.map(|value| Watched { name: "a cookie".to_owned(), value, homes: Vec::new() }).collect();
    secrets.extend(cookies.clone());

    let told = Search::new(secrets.clone());
    for text in world.around.transcript.texts() {
        faults.extend(told.leaks(&text).into_iter().map(|leak| format!("an answer shows {leak}")));
    }
    // A log has no place where a secret is at home.
    secrets.iter_mut().for_each(|secret| secret.homes.clear());
    let kept = Search::new(secrets);
    faults.extend(kept.leaks(&world.log()).into_iter().map(|leak| format!("the log shows {leak}")));
    let metrics = world.admin("/metrics").await.text();
    faults.extend(kept.leaks(&metrics).into_iter().map(|leak| format!("the metrics show {leak}")));

    // The access token is what an upstream is told, and nothing else.
    let not_for_upstreams = issued.iter().filter(|(kind, _)| *kind != Secret::AccessToken);
    let mut secrets: Vec<Watched> = not_for_upstreams.map(|secret| Watched::new(secret, "", "")).collect();
    secrets.iter_mut().for_each(|secret| secret.homes.clear());
    secrets.extend(cookies);
    let passed = Search::new(secrets);
    for request in world.upstream.recorded() {
        faults.extend(passed.leaks(&request.head).into_iter().map(|leak| format!("the upstream was shown {leak}")));
    }
    faults
}
