//! Aggregates whose partial state can be kept: three wrappers over any aggregate function `f`.
//!
//! ```text
//!   state(f)  aggregate   arguments ─▶ Struct(state of f)      rows of a change, per group
//!   merge(f)  aggregate   Struct    ─▶ Struct                  old state + state of the change
//!   finish(f) scalar      Struct    ─▶ the value of f          what the view shows
//! ```
//!
//! All three are ordinary functions in an ordinary plan, so repartitioning and spilling are DataFusion's.
//! The idea of state, merge and finish as functions is ClickHouse's (`-State`, `-Merge`, `finalizeAggregation`).

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, StructArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema};
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, ColumnarValue, EmitTo, GroupsAccumulator, ScalarFunctionArgs,
    ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;

/// Functions whose value is their state, as long as the types are the same.
const SHOWN: [&str; 8] = ["count", "sum", "min", "max", "bool_and", "bool_or", "bit_and", "bit_or"];

/// One call of an aggregate function: the function with what its state depends on.
#[derive(Debug, Clone)]
pub struct AggregateCall {
    /// The function.
    pub function: Arc<AggregateUDF>,
    /// Its arguments, after type coercion.
    pub arguments: Vec<FieldRef>,
    /// What it returns.
    pub returns: FieldRef,
    /// `IGNORE NULLS` was given.
    pub ignore_nulls: bool,
    state: Fields,
    id: String,
}

impl PartialEq for AggregateCall {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for AggregateCall {}

impl Hash for AggregateCall {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.id.hash(hasher);
    }
}

impl AggregateCall {
    /// The call of `function` with these argument fields.
    ///
    /// # Errors
    /// When the function does not take these types.
    pub fn try_new(function: Arc<AggregateUDF>, arguments: Vec<FieldRef>, ignore_nulls: bool) -> Result<Self> {
        let returns = function.return_field(&arguments)?;
        let declared = function.state_fields(StateFieldsArgs {
            name: "s",
            input_fields: &arguments,
            return_field: Arc::clone(&returns),
            ordering_fields: &[],
            is_distinct: false,
        })?;
        let state = declared
            .iter()
            .enumerate()
            .map(|(index, field)| Field::new(format!("f{index}"), field.data_type().clone(), true))
            .collect::<Fields>();
        let types = arguments.iter().map(|field| field.data_type().to_string()).collect::<Vec<_>>().join(",");
        let id = format!("{}({types}){}", function.name(), if ignore_nulls { " ignore nulls" } else { "" });
        Ok(Self { function, arguments, returns, ignore_nulls, state, id })
    }

    /// The state is the value: it can be read off what the view shows.
    pub fn shows_its_state(&self) -> bool {
        SHOWN.contains(&self.function.name())
            && self.state.len() == 1
            && self.state[0].data_type() == self.returns.data_type()
    }

    /// Fields of the state.
    pub fn state_width(&self) -> usize {
        self.state.len()
    }

    /// The type of the stored state.
    pub fn state_type(&self) -> DataType {
        DataType::Struct(self.state.clone())
    }

    /// `state(f)`.
    pub fn state_udaf(&self) -> Arc<AggregateUDF> {
        let types = self.arguments.iter().map(|field| field.data_type().clone()).collect();
        let signature = Signature::exact(types, Volatility::Immutable);
        let name = format!("state({})", self.id);
        Arc::new(AggregateUDF::from(Wrapper { call: self.clone(), name, signature, takes: Takes::Arguments }))
    }

    /// `merge(f)`.
    pub fn merge_udaf(&self) -> Arc<AggregateUDF> {
        let signature = Signature::exact(vec![self.state_type()], Volatility::Immutable);
        let name = format!("merge({})", self.id);
        Arc::new(AggregateUDF::from(Wrapper { call: self.clone(), name, signature, takes: Takes::State }))
    }

    /// `finish(f)`.
    pub fn finish_udf(&self) -> Arc<ScalarUDF> {
        let signature = Signature::exact(vec![self.state_type()], Volatility::Immutable);
        Arc::new(ScalarUDF::from(Finish { call: self.clone(), name: format!("finish({})", self.id), signature }))
    }

    /// Call `use_args` with the arguments that the inner function's accumulators are made from.
    fn with_args<T>(&self, use_args: impl FnOnce(AccumulatorArgs) -> T) -> T {
        let schema = Schema::new(self.arguments.iter().map(Arc::clone).collect::<Fields>());
        let exprs = self
            .arguments
            .iter()
            .enumerate()
            .map(|(index, field)| Arc::new(Column::new(field.name(), index)) as Arc<dyn PhysicalExpr>)
            .collect::<Vec<_>>();
        use_args(AccumulatorArgs {
            return_field: Arc::clone(&self.returns),
            schema: &schema,
            ignore_nulls: self.ignore_nulls,
            order_bys: &[],
            is_reversed: false,
            name: &self.id,
            is_distinct: false,
            exprs: &exprs,
            expr_fields: &self.arguments,
        })
    }

    fn accumulator(&self) -> Result<Box<dyn Accumulator>> {
        self.with_args(|args| self.function.accumulator(args))
    }

    fn groups_accumulator(&self) -> Result<Option<Box<dyn GroupsAccumulator>>> {
        if self.with_args(|args| self.function.groups_accumulator_supported(args)) {
            return self.with_args(|args| self.function.create_groups_accumulator(args)).map(Some);
        }
        Ok(None)
    }

    /// State columns as one struct; a function whose state differs in type from what it declares is cast.
    ///
    /// # Errors
    /// `Internal` when the columns are not those of the state.
    pub fn pack(&self, columns: Vec<ArrayRef>) -> Result<ArrayRef> {
        let columns = columns
            .into_iter()
            .zip(self.state.iter())
            .map(|(column, field)| match column.data_type() == field.data_type() {
                true => Ok(column),
                false => cast(&column, field.data_type()),
            })
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Arc::new(StructArray::try_new(self.state.clone(), columns, None)?))
    }
}

fn unpack(values: &[ArrayRef]) -> Result<&[ArrayRef]> {
    match values.first().and_then(|array| array.as_struct_opt()) {
        Some(state) => Ok(state.columns()),
        None => exec_err!("a partial state must be a struct"),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Takes {
    Arguments,
    State,
}

/// `state(f)` and `merge(f)`: they differ in what they take.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Wrapper {
    call: AggregateCall,
    name: String,
    signature: Signature,
    takes: Takes,
}

impl AggregateUDFImpl for Wrapper {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(self.call.state_type())
    }

    fn is_nullable(&self) -> bool {
        false
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let named =
            |field: &FieldRef| Arc::new(field.as_ref().clone().with_name(format!("{}[{}]", args.name, field.name())));
        Ok(self.call.state.iter().map(named).collect())
    }

    fn accumulator(&self, _args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(Single { inner: self.call.accumulator()?, call: self.call.clone(), takes: self.takes }))
    }

    fn groups_accumulator_supported(&self, _args: AccumulatorArgs) -> bool {
        matches!(self.call.groups_accumulator(), Ok(Some(_)))
    }

    fn create_groups_accumulator(&self, _args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        match self.call.groups_accumulator()? {
            Some(inner) => Ok(Box::new(Grouped { inner, call: self.call.clone(), takes: self.takes })),
            None => exec_err!("{} has no accumulator for groups", self.name),
        }
    }

    fn default_value(&self, data_type: &DataType) -> Result<ScalarValue> {
        ScalarValue::try_from(data_type)
    }
}

struct Single {
    inner: Box<dyn Accumulator>,
    call: AggregateCall,
    takes: Takes,
}

impl std::fmt::Debug for Single {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Single({})", self.call.id)
    }
}

impl Accumulator for Single {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        match self.takes {
            Takes::Arguments => self.inner.update_batch(values),
            Takes::State => self.inner.merge_batch(unpack(values)?),
        }
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.inner.merge_batch(states)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.inner.state()
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let columns = self.inner.state()?.iter().map(ScalarValue::to_array).collect::<Result<Vec<_>>>()?;
        ScalarValue::try_from_array(&self.call.pack(columns)?, 0)
    }

    fn size(&self) -> usize {
        self.inner.size()
    }
}

struct Grouped {
    inner: Box<dyn GroupsAccumulator>,
    call: AggregateCall,
    takes: Takes,
}

impl GroupsAccumulator for Grouped {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> Result<()> {
        match self.takes {
            Takes::Arguments => self.inner.update_batch(values, groups, filter, total),
            Takes::State => self.inner.merge_batch(unpack(values)?, groups, total),
        }
    }

    fn merge_batch(&mut self, values: &[ArrayRef], groups: &[usize], total: usize) -> Result<()> {
        self.inner.merge_batch(values, groups, total)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let state = self.inner.state(emit_to)?;
        self.call.pack(state)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        self.inner.state(emit_to)
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        match self.takes {
            Takes::Arguments => self.inner.convert_to_state(values, filter),
            Takes::State => Ok(unpack(values)?.to_vec()),
        }
    }

    fn size(&self) -> usize {
        self.inner.size()
    }
}

/// `finish(f)`: every row is a group of its own.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Finish {
    call: AggregateCall,
    name: String,
    signature: Signature,
}

impl ScalarUDFImpl for Finish {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(self.call.returns.data_type().clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let state = unpack(&arrays)?;
        if self.call.shows_its_state() {
            return Ok(ColumnarValue::Array(Arc::clone(&state[0])));
        }
        // One row may be the state of an aggregate without keys over no rows, which only the plain accumulator knows
        // (an average of nothing is NULL, not 0 / 0).
        if let Some(mut groups) = self.call.groups_accumulator()?.filter(|_| rows > 1) {
            groups.merge_batch(state, &(0..rows).collect::<Vec<_>>(), rows)?;
            return Ok(ColumnarValue::Array(groups.evaluate(EmitTo::All)?));
        }
        let mut values = Vec::with_capacity(rows);
        for row in 0..rows {
            let mut one = self.call.accumulator()?;
            one.merge_batch(&state.iter().map(|column| column.slice(row, 1)).collect::<Vec<_>>())?;
            values.push(one.evaluate()?);
        }
        match values.is_empty() {
            true => Ok(ColumnarValue::Array(arrow::array::new_empty_array(self.call.returns.data_type()))),
            false => Ok(ColumnarValue::Array(ScalarValue::iter_to_array(values)?)),
        }
    }
}
