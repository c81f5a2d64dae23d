//! What must hold after every story: no panic (G2), no secret where it does not belong (G3), no cookie that browsers
//! would not take.

use vestibule::demo::provider::Endpoint;

use super::canary::{self, Reader, Search, Watched};
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
    secrets.extend(cookies.map(|value| Watched::nowhere("a cookie", value)));

    let search = Search::new(secrets);
    for text in world.around.transcript.texts() {
        faults.extend(search.leaks(&text, Reader::Browser).into_iter().map(|leak| format!("an answer shows {leak}")));
    }
    let log = search.leaks(&world.log(), Reader::Operator);
    faults.extend(log.into_iter().map(|leak| format!("the log shows {leak}")));
    // AD-4.
    let metrics = search.leaks(&world.admin("/metrics").await.text(), Reader::Operator);
    faults.extend(metrics.into_iter().map(|leak| format!("the metrics show {leak}")));
    for request in world.upstream.recorded() {
        let shown = search.leaks(&request.head, Reader::Upstream);
        faults.extend(shown.into_iter().map(|leak| format!("the upstream was shown {leak}")));
    }
    faults
}
