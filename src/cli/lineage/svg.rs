//! Lineage as a picture: sources on the left, what is made of them to the right.
//!
//! ```text
//!   column 0        column 1         column 2         column = the longest way from a source
//!   ┌──────────┐    ┌────────────┐    ┌───────────┐
//!   │raw.events│───▶│bronze.event│───▶│silver.even│    in a column: by the mean place of what a box reads
//!   └──────────┘    └────────────┘    └───────────┘
//! ```

use std::collections::BTreeMap;

use super::Edges;

/// Pixels: of a letter, a box, and the space between boxes.
const LETTER_WIDTH: f64 = 7.3;
const BOX_HEIGHT: f64 = 28.0;
const BOX_PADDING: f64 = 12.0;
const GAP_ACROSS: f64 = 64.0;
const GAP_DOWN: f64 = 14.0;
const MARGIN: f64 = 16.0;

const STYLE: &str = "text{font:12px ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;fill:#1c2430}\
    rect{fill:#f4f6fa;stroke:#8a97ab}path{fill:none;stroke:#8a97ab;stroke-width:1.2}\
    .computed{stroke-dasharray:5 3}.counted{stroke-dasharray:1 3}\
    @media(prefers-color-scheme:dark){text{fill:#e6ebf2}rect{fill:#1d2530;stroke:#5f6f86}path{stroke:#5f6f86}}";

#[derive(Debug, Clone, Copy)]
struct Place {
    x: f64,
    y: f64,
    width: f64,
}

/// The picture, as one SVG document.
pub(super) fn svg(edges: &Edges) -> String {
    let columns = columns(edges);
    let (places, width, height) = places(&columns);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
         viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\" aria-label=\"Lineage\">\n<style>{STYLE}</style>\n\
         <defs><marker id=\"end\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" \
         orient=\"auto\"><path d=\"M0 0L8 4L0 8\"/></marker></defs>\n"
    );
    for (from, to, how) in edges {
        let (Some(from), Some(to)) = (places.get(from.as_str()), places.get(to.as_str())) else { continue };
        let (x1, y1) = (from.x + from.width, from.y + BOX_HEIGHT / 2.0);
        let (x2, y2) = (to.x, to.y + BOX_HEIGHT / 2.0);
        let bend = GAP_ACROSS / 2.0;
        out += &format!(
            "<path class=\"{how}\" marker-end=\"url(#end)\" d=\"M{x1:.1} {y1:.1}C{:.1} {y1:.1} {:.1} {y2:.1} {x2:.1} {y2:.1}\"/>\n",
            x1 + bend,
            x2 - bend
        );
    }
    for (name, Place { x, y, width }) in &places {
        let text = escaped(name);
        out += &format!(
            "<g><rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{BOX_HEIGHT:.0}\" rx=\"5\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\">{text}</text></g>\n",
            x + BOX_PADDING,
            y + BOX_HEIGHT / 2.0 + 4.0
        );
    }
    out += "</svg>";
    out
}

/// Names by column, each column in the order in which it is drawn.
fn columns(edges: &Edges) -> Vec<Vec<&str>> {
    let mut depths: BTreeMap<&str, usize> = BTreeMap::new();
    for (from, to, _) in edges {
        depths.insert(from, 0);
        depths.insert(to, 0);
    }
    // Nothing is built on itself, so as many rounds as there are names are enough.
    for _ in 0..depths.len() {
        let mut moved = false;
        for (from, to, _) in edges {
            let below = depths[from.as_str()] + 1;
            let depth = depths.entry(to).or_default();
            moved |= *depth < below;
            *depth = (*depth).max(below);
        }
        if !moved {
            break;
        }
    }
    let mut columns: Vec<Vec<&str>> = vec![vec![]; depths.values().max().map_or(0, |deepest| deepest + 1)];
    for (name, depth) in &depths {
        columns[*depth].push(name);
    }
    let mut rows: BTreeMap<&str, f64> = BTreeMap::new();
    for column in &mut columns {
        let mean = |name: &str| {
            let read = edges.iter().filter(|(_, to, _)| to == name).filter_map(|(from, _, _)| rows.get(from.as_str()));
            let (sum, count) = read.fold((0.0, 0.0), |(sum, count), row| (sum + row, count + 1.0));
            if count > 0.0 { sum / count } else { 0.0 }
        };
        let mut placed: Vec<(f64, &str)> = column.iter().map(|name| (mean(name), *name)).collect();
        placed.sort_by(|one, other| one.0.total_cmp(&other.0).then(one.1.cmp(other.1)));
        *column = placed.into_iter().map(|(_, name)| name).collect();
        rows.extend(column.iter().zip(0_u32..).map(|(name, row)| (*name, f64::from(row))));
    }
    columns
}

/// Where each box is, and how large the picture.
fn places<'a>(columns: &[Vec<&'a str>]) -> (BTreeMap<&'a str, Place>, f64, f64) {
    let letters = |name: &str| u32::try_from(name.chars().count()).map_or(0.0, f64::from);
    let step = BOX_HEIGHT + GAP_DOWN;
    let rows = |column: &[&str]| u32::try_from(column.len()).map_or(0.0, f64::from);
    let tallest = columns.iter().map(|column| rows(column)).fold(0.0, f64::max);
    let (mut places, mut x) = (BTreeMap::new(), MARGIN);
    for column in columns {
        let longest = column.iter().map(|name| letters(name)).fold(0.0, f64::max);
        let width = longest * LETTER_WIDTH + 2.0 * BOX_PADDING;
        let top = MARGIN + (tallest - rows(column)) * step / 2.0;
        for (name, row) in column.iter().zip(0_u32..) {
            places.insert(*name, Place { x, y: top + f64::from(row) * step, width });
        }
        x += width + GAP_ACROSS;
    }
    let width = if columns.is_empty() { 2.0 * MARGIN } else { x - GAP_ACROSS + MARGIN };
    (places, width, 2.0 * MARGIN + (tallest * step - GAP_DOWN).max(0.0))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edges(pairs: &[(&str, &str)]) -> Edges {
        pairs.iter().map(|(from, to)| ((*from).to_string(), (*to).to_string(), "read")).collect()
    }

    #[test]
    fn what_is_made_stands_to_the_right_of_all_that_it_reads() {
        let edges = edges(&[("raw", "bronze"), ("bronze", "silver"), ("cities", "gold"), ("silver", "gold")]);
        assert_eq!(columns(&edges), [vec!["cities", "raw"], vec!["bronze"], vec!["silver"], vec!["gold"]]);
        let (places, width, height) = places(&columns(&edges));
        for (from, to, _) in &edges {
            assert!(places[from.as_str()].x + places[from.as_str()].width < places[to.as_str()].x);
        }
        let inside = |place: &Place| place.x + place.width <= width && place.y + BOX_HEIGHT <= height;
        assert!(places.values().all(inside));
        assert_eq!(places["bronze"].y, places["gold"].y, "in the middle");
    }

    #[test]
    fn boxes_follow_what_they_read() {
        let edges = edges(&[("a", "z"), ("b", "y"), ("a", "x")]);
        assert_eq!(columns(&edges)[1], ["x", "z", "y"]);
    }

    #[test]
    fn names_are_text_and_an_empty_picture_is_one() {
        assert!(svg(&edges(&[("<a>", "b&c")])).contains("&lt;a&gt;"));
        assert!(svg(&Edges::new()).ends_with("</svg>"));
    }
}
