//! The time of a session's queries, where the clock stands still.
//!
//! ```text
//!   SELECT now(), current_date, current_time
//!     └ DataFusion's functions become literals when a plan is simplified: of the moment at which the statement began,
//!       or, with `fix`, of the one that is said here
//! ```
//!
//! (A view's `now()` is another matter: `refresh` binds it to the time of the epoch.)

use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef};
use chrono::{DateTime, Utc};
use datafusion::common::internal_err;
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};
use datafusion::prelude::SessionContext;

use crate::error::Result;

/// The functions that tell the time.
const MOMENTS: [&str; 3] = ["now", "current_date", "current_time"];

/// Let the queries of a session take place at this instant, in microseconds since 1970 UTC.
///
/// # Errors
/// `Definition` for a session that lacks the functions; none that the catalog makes does.
pub fn fix(session: &SessionContext, now_us: i64) -> Result<()> {
    let at = DateTime::from_timestamp_micros(now_us).unwrap_or_default();
    for name in MOMENTS {
        let function = session.udf(name)?;
        session.register_udf(ScalarUDF::new_from_impl(Fixed { function, at }));
    }
    Ok(())
}

/// One of the functions, at one moment.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Fixed {
    function: Arc<ScalarUDF>,
    at: DateTime<Utc>,
}

impl ScalarUDFImpl for Fixed {
    fn name(&self) -> &str {
        self.function.name()
    }

    fn aliases(&self) -> &[String] {
        self.function.aliases()
    }

    fn signature(&self) -> &Signature {
        self.function.signature()
    }

    fn return_type(&self, types: &[DataType]) -> datafusion::common::Result<DataType> {
        self.function.return_type(types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> datafusion::common::Result<FieldRef> {
        self.function.return_field_from_args(args)
    }

    fn simplify(&self, args: Vec<Expr>, context: &SimplifyContext) -> datafusion::common::Result<ExprSimplifyResult> {
        let then = SimplifyContext::builder()
            .with_schema(Arc::clone(context.schema()))
            .with_config_options(Arc::clone(context.config_options()))
            .with_query_execution_start_time(Some(self.at));
        self.function.simplify(args, &then.build())
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> datafusion::common::Result<ColumnarValue> {
        internal_err!("{} was not simplified", self.name())
    }
}
