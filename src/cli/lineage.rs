//! `flash lineage`: what is built on what, and of which columns a column is made.
//!
//! ```text
//!  sql/*/*.sql, or a lake ─▶ Engine::lineage ─▶ everything, from the sources up          flash lineage
//!                                           ├─▶ a view: what is below it, its columns   flash lineage gold.kpis
//!                                           └─▶ a column: of what, and in what          flash lineage gold.kpis.revenue
//! ```

mod svg;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde_json::{Value, json};

use super::{Context, lake};
use crate::catalog::definitions::Kind;
use crate::engine::lineage::{Traced, Use};
use crate::error::{Error, ErrorKind, Result};
use crate::name::TableName;
use crate::parser::did_you_mean;
use crate::project;

/// Flags of `flash lineage`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A view, table or source, or one of its columns; everything without it
    #[arg(value_name = "SCHEMA.NAME[.COLUMN]")]
    what: Option<String>,
    /// The folder with the definitions, one object a file: SCHEMA/NAME.sql
    #[arg(long, value_name = "DIR", default_value = "sql", conflicts_with = "lake")]
    project: PathBuf,
    /// What has been applied to this lake, in place of a project: a folder, or s3://bucket/prefix
    #[arg(long, value_name = "DIR|s3://...")]
    lake: Option<String>,
    /// One JSON object: nodes and edges
    #[arg(long, conflicts_with_all = ["dot", "svg"])]
    json: bool,
    /// A graph for Graphviz
    #[arg(long, conflicts_with = "svg")]
    dot: bool,
    /// A picture: flash lineage --svg > lineage.svg
    #[arg(long)]
    svg: bool,
}

/// A column of an object.
type ColumnName = (TableName, String);

/// Every object, by name.
type Objects = BTreeMap<TableName, Traced>;

/// A text with those below it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Tree {
    label: String,
    below: Vec<Tree>,
}

/// Edges between named nodes, from what is read to what is made of it, with how it is used.
type Edges = BTreeSet<(String, String, &'static str)>;

/// Print the lineage.
///
/// # Errors
/// `NotFound` for a name that is not there; as for reading the project, or opening the lake.
pub async fn run(context: &Context, args: Args) -> Result<()> {
    let engine = match &args.lake {
        Some(url) => lake::open_existing(context, url).await?,
        None => {
            let objects = project::load(&args.project)?;
            let engine = lake::open(context, "memory:", lake::Sources::new()).await?;
            engine.apply(&objects).await?;
            engine
        }
    };
    let objects = engine.lineage().await?;
    let (name, column) = match &args.what {
        None => (None, None),
        Some(what) => found(&objects, what).map(|(name, column)| (Some(name), column))?,
    };
    let edges = edges(&objects, name.as_ref(), column.as_deref());
    let text = match (args.json, args.dot, args.svg) {
        (true, _, _) => serde_json::to_string_pretty(&as_json(&edges, &args.what))?,
        (_, true, _) => as_dot(&edges),
        (_, _, true) => svg::svg(&edges),
        _ => as_text(&objects, name.as_ref(), column.as_deref()),
    };
    context.terminal.data(&text)
}

/// What `SCHEMA.NAME[.COLUMN]` means.
fn found(objects: &Objects, what: &str) -> Result<(TableName, Option<String>)> {
    let mut parts = what.splitn(3, '.');
    let (schema, name) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let name = TableName::new(schema, name);
    let Some(object) = objects.get(&name) else {
        let names = objects.keys().map(ToString::to_string).collect::<Vec<_>>();
        return Err(missing(format!("there is no {name}"), &name.to_string(), &names));
    };
    let Some(column) = parts.next() else { return Ok((name, None)) };
    let columns = object.columns.iter().map(|(column, _)| column.clone()).collect::<Vec<_>>();
    match columns.iter().any(|known| known == column) {
        true => Ok((name, Some(column.to_string()))),
        false => Err(missing(format!("{name} has no column \"{column}\""), column, &columns)),
    }
}

fn missing(message: String, word: &str, known: &[String]) -> Error {
    let error = Error::new(ErrorKind::NotFound, message).with_detail(format!("there are {}", known.join(", ")));
    match did_you_mean(word, known.iter().map(String::as_str)) {
        Some(near) => error.with_hint(format!("did you mean {near}?")),
        None => error,
    }
}

fn as_text(objects: &Objects, name: Option<&TableName>, column: Option<&str>) -> String {
    match (name, column) {
        (Some(name), Some(column)) => of_column(objects, name, column),
        (Some(name), None) => of_object(objects, name),
        (None, _) => {
            let bottom = objects.iter().filter(|(_, object)| object.inputs.is_empty()).map(|(name, _)| name);
            let mut seen = BTreeSet::new();
            let up = |name: &TableName| readers(objects, name);
            let trees = bottom.map(|name| tree(name, &|name| labelled(objects, name), &up, &mut seen));
            trees.map(|tree| tree.lines().join("\n")).collect::<Vec<_>>().join("\n")
        }
    }
}

/// What is below an object, what reads it, and the origins of its columns.
fn of_object(objects: &Objects, name: &TableName) -> String {
    let below =
        |name: &TableName| objects.get(name).into_iter().flat_map(|it| it.inputs.iter().cloned()).collect::<Vec<_>>();
    let mut lines = tree(name, &|name| labelled(objects, name), &below, &mut BTreeSet::new()).lines();
    let readers = readers(objects, name).iter().map(ToString::to_string).collect::<Vec<_>>();
    if !readers.is_empty() {
        lines.push(format!("\nread by {}", readers.join(", ")));
    }
    let Some(object) = objects.get(name).filter(|object| object.kind == Kind::View) else { return lines.join("\n") };
    let width = object.columns.iter().map(|(column, _)| column.chars().count()).max().unwrap_or(0);
    lines.push("\ncolumns".to_string());
    for (column, origins) in &object.columns {
        let origins = origins.iter().map(|(table, of, how)| match how {
            Use::Copied => format!("{table}.{of}"),
            how => format!("{table}.{of} ({})", word(*how)),
        });
        let origins = origins.collect::<Vec<_>>().join(", ");
        let origins = if origins.is_empty() { "no column: a count of rows, or a constant".into() } else { origins };
        lines.push(format!("  {column:width$}  {origins}"));
    }
    lines.join("\n")
}

/// What a column is made of, and what is made of it.
fn of_column(objects: &Objects, name: &TableName, column: &str) -> String {
    let start = (name.clone(), column.to_string());
    let label = |(table, column): &ColumnName| format!("{table}.{column}");
    let down = |at: &ColumnName| origins(objects, at).into_keys().collect::<Vec<_>>();
    let up = |at: &ColumnName| users(objects, at).into_keys().collect::<Vec<_>>();
    let made_of = tree(&start, &label, &down, &mut BTreeSet::new());
    let used_in = tree(&start, &label, &up, &mut BTreeSet::new());
    let mut lines = vec![];
    for (title, tree) in [("made of", made_of), ("used in", used_in)] {
        if !tree.below.is_empty() {
            lines.push(title.to_string());
            lines.extend(tree.lines().into_iter().map(|line| format!("  {line}")));
        }
    }
    match lines.is_empty() {
        true => format!("{name}.{column} is made of no column, and no column is made of it"),
        false => lines.join("\n"),
    }
}

fn readers(objects: &Objects, name: &TableName) -> Vec<TableName> {
    objects.iter().filter(|(_, object)| object.inputs.contains(name)).map(|(reader, _)| reader.clone()).collect()
}

fn origins(objects: &Objects, (name, column): &ColumnName) -> BTreeMap<ColumnName, Use> {
    let columns = objects.get(name).into_iter().flat_map(|object| &object.columns);
    let origins = columns.filter(|(known, _)| known == column).flat_map(|(_, origins)| origins);
    origins.map(|(table, of, how)| ((table.clone(), of.clone()), *how)).collect()
}

fn users(objects: &Objects, (name, column): &ColumnName) -> BTreeMap<ColumnName, Use> {
    let columns = objects.iter().flat_map(|(user, object)| object.columns.iter().map(move |column| (user, column)));
    let uses = columns.flat_map(|(user, (of, origins))| {
        let here = origins.iter().filter(|(table, source, _)| table == name && source == column);
        here.map(move |(_, _, how)| ((user.clone(), of.clone()), *how))
    });
    uses.collect()
}

fn labelled(objects: &Objects, name: &TableName) -> String {
    match objects.get(name).map(|object| object.kind) {
        Some(Kind::Source) => format!("{name}  (source)"),
        Some(Kind::Table) => format!("{name}  (table)"),
        _ => name.to_string(),
    }
}

fn word(how: Use) -> &'static str {
    match how {
        Use::Copied => "copied",
        Use::Computed => "computed",
        Use::Counted => "counted",
    }
}

/// The tree from a node on. What has stood in it with something below is not spread out again.
fn tree<N: Clone + Ord>(
    node: &N,
    label: &dyn Fn(&N) -> String,
    next: &dyn Fn(&N) -> Vec<N>,
    seen: &mut BTreeSet<N>,
) -> Tree {
    let below = next(node);
    if !below.is_empty() && !seen.insert(node.clone()) {
        return Tree { label: format!("{}  (see above)", label(node)), below: vec![] };
    }
    Tree { label: label(node), below: below.iter().map(|node| tree(node, label, next, seen)).collect() }
}

impl Tree {
    fn lines(&self) -> Vec<String> {
        let mut lines = vec![self.label.clone()];
        for (index, below) in self.below.iter().enumerate() {
            let last = index + 1 == self.below.len();
            for (number, line) in below.lines().into_iter().enumerate() {
                let edge = match (number, last) {
                    (0, false) => "├─ ",
                    (0, true) => "└─ ",
                    (_, false) => "│  ",
                    (_, true) => "   ",
                };
                lines.push(format!("{edge}{line}"));
            }
        }
        lines
    }
}

/// The edges of everything, of what is below a view, or of what a column is made of.
fn edges(objects: &Objects, name: Option<&TableName>, column: Option<&str>) -> Edges {
    let mut edges = Edges::new();
    let Some((name, column)) = name.zip(column) else {
        let mut open = name.map_or_else(|| objects.keys().cloned().collect(), |name| vec![name.clone()]);
        let mut seen = BTreeSet::new();
        while let Some(name) = open.pop() {
            let Some(object) = objects.get(&name).filter(|_| seen.insert(name.clone())) else { continue };
            edges.extend(object.inputs.iter().map(|input| (input.to_string(), name.to_string(), "read")));
            open.extend(object.inputs.iter().cloned());
        }
        return edges;
    };
    let (mut open, mut seen) = (vec![(name.clone(), column.to_string())], BTreeSet::new());
    while let Some(at) = open.pop() {
        if !seen.insert(at.clone()) {
            continue;
        }
        for ((table, of), how) in origins(objects, &at) {
            edges.insert((format!("{table}.{of}"), format!("{}.{}", at.0, at.1), word(how)));
            open.push((table, of));
        }
    }
    edges
}

fn as_json(edges: &Edges, what: &Option<String>) -> Value {
    let edge = |(from, to, how): &(String, String, &str)| json!({ "from": from, "to": to, "use": how });
    let nodes = edges.iter().flat_map(|(from, to, _)| [from, to]).chain(what).collect::<BTreeSet<_>>();
    json!({ "nodes": nodes, "edges": edges.iter().map(edge).collect::<Vec<_>>() })
}

fn as_dot(edges: &Edges) -> String {
    let quoted = |name: &str| format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""));
    let mut lines = vec!["digraph lineage {".to_string(), "  rankdir=LR; node [shape=box];".to_string()];
    lines.extend(edges.iter().map(|(from, to, how)| match *how {
        "read" | "copied" => format!("  {} -> {};", quoted(from), quoted(to)),
        how => format!("  {} -> {} [label={}];", quoted(from), quoted(to), quoted(how)),
    }));
    lines.push("}".to_string());
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A column, and of which columns it is made.
    type Made<'a> = (&'a str, &'a [(&'a str, &'a str, Use)]);

    fn objects() -> Objects {
        let name = |text: &str| text.parse::<TableName>().unwrap();
        let object = |kind, inputs: &[&str], columns: &[Made]| Traced {
            kind,
            inputs: inputs.iter().map(|input| name(input)).collect(),
            columns: columns
                .iter()
                .map(|(column, origins)| {
                    let origins = origins.iter().map(|(table, of, how)| (name(table), (*of).to_string(), *how));
                    ((*column).to_string(), origins.collect())
                })
                .collect(),
        };
        let copied: &[_] = &[("b.e", "x", Use::Copied)];
        let mixed: &[_] = &[("s.e", "x", Use::Computed), ("r.c", "k", Use::Copied)];
        BTreeMap::from([
            (name("b.e"), object(Kind::Source, &[], &[("x", &[])])),
            (name("r.c"), object(Kind::Table, &[], &[("k", &[])])),
            (name("s.e"), object(Kind::View, &["b.e"], &[("x", copied)])),
            (name("g.v"), object(Kind::View, &["s.e", "r.c"], &[("total", mixed), ("n", &[])])),
        ])
    }

    #[test]
    fn everything_stands_on_its_sources() {
        let text = as_text(&objects(), None, None);
        assert_eq!(text, "b.e  (source)\n└─ s.e\n   └─ g.v\nr.c  (table)\n└─ g.v");
    }

    #[test]
    fn a_view_shows_what_is_below_it_and_a_column_what_it_is_made_of() {
        let (objects, view) = (objects(), "g.v".parse().unwrap());
        assert_eq!(
            as_text(&objects, Some(&view), None),
            "g.v\n├─ r.c  (table)\n└─ s.e\n   └─ b.e  (source)\n\ncolumns\n  total  r.c.k, s.e.x (computed)\n  n      no column: a count of rows, or a constant"
        );
        assert_eq!(
            as_text(&objects, Some(&view), Some("total")),
            "made of\n  g.v.total\n  ├─ r.c.k\n  └─ s.e.x\n     └─ b.e.x"
        );
        let source = "b.e".parse().unwrap();
        assert_eq!(as_text(&objects, Some(&source), Some("x")), "used in\n  b.e.x\n  └─ s.e.x\n     └─ g.v.total");
        let edges = edges(&objects, Some(&view), Some("total"));
        assert_eq!(as_json(&edges, &None)["edges"][2]["use"], "computed");
        assert!(as_dot(&edges).contains("\"s.e.x\" -> \"g.v.total\" [label=\"computed\"];"));
    }

    #[test]
    fn what_is_not_there_is_named() {
        let error = |what: &str| found(&objects(), what).unwrap_err();
        assert_eq!(error("g.vv.x").message(), "there is no g.vv");
        assert_eq!(error("g.v.totl").hint(), Some("did you mean total?"));
        assert_eq!(found(&objects(), "g.v.n").unwrap().1.as_deref(), Some("n"));
    }

    #[test]
    fn what_is_seen_twice_is_spread_out_once() {
        let next = |node: &u8| match node {
            0 => vec![1, 2],
            1 | 2 => vec![3],
            3 => vec![4],
            _ => vec![],
        };
        let lines = tree(&0, &|node| node.to_string(), &next, &mut BTreeSet::new()).lines();
        assert_eq!(lines, ["0", "├─ 1", "│  └─ 3", "│     └─ 4", "└─ 2", "   └─ 3  (see above)"]);
    }
}
