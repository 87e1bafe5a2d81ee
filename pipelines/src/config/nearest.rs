//! The nearest of many names, for "did you mean".

/// `did you mean ...?` with the nearest of `known`, or all of them after `otherwise`.
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>, otherwise: &str) -> String {
    // the distance costs the product of the lengths, and no name is this long
    const LONGEST: usize = 200;
    let name = name.get(..LONGEST).unwrap_or(name);
    let mut known: Vec<&str> = known.collect();
    known.sort_unstable();
    known.dedup();
    let close = |k: &&str| strsim::damerau_levenshtein(name, k);
    // a name of the same last part in another section is as near as one slip of the finger
    let last = |k: &str| k.rsplit('.').next().map(str::to_owned);
    let distance = |k: &&str| close(k).min(if last(k) == last(name) { 1 } else { usize::MAX });
    let best = known
        .iter()
        .copied()
        .min_by_key(|k| (distance(k), close(k)));
    let allowed = (name.chars().count() / 3).max(2);
    match best {
        None => format!("{otherwise} none"),
        Some(best) if distance(&best) <= allowed => format!("did you mean `{best}`?"),
        Some(_) => {
            let shown = known.len().min(16);
            let more = if shown < known.len() { ", ..." } else { "" };
            format!("{otherwise} {}{more}", known[..shown].join(", "))
        }
    }
}
