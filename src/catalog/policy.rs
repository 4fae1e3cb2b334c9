//! Policies and masks as expressions, and the functions in them that tell who asks.
//!
//! ```text
//!   USING (seller_id = current_seller())  ──compile, for a principal──▶  Expr over the table's columns
//!   current_user            the name that authentication gave
//!   current_seller()        user_attribute('seller_id')
//!   user_attribute('x')     what ATTRIBUTES (x = '...') says of the user; NULL without it, so that no row fits
//! ```
//!
//! The functions are there for queries and policies only: a view is the same for everybody.

use std::any::Any;
use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, DataFusionError, ScalarValue};
use datafusion::execution::{FunctionRegistry, SessionState};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, cast,
};

use crate::catalog::Principal;
use crate::error::{Error, ErrorKind, Result};
use crate::parser::{self, AccessStatement};

/// The attribute that `current_seller()` reads.
const SELLER: &str = "seller_id";

/// Let `state` tell who asks.
pub fn register(state: &mut SessionState, principal: &Principal) {
    for asks in [Asks::User, Asks::Seller, Asks::Attribute] {
        let (name, signature) = match asks {
            Asks::User => ("current_user", Signature::nullary(Volatility::Stable)),
            Asks::Seller => ("current_seller", Signature::nullary(Volatility::Stable)),
            Asks::Attribute => ("user_attribute", Signature::exact(vec![DataType::Utf8], Volatility::Stable)),
        };
        let function = WhoAsks { asks, name, signature, principal: Arc::new(principal.clone()) };
        // The registry only refuses when it is read-only, which a session's is not.
        let _ = state.register_udf(Arc::new(ScalarUDF::new_from_impl(function)));
    }
}

/// The condition of a policy.
///
/// # Errors
/// `Definition`, `Syntax`.
pub fn condition(state: &SessionState, text: &str, schema: &SchemaRef) -> Result<Expr> {
    let (expr, data_type) = expression(state, text, schema)?;
    match data_type {
        DataType::Boolean => Ok(expr),
        other => Err(Error::new(ErrorKind::Definition, format!("({text}) is not a condition"))
            .with_detail(format!("it is of type {other}"))),
    }
}

/// What a mask shows in the place of `column`, in the column's type.
///
/// # Errors
/// `Definition`, `Syntax`.
pub fn value(state: &SessionState, text: &str, schema: &SchemaRef, column: &str) -> Result<Expr> {
    let Ok(field) = schema.field_with_name(column) else {
        return Err(Error::new(ErrorKind::Definition, format!("there is no column \"{column}\"")));
    };
    let (expr, _) = expression(state, text, schema)?;
    Ok(cast(expr, field.data_type().clone()))
}

/// What a statement says of a table fits the table's columns.
///
/// # Errors
/// `Definition`, `Syntax`.
pub fn fits(state: &SessionState, statement: &AccessStatement, schema: &SchemaRef) -> Result<()> {
    match statement {
        AccessStatement::CreatePolicy { using, .. } => condition(state, using, schema).map(drop),
        AccessStatement::CreateMask { using, column, .. } => value(state, using, schema, column).map(drop),
        _ => Ok(()),
    }
}

fn expression(state: &SessionState, text: &str, schema: &SchemaRef) -> Result<(Expr, DataType)> {
    let columns = DFSchema::try_from(Arc::clone(schema))?;
    let expr = state.create_logical_expr_from_sql_expr(parser::parse_expression(text)?, &columns)?;
    expr.apply(|part| match part {
        Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_) | Expr::SetComparison(_) => {
            refused("a subquery")
        }
        Expr::AggregateFunction(_) => refused("an aggregate"),
        Expr::WindowFunction(_) => refused("a window function"),
        Expr::ScalarFunction(function) if function.func.signature().volatility == Volatility::Volatile => {
            refused("a function that gives another value at each call")
        }
        _ => Ok(TreeNodeRecursion::Continue),
    })?;
    let data_type = expr.get_type(&columns)?;
    Ok((expr, data_type))
}

/// Whether this gives another value for the same row and the same principal at another time.
pub fn moves(expr: &Expr) -> bool {
    let moves = |part: &Expr| match part {
        Expr::ScalarFunction(function) => {
            let inner: &dyn Any = function.func.inner().as_ref();
            function.func.signature().volatility != Volatility::Immutable && !inner.is::<WhoAsks>()
        }
        _ => false,
    };
    // Looking does not fail.
    expr.exists(|part| Ok(moves(part))).unwrap_or(true)
}

fn refused(what: &str) -> datafusion::common::Result<TreeNodeRecursion> {
    let error = Error::new(ErrorKind::Definition, format!("a policy or mask cannot hold {what}"))
        .with_hint("it judges one row at a time; what users differ in goes into their ATTRIBUTES");
    Err(DataFusionError::from(error))
}

/// Which of the functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Asks {
    User,
    Seller,
    Attribute,
}

/// A function that tells who asks.
#[derive(Debug)]
struct WhoAsks {
    asks: Asks,
    name: &'static str,
    signature: Signature,
    principal: Arc<Principal>,
}

impl PartialEq for WhoAsks {
    fn eq(&self, other: &Self) -> bool {
        self.asks == other.asks && self.principal == other.principal
    }
}

impl Eq for WhoAsks {}

impl std::hash::Hash for WhoAsks {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (self.asks, &self.principal.subject).hash(state);
    }
}

impl ScalarUDFImpl for WhoAsks {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> datafusion::common::Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> datafusion::common::Result<ColumnarValue> {
        let value = match self.asks {
            Asks::User => Some(self.principal.subject.as_str()),
            Asks::Seller => self.principal.attribute(SELLER),
            Asks::Attribute => match args.args.first() {
                Some(ColumnarValue::Scalar(ScalarValue::Utf8(name))) => {
                    name.as_ref().and_then(|name| self.principal.attribute(name))
                }
                _ => {
                    let error = Error::new(ErrorKind::Definition, "user_attribute takes a name in single quotes");
                    return Err(error.into());
                }
            },
        };
        Ok(ColumnarValue::Scalar(ScalarValue::Utf8(value.map(String::from))))
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{Field, Schema, TimeUnit};
    use datafusion::execution::runtime_env::RuntimeEnv;

    use super::*;
    use crate::catalog::session::base_state;

    #[test]
    fn what_the_time_decides_is_told_from_what_the_principal_decides() {
        let mut state = base_state(Arc::new(RuntimeEnv::default()));
        register(&mut state, &Principal::local());
        let at = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let schema = Schema::new(vec![Field::new("seller_id", DataType::Utf8, true), Field::new("at", at, true)]);
        let moves = |text| moves(&condition(&state, text, &Arc::new(schema.clone())).unwrap());
        for lasting in ["seller_id = current_seller()", "upper(seller_id) = user_attribute('x') OR current_user = 'a'"]
        {
            assert!(!moves(lasting), "{lasting}");
        }
        for moving in ["at > now()", "seller_id = current_seller() AND CAST(at AS DATE) = current_date"] {
            assert!(moves(moving), "{moving}");
        }
    }
}
