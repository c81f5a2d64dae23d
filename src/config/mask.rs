//! The config text with every secret cut out, so that no report can show one.
//!
//! A text that parses is masked where the schema says that a secret stands. One that does not parse is masked by a
//! rougher rule on top: whatever follows a key that sounds like a secret, up to the next key that is certainly not one.

use std::ops::Range;

use super::schema::{self, ROOT};

/// What stands in the place of a secret; of one length, so that it does not tell how long the secret is.
pub(super) const MASK: &str = "***";

/// Words that make an unknown key sound like a secret.
const SECRETIVE: &[&str] = &["secret", "pass", "token", "key", "cred", "redis"];

/// A text whose secrets are gone, and the way from places in the original to places in it.
#[derive(Debug, Default)]
pub(super) struct Masked {
    text: String,
    /// What was cut from the original, in order and without overlaps.
    cuts: Vec<Range<usize>>,
}

impl Masked {
    /// `original` without what stands at `secrets` and without the user information of URLs. `strings` are the places of
    /// all strings when the text is TOML, and `secrets` therefore complete.
    pub(super) fn new(original: &str, mut secrets: Vec<Range<usize>>, mut strings: Option<Vec<Range<usize>>>) -> Self {
        let comments: Vec<Range<usize>> = secrets.iter().filter_map(|secret| comment_after(original, secret)).collect();
        secrets.extend(comments);
        let mut regions = lines(original);
        if let Some(strings) = &mut strings {
            strings.sort_by_key(|string| string.start);
            regions.retain_mut(|line| keep_comment(original, line, strings));
            secrets.extend(regions.iter().filter_map(|comment| after_secretive_key(original, comment.clone())));
        } else {
            secrets.extend(after_secretive_keys(original));
        }
        secrets.extend(regions.iter().filter_map(|region| before_an_at(original, region.clone())));
        regions.extend(strings.into_iter().flatten());
        secrets.extend(regions.into_iter().filter_map(|region| user_information(original, region)));
        let cuts = merge(secrets);
        let mut text = String::with_capacity(original.len());
        let mut rest = 0;
        for cut in &cuts {
            text.push_str(original.get(rest..cut.start).unwrap_or_default());
            text.push_str(MASK);
            rest = cut.end;
        }
        text.push_str(original.get(rest..).unwrap_or_default());
        Self { text, cuts }
    }

    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    /// Where `span` of the original is now. What begins or ends inside a cut then covers the mask.
    pub(super) fn span(&self, span: &Range<usize>) -> Range<usize> {
        let end = self.offset(span.end, true).min(self.text.len());
        self.offset(span.start, false).min(end)..end
    }

    fn offset(&self, at: usize, end: bool) -> usize {
        let (mut removed, mut added) = (0, 0);
        for cut in self.cuts.iter().take_while(|cut| cut.start < at) {
            if at < cut.end {
                return (cut.start + added).saturating_sub(removed) + if end { MASK.len() } else { 0 };
            }
            removed += cut.len();
            added += MASK.len();
        }
        (at + added).saturating_sub(removed)
    }
}

fn merge(mut cuts: Vec<Range<usize>>) -> Vec<Range<usize>> {
    cuts.retain(|cut| !cut.is_empty());
    cuts.sort_by_key(|cut| cut.start);
    let mut merged: Vec<Range<usize>> = Vec::new();
    for cut in cuts {
        match merged.last_mut() {
            Some(last) if cut.start <= last.end => last.end = last.end.max(cut.end),
            _ => merged.push(cut),
        }
    }
    merged
}

/// Where the lines are, without their ends.
fn lines(text: &str) -> Vec<Range<usize>> {
    let mut start = 0;
    let line = |line: &str| {
        let range = start..start + line.len();
        start = range.end + 1;
        range
    };
    text.split('\n').map(line).collect()
}

/// What stands between `//` and the last `@` of a region: a password may hold any character. Where the `@` is missing, a
/// port that is no number may be a password.
fn user_information(text: &str, region: Range<usize>) -> Option<Range<usize>> {
    let part = text.get(region.clone())?;
    let start = part.find("://")? + 3;
    let rest = part.get(start..)?;
    let start = region.start + start;
    if let Some(at) = rest.rfind('@') {
        return Some(start..start + at);
    }
    let authority = rest.split(['/', '?', '#', '"', '\'', ',', ' ', '\r', '\n']).next()?;
    let (host, port) = authority.split_once(':').filter(|_| !authority.starts_with('['))?;
    let number = port.bytes().all(|byte| byte.is_ascii_digit());
    (!number).then(|| start + host.len() + 1..start + authority.len())
}

/// `text` without the user information of a URL in it.
pub(super) fn url(text: &str) -> String {
    match user_information(text, 0..text.len()) {
        None => text.to_owned(),
        Some(cut) => {
            let (before, after) = (text.get(..cut.start), text.get(cut.end..));
            format!("{}{MASK}{}", before.unwrap_or_default(), after.unwrap_or_default())
        }
    }
}

/// A line or a comment with an `@` may be the second half of a URL.
fn before_an_at(text: &str, line: Range<usize>) -> Option<Range<usize>> {
    let part = text.get(line.clone())?;
    let at = part.rfind('@')?;
    let before = part.get(..at)?;
    let url = before.split_once('=').map_or(before, |(_, value)| value.trim_start_matches([' ', '"', '\'']));
    Some(line.start + at - url.len()..line.start + at)
}

/// Cuts `line` down to its comment (`strings` are in order), and tells whether there is one.
fn keep_comment(text: &str, line: &mut Range<usize>, strings: &[Range<usize>]) -> bool {
    let part = text.get(line.clone()).unwrap_or_default();
    let outside = |sign: &usize| {
        let begun = strings.partition_point(|string| string.start <= line.start + sign);
        strings.get(..begun).and_then(<[_]>::last).is_none_or(|string| string.end <= line.start + sign)
    };
    let sign = part.match_indices('#').map(|(sign, _)| sign).find(outside);
    line.start += sign.unwrap_or(part.len());
    sign.is_some()
}

/// What follows the first secretive key of `region`, a line or a part of one.
fn after_secretive_key(text: &str, region: Range<usize>) -> Option<Range<usize>> {
    let part = text.get(region.clone())?.trim_end_matches(['\r', '\n']);
    let value = secretive_value(part)?.min(part.len());
    Some(region.start + value..region.start + part.len())
}

/// A comment on the line of a secret is often the secret's predecessor.
fn comment_after(text: &str, secret: &Range<usize>) -> Option<Range<usize>> {
    let line = text.get(secret.end..)?.split(['\r', '\n']).next()?;
    Some(secret.end + line.find('#')?..secret.end + line.len())
}

/// In a text that is not TOML nobody knows where a value ends, so all is hidden up to a line that surely begins another.
fn after_secretive_keys(text: &str) -> Vec<Range<usize>> {
    let mut hiding = false;
    let mut hide = |line: Range<usize>| {
        hiding &= !text.get(line.clone()).is_some_and(begins_anew);
        let found = if hiding { Some(line) } else { after_secretive_key(text, line) };
        hiding |= found.is_some();
        found
    };
    lines(text).into_iter().filter_map(&mut hide).collect()
}

/// Whether `line` is a table header, or assigns to a key of ours that holds no secret.
fn begins_anew(line: &str) -> bool {
    let line = line.trim();
    let header = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).is_some_and(|name| {
        let name = name.trim_matches(['[', ']']);
        name.split('.').next().is_some_and(|first| schema::key(ROOT, first).is_some())
    });
    let assignment = line
        .split_once('=')
        .is_some_and(|(name, _)| schema::anywhere(name.trim()).is_some_and(|key| !key.kind.holds_secret()));
    header || assignment
}

/// Where the value of the first secretive key of `line` begins. People who think of YAML write `:` for `=`.
fn secretive_value(line: &str) -> Option<usize> {
    let value = |(sign, _): (usize, &str)| {
        let after = line.get(sign + 1..)?;
        let assigns = !line.get(sign..)?.starts_with(':') || after.starts_with([' ', '\t', '"', '\'']);
        let before = line.get(..sign)?.trim_end_matches([' ', '\t', '"', '\'']);
        let word = before.rsplit(|char: char| !(char.is_alphanumeric() || matches!(char, '_' | '-'))).next()?;
        let blanks = after.len() - after.trim_start_matches([' ', '\t']).len();
        (assigns && is_secretive(word)).then_some(sign + 1 + blanks)
    };
    line.match_indices(['=', ':']).find_map(value)
}

/// Whether a key named `name` may hold a secret: as the schema says, or when it sounds so.
pub(super) fn is_secretive(name: &str) -> bool {
    schema::anywhere(name)
        .map_or_else(|| SECRETIVE.iter().any(|word| name.to_lowercase().contains(word)), |key| key.kind.holds_secret())
}
