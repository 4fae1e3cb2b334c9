//! What a principal sees: of each table, which rows and what in the place of which columns. Pure.
//!
//! ```text
//!   inputs first:
//!     table   own policies: permissive ones OR, restrictive ones AND; none for its roles: refused
//!     view    own policies AND those of its inputs, in its own columns (refresh::lineage); lost on the way: refused,
//!             unless an administrator has declassified the view
//!                ─▶ tables of this principal: what was granted, behind its rules (catalog::guard)
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Column, ScalarValue};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan, cast, lit};

use crate::catalog::access::{Access, Policy};
use crate::catalog::guard::Guarded;
use crate::catalog::principal::Granted;
use crate::catalog::{Principal, policy};
use crate::engine::Graph;
use crate::engine::sessions::Pinned;
use crate::error::{Error, ErrorKind, Result};
use crate::name::TableName;
use crate::parser::Privilege;
use crate::refresh::compile::CompiledView;
use crate::refresh::lineage::{Carried, Use, carried, sources};

/// Tables by name.
pub(super) type Tables = BTreeMap<TableName, Arc<dyn TableProvider>>;

/// What a principal sees of one table.
#[derive(Debug, Clone)]
struct Rule {
    /// Which rows; `None`: all; `Err`: why none can be shown.
    rows: std::result::Result<Option<Expr>, Error>,
    /// What stands in the place of columns.
    masks: BTreeMap<String, Expr>,
}

impl Rule {
    fn is_open(&self) -> bool {
        matches!(self.rows, Ok(None)) && self.masks.is_empty()
    }
}

/// The tables that a principal may name, behind their rules. `state` tells who asks.
pub(super) fn seen(principal: &Principal, granted: &Granted, state: &SessionState, pinned: &Pinned) -> Tables {
    let tables = &*pinned.tables;
    let rules = rules(granted, pinned, state);
    let mut seen = Tables::new();
    for (name, table) in tables {
        let reads = principal.may(Privilege::Select, name);
        let writes =
            [Privilege::Insert, Privilege::Update, Privilege::Delete].iter().any(|right| principal.may(*right, name));
        let rule = rules.get(name);
        let provider: Arc<dyn TableProvider> = match (reads, rule) {
            (false, _) if !writes => continue,
            (false, _) => Arc::new(Guarded {
                name: name.clone(),
                table: Arc::clone(table),
                rows: Err(principal.denied(format!("read {name}"))),
                masks: vec![],
            }),
            (true, Some(rule)) if !rule.is_open() => Arc::new(guarded(name, table, rule)),
            (true, _) => Arc::clone(table),
        };
        seen.insert(name.clone(), provider);
    }
    seen
}

fn guarded(name: &TableName, table: &Arc<dyn TableProvider>, rule: &Rule) -> Guarded {
    let schema = table.schema();
    let masks = rule.masks.iter().filter_map(|(column, mask)| Some((schema.index_of(column).ok()?, mask.clone())));
    Guarded { name: name.clone(), table: Arc::clone(table), rows: rule.rows.clone(), masks: masks.collect() }
}

/// The rules of all tables, for one principal; a table without one is open.
fn rules(granted: &Granted, pinned: &Pinned, state: &SessionState) -> BTreeMap<TableName, Rule> {
    let (graph, tables, access) = (&*pinned.graph, &*pinned.tables, &*pinned.access);
    let guarded = !access.policies.is_empty() || !access.masks.is_empty();
    let mut rules: BTreeMap<TableName, Rule> = BTreeMap::new();
    let put = |rules: &mut BTreeMap<TableName, Rule>, name: &TableName, inherited: Option<Rule>| {
        let Some(table) = tables.get(name) else { return };
        let rule = match access.changing.get(name) {
            Some(change) if change.hides => Some(being_changed(name)),
            _ => own(name, granted, access, state, table),
        };
        let rule = match (rule, inherited) {
            (Some(own), Some(inherited)) => Some(both(own, inherited)),
            (own, inherited) => own.or(inherited),
        };
        if let Some(rule) = rule {
            rules.insert(name.clone(), rule);
        }
    };
    for name in tables.keys().filter(|name| !graph.slots.contains_key(*name)) {
        put(&mut rules, name, None);
    }
    for name in &graph.order {
        let fingerprint = graph.slots.get(name).map(|slot| &slot.view.fingerprint);
        let inherited = match access.declassified.get(name) {
            // The rows are still those of the definition before.
            _ if guarded && pinned.rebuilding.contains(name) => Some(rebuilding(name)),
            declassified if declassified.is_some() && declassified == fingerprint => None,
            _ => inherited(name, graph, &rules),
        };
        put(&mut rules, name, inherited);
        // What was quarantined has the view's columns, and is of the same people.
        let quarantine = name.quarantine();
        if tables.contains_key(&quarantine) {
            let of_view = rules.get(name).cloned();
            put(&mut rules, &quarantine, of_view);
        }
    }
    rules
}

fn rebuilding(name: &TableName) -> Rule {
    let error = Error::new(ErrorKind::Denied, format!("{name} is being rebuilt"))
        .with_detail("its definition has changed, and its rows are still those of the one before")
        .with_hint("try again when it has been refreshed");
    Rule { rows: Err(error), masks: BTreeMap::new() }
}

fn being_changed(name: &TableName) -> Rule {
    let error = Error::new(ErrorKind::Denied, format!("{name} is being changed"))
        .with_detail("who sees what of it changes, and its definition is still the one before")
        .with_hint("try again when it has been applied");
    Rule { rows: Err(error), masks: BTreeMap::new() }
}

fn both(own: Rule, inherited: Rule) -> Rule {
    let rows = match (own.rows, inherited.rows) {
        (Err(error), _) | (_, Err(error)) => Err(error),
        (Ok(Some(own)), Ok(Some(inherited))) => Ok(Some(own.and(inherited))),
        (Ok(own), Ok(inherited)) => Ok(own.or(inherited)),
    };
    let mut masks = inherited.masks;
    masks.extend(own.masks);
    Rule { rows, masks }
}

/// What the policies and masks on the table itself say.
fn own(
    name: &TableName,
    granted: &Granted,
    access: &Access,
    state: &SessionState,
    table: &Arc<dyn TableProvider>,
) -> Option<Rule> {
    let schema = table.schema();
    let rows = match access.policies.get(name) {
        None => Ok(None),
        Some(policies) => {
            let mine = policies.values().filter(|policy| !policy.to.is_disjoint(&granted.roles));
            let judge = |policy: &Policy| policy::condition(state, &policy.using, &schema);
            conditions(name, mine.collect(), judge)
        }
    };
    let mut masks = BTreeMap::new();
    for mask in access.masks.get(name).into_iter().flat_map(|masks| masks.values()) {
        if mask.to.is_disjoint(&granted.roles) {
            continue;
        }
        // A mask that does not fit any more still hides.
        let Ok(field) = schema.field_with_name(&mask.column) else { continue };
        let nothing = || cast(Expr::Literal(ScalarValue::Null, None), field.data_type().clone());
        let shown = policy::value(state, &mask.using, &schema, &mask.column).unwrap_or_else(|_| nothing());
        // Two masks that show different things: neither is less strict than the other.
        let before = masks.insert(mask.column.clone(), shown.clone());
        if before.is_some_and(|before| before != shown) {
            masks.insert(mask.column.clone(), nothing());
        }
    }
    let rule = Rule { rows, masks };
    (!rule.is_open()).then_some(rule)
}

/// Permissive policies are ways to see a row, restrictive ones conditions for all of those.
fn conditions(
    name: &TableName,
    policies: Vec<&Policy>,
    judge: impl Fn(&Policy) -> Result<Expr>,
) -> std::result::Result<Option<Expr>, Error> {
    let (restrictive, permissive): (Vec<_>, Vec<_>) = policies.into_iter().partition(|policy| policy.restrictive);
    let ways = permissive.into_iter().map(&judge).collect::<Result<Vec<_>>>()?;
    let narrower = restrictive.into_iter().map(&judge).collect::<Result<Vec<_>>>()?;
    let everything = ways.contains(&lit(true));
    let Some(ways) = ways.into_iter().reduce(Expr::or) else {
        return Err(Error::new(ErrorKind::Denied, format!("no policy of {name} shows you rows"))
            .with_detail("the table has policies, and none of them is for a role of yours")
            .with_hint(format!("an administrator can say CREATE POLICY ... ON {name} TO your_role USING (true)")));
    };
    let ways = if everything { None } else { Some(ways) };
    Ok(ways.into_iter().chain(narrower).reduce(Expr::and))
}

/// What the rules of a view's inputs mean for the view.
fn inherited(name: &TableName, graph: &Graph, rules: &BTreeMap<TableName, Rule>) -> Option<Rule> {
    let view = &graph.slots.get(name)?.view;
    let plan = view.shape.plan();
    let mut all: Option<Rule> = None;
    let mut add = |rows| {
        let rule = Rule { rows, masks: BTreeMap::new() };
        all = Some(match all.take() {
            Some(before) => both(before, rule),
            None => rule,
        });
    };
    for input in &view.inputs {
        match rules.get(input).map(|rule| &rule.rows) {
            None | Some(Ok(None)) => {}
            Some(Err(error)) => add(Err(error.clone().context(name))),
            Some(Ok(Some(condition))) => add(lifted(name, plan, input, condition)),
        }
    }
    let masks = lifted_masks(view, rules);
    match (all, masks.is_empty()) {
        (None, true) => None,
        (rule, _) => Some(Rule { rows: rule.map_or(Ok(None), |rule| rule.rows), masks }),
    }
}

/// A condition on an input's rows, in the columns of the view.
pub(super) fn lifted(
    name: &TableName,
    plan: &LogicalPlan,
    input: &TableName,
    condition: &Expr,
) -> std::result::Result<Option<Expr>, Error> {
    let mut columns = BTreeMap::new();
    for column in condition.column_refs() {
        match carried(plan, input, &column.name) {
            Carried::By(held) => {
                let shown = held.first().map(|at| plan.schema().field(*at).name().clone());
                columns.insert(column.name.clone(), shown.unwrap_or_default());
            }
            Carried::Absent => return Ok(None),
            Carried::Lost => {
                return Err(Error::new(ErrorKind::Denied, format!("a policy of {input} does not reach {name}"))
                    .with_detail(format!(
                        "rows of {name} are made of rows with several values of \"{}\", so it cannot tell which are yours",
                        column.name
                    ))
                    .with_hint(format!(
                        "an administrator can show all of it: ALTER MATERIALIZED VIEW {name} DECLASSIFY"
                    )));
            }
        }
    }
    Ok(Some(renamed(condition.clone(), &columns)))
}

/// Masks of the inputs' columns, for the view's. What is only counted is nobody's value.
fn lifted_masks(view: &CompiledView, rules: &BTreeMap<TableName, Rule>) -> BTreeMap<String, Expr> {
    let mut masks = BTreeMap::new();
    let masked = |input: &TableName| rules.get(input).is_some_and(|rule| !rule.masks.is_empty());
    if !view.inputs.iter().any(masked) {
        return masks;
    }
    let plan = view.shape.plan();
    for field in view.schema.fields() {
        let at = plan.schema().fields().iter().position(|shown| shown.name() == field.name());
        // A column that is not found would be made of anything.
        let origins = match at {
            Some(at) => sources(plan, at),
            None => (0..plan.schema().fields().len()).flat_map(|at| sources(plan, at)).collect(),
        };
        let of = |table: &TableName, column: &String| rules.get(table).and_then(|rule| rule.masks.get(column));
        let hidden = origins.iter().filter(|(_, _, how)| *how != Use::Counted);
        let hidden = hidden.filter_map(|(table, column, how)| Some((column, how, of(table, column)?)));
        let mask = match hidden.collect::<Vec<_>>().as_slice() {
            [] => continue,
            [(column, Use::Copied, mask)]
                if origins.len() == 1 && mask.column_refs().iter().all(|other| other.name == **column) =>
            {
                renamed((*mask).clone(), &BTreeMap::from([((*column).clone(), field.name().clone())]))
            }
            _ => cast(Expr::Literal(ScalarValue::Null, None), field.data_type().clone()),
        };
        masks.insert(field.name().clone(), mask);
    }
    masks
}

fn renamed(expr: Expr, columns: &BTreeMap<String, String>) -> Expr {
    let original = expr.clone();
    let rename = |part: Expr| match &part {
        Expr::Column(column) => match columns.get(&column.name) {
            Some(name) => Ok(Transformed::yes(Expr::Column(Column::from_name(name)))),
            None => Ok(Transformed::no(part)),
        },
        _ => Ok(Transformed::no(part)),
    };
    // Renaming does not fail.
    expr.transform(rename).data().unwrap_or(original)
}
