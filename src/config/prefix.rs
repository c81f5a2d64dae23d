//! Paths as a config writes them: one spelling each, and none where the endpoints are.

use super::path_rule::Surroundings;
use super::report::{Wrong, quote};

/// A prefix has one spelling: whole segments, no escapes, and not where the endpoints are.
pub(super) fn judge_prefix(prefix: &str, route: &Surroundings<'_>) -> Result<(), Wrong> {
    if !prefix.starts_with('/') || !prefix.ends_with('/') {
        let right = format!("`\"/{}/\"`", prefix.trim_matches('/'));
        return Err(Wrong::new("a path prefix begins and ends with `/`")
            .hint(format!("write {right}; it matches the path without the last `/`, too")));
    }
    judge_path(prefix.get(..prefix.len() - 1).unwrap_or_default())?;
    let (base_path, own) = (route.base_path, route.endpoints);
    if own.is_empty() {
        return Ok(());
    }
    if base_path.is_empty() && prefix == "/" {
        return Err(Wrong::new(
            "here the application and Vestibule's own endpoints, /login/start among them, would shadow each other",
        )
        .hint("give the route a `base_path` such as `\"/.vestibule\"`"));
    }
    if base_path.is_empty() {
        let first = prefix.split('/').nth(1).unwrap_or_default();
        if own.contains(&first) {
            return Err(Wrong::new(format!("this would shadow Vestibule's own `/{first}`"))
                .hint("give the route a `base_path` such as `\"/.vestibule\"`"));
        }
    } else if prefix.starts_with(&format!("{base_path}/")) {
        return Err(Wrong::new(format!("what is below the base_path `{base_path}` is Vestibule's own"))
            .hint("choose another prefix, or another `base_path`"));
    }
    Ok(())
}

/// A path that can be read in one way only; it begins with `/` and does not end with it, or is empty.
pub(super) fn judge_path(path: &str) -> Result<(), Wrong> {
    let plain = |char: char| char.is_ascii_alphanumeric() || "-._~!$&'()*+,=:@/".contains(char);
    if let Some(odd) = path.chars().find(|char| !plain(*char)) {
        return Err(Wrong::new(format!("{} cannot stand in a path here", quote(&odd.to_string())))
            .hint("paths are compared as they are: no escapes, no query, plain ASCII"));
    }
    if path.split('/').skip(1).any(|segment| matches!(segment, "" | "." | "..")) {
        return Err(Wrong::new("a path has no empty segment, no `.` and no `..`"));
    }
    Ok(())
}

pub(super) fn strippable(strip: &str, prefix: &str) -> Result<String, Wrong> {
    let strip = strip.trim_end_matches('/');
    if strip.is_empty() {
        return Err(Wrong::new("there is nothing to strip").hint("leave the key out"));
    }
    if !prefix.starts_with(&format!("{strip}/")) {
        return Err(Wrong::new(format!("{} is not how {} begins", quote(strip), quote(prefix)))
            .hint("only whole segments from the front of the rule's own prefix can be stripped"));
    }
    Ok(strip.to_owned())
}
