//! "Did you mean": the nearest of a few known words, by the number of slips of the finger between them.

/// Longer words are not compared.
const WORD_CHARS_MAX: usize = 64;

/// The candidate that `word` most likely stands for: at most two slips (one for short words) away, case aside.
/// None when it is one of them, or none is near.
pub fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word: Vec<char> = word.to_lowercase().chars().collect();
    let slips_max = if word.len() <= 4 { 1 } else { 2 };
    if word.len() < 3 || word.len() > WORD_CHARS_MAX {
        return None;
    }
    let mut nearest: Option<(usize, &str)> = None;
    for candidate in candidates {
        let known: Vec<char> = candidate.to_lowercase().chars().collect();
        if known.len() < 3 || known.len().abs_diff(word.len()) > slips_max {
            continue;
        }
        let slips = slips(&word, &known);
        if slips == 0 {
            return None;
        }
        if slips <= slips_max && nearest.is_none_or(|(fewest, _)| slips < fewest) {
            nearest = Some((slips, candidate));
        }
    }
    nearest.map(|(_, candidate)| candidate)
}

/// Characters added, left out, changed, or swapped with their neighbour (optimal string alignment).
fn slips(a: &[char], b: &[char]) -> usize {
    let mut two_back: Vec<usize> = Vec::new();
    let mut back: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let changed = usize::from(a[i - 1] != b[j - 1]);
            let mut least = (back[j] + 1).min(row[j - 1] + 1).min(back[j - 1] + changed);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(two_back[j - 2] + 1);
            }
            row.push(least);
        }
        two_back = back;
        back = row;
    }
    back[b.len()]
}
