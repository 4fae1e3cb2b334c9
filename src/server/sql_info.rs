//! What this server can do: the answer to GetSqlInfo.
//!
//! Drivers read each number through one arm of a union and fail on any other, so the values are grouped by arm.
//! Every standard number is answered (ODBC fails on a missing one) and no number of our own (JDBC fails on those).
//! Numbers that drivers disagree about follow what the drivers read: 503, 505, 507 and 562 as 64-bit integers.

use arrow::record_batch::RecordBatch;
use arrow_flight::sql::SqlInfo as I;
use arrow_flight::sql::metadata::SqlInfoDataBuilder;
use datafusion::prelude::SessionContext;
use tonic::Status;

use super::Limits;
use crate::catalog::Principal;

const TEXTS: &[(I, &str)] = &[
    (I::FlightSqlServerName, "FlashCommerce"),
    (I::FlightSqlServerVersion, env!("CARGO_PKG_VERSION")),
    (I::FlightSqlServerArrowVersion, arrow::ARROW_VERSION),
    (I::FlightSqlServerSubstraitMinVersion, ""),
    (I::FlightSqlServerSubstraitMaxVersion, ""),
    (I::SqlIdentifierQuoteChar, "\""),
    (I::SqlSearchStringEscape, "\\"),
    (I::SqlExtraNameCharacters, ""),
    (I::SqlSchemaTerm, "schema"),
    (I::SqlProcedureTerm, "procedure"),
    (I::SqlCatalogTerm, "catalog"),
];

const FLAGS: &[(I, bool)] = &[
    (I::FlightSqlServerSql, true),
    (I::FlightSqlServerSubstrait, false),
    (I::FlightSqlServerCancel, true),
    (I::FlightSqlServerBulkIngestion, true),
    (I::FlightSqlServerIngestTransactionsSupported, false),
    (I::SqlDdlCatalog, false),
    (I::SqlDdlSchema, false),
    (I::SqlDdlTable, true),
    (I::SqlAllTablesAreSelectable, true),
    (I::SqlSupportsColumnAliasing, true),
    (I::SqlNullPlusNullIsNull, true),
    (I::SqlSupportsTableCorrelationNames, true),
    (I::SqlSupportsDifferentTableCorrelationNames, false),
    (I::SqlSupportsExpressionsInOrderBy, true),
    (I::SqlSupportsOrderByUnrelated, true),
    (I::SqlSupportsLikeEscapeClause, true),
    (I::SqlSupportsNonNullableColumns, true),
    (I::SqlSupportsIntegrityEnhancementFacility, false),
    (I::SqlCatalogAtStart, true),
    (I::SqlSelectForUpdateSupported, false),
    (I::SqlStoredProceduresSupported, false),
    (I::SqlCorrelatedSubqueriesSupported, true),
    (I::SqlMaxRowSizeIncludesBlobs, false),
    (I::SqlTransactionsSupported, false),
    (I::SqlDataDefinitionCausesTransactionCommit, false),
    (I::SqlDataDefinitionsInTransactionsIgnored, false),
    (I::SqlBatchUpdatesSupported, true),
    (I::SqlSavepointsSupported, false),
    (I::SqlNamedParametersSupported, false),
    (I::SqlLocatorsUpdateCopy, false),
    (I::SqlStoredFunctionsUsingCallSyntaxSupported, false),
];

/// Ordinals and bit masks (bit n for the value n of the enumeration).
const NUMBERS: &[(I, i32)] = &[
    (I::FlightSqlServerTransaction, 0),
    (I::FlightSqlServerTransactionTimeout, 0),
    (I::SqlSupportedGroupBy, 0b11),
    (I::SqlSupportedGrammar, 0b111),
    (I::SqlAnsi92SupportedLevel, 0b001),
    (I::SqlOuterJoinsSupportLevel, 0b110),
    (I::SqlSchemasSupportedActions, 0),
    (I::SqlCatalogsSupportedActions, 0),
    (I::SqlSupportedPositionedCommands, 0),
    (I::SqlSupportedSubqueries, 0b0111),
    (I::SqlSupportedUnions, 0b11),
    (I::SqlSupportedTransactionsIsolationLevels, 0b1),
    (I::SqlSupportedResultSetTypes, 0b0010),
    (I::SqlSupportedConcurrenciesForResultSetUnspecified, 0),
    (I::SqlSupportedConcurrenciesForResultSetForwardOnly, 0b010),
    (I::SqlSupportedConcurrenciesForResultSetScrollSensitive, 0),
    (I::SqlSupportedConcurrenciesForResultSetScrollInsensitive, 0),
];

/// 0 stands for "no limit" in the lengths, from 541 to 561.
const LONG_NUMBERS: &[(I, i64)] = &[
    (I::SqlIdentifierCase, 3),       // unquoted names become lowercase
    (I::SqlQuotedIdentifierCase, 0), // none of the values says "kept as it is written"
    (I::SqlNullOrdering, 0),         // NULLs sort high: last in ASC, first in DESC
    (I::SqlMaxBinaryLiteralLength, 0),
    (I::SqlMaxCharLiteralLength, 0),
    (I::SqlMaxColumnNameLength, 0),
    (I::SqlMaxColumnsInGroupBy, 0),
    (I::SqlMaxColumnsInIndex, 0),
    (I::SqlMaxColumnsInOrderBy, 0),
    (I::SqlMaxColumnsInSelect, 0),
    (I::SqlMaxColumnsInTable, 0),
    (I::SqlMaxConnections, 0),
    (I::SqlMaxCursorNameLength, 0),
    (I::SqlMaxIndexLength, 0),
    (I::SqlDbSchemaNameLength, 0),
    (I::SqlMaxProcedureNameLength, 0),
    (I::SqlMaxCatalogNameLength, 0),
    (I::SqlMaxRowSize, 0),
    (I::SqlMaxStatements, 0),
    (I::SqlMaxTableNameLength, 0),
    (I::SqlMaxTablesInSelect, 0),
    (I::SqlMaxUsernameLength, 0),
    (I::SqlDefaultTransactionIsolation, 0),
];

/// Words of the dialect that SQL:2003 has not got; tools quote names that are among them.
const KEYWORDS: &[&str] = &[
    "DESCRIBE",
    "EXPECT",
    "EXPLAIN",
    "ILIKE",
    "LIMIT",
    "MATERIALIZED",
    "OFFSET",
    "QUALIFY",
    "QUARANTINE",
    "REFRESH",
    "RESUME",
    "SHOW",
    "SUSPEND",
    "TRUNCATE",
    "VIOLATION",
];

/// Answer GetSqlInfo for these numbers, or all where there are none.
pub(crate) fn answer(
    session: &SessionContext,
    principal: &Principal,
    limits: &Limits,
    numbers: Vec<u32>,
) -> Result<RecordBatch, Status> {
    let mut builder = SqlInfoDataBuilder::new();
    TEXTS.iter().for_each(|(number, value)| builder.append(*number, *value));
    FLAGS.iter().for_each(|(number, value)| builder.append(*number, *value));
    NUMBERS.iter().for_each(|(number, value)| builder.append(*number, *value));
    LONG_NUMBERS.iter().for_each(|(number, value)| builder.append(*number, *value));
    builder.append(I::FlightSqlServerReadOnly, !principal.may_write());
    let idle_ms = i32::try_from(limits.prepared_idle_max.as_millis()).unwrap_or(i32::MAX);
    builder.append(I::FlightSqlServerStatementTimeout, idle_ms);
    builder.append(I::SqlMaxStatementLength, i64::try_from(limits.sql_bytes_max).unwrap_or(0));
    builder.append(I::SqlKeywords, KEYWORDS);
    for (number, section) in [
        (I::SqlNumericFunctions, "Math Functions"),
        (I::SqlStringFunctions, "String Functions"),
        (I::SqlSystemFunctions, "Other Functions"),
        (I::SqlDatetimeFunctions, "Time and Date Functions"),
    ] {
        builder.append(number, functions(session, section));
    }
    builder.append(I::SqlSupportsConvert, conversions());
    builder.build().and_then(|infos| infos.record_batch(numbers)).map_err(Status::from)
}

/// Names of the scalar functions in one section of DataFusion's documentation, sorted.
fn functions(session: &SessionContext, section: &str) -> Vec<String> {
    let state = session.state();
    let functions = state.scalar_functions().iter();
    let mut names: Vec<String> = functions
        .filter(|(_, function)| function.documentation().is_some_and(|text| text.doc_section.label == section))
        .map(|(name, _)| name.clone())
        .collect();
    names.sort_unstable();
    names
}

/// What CONVERT can do, in numbers of `SqlSupportsConvert`: numbers, texts and booleans among each other, dates and
/// timestamps to each other and to texts.
fn conversions() -> std::collections::BTreeMap<i32, Vec<i32>> {
    const VALUES: [i32; 11] = [0, 2, 3, 5, 6, 7, 12, 13, 14, 17, 19];
    const TIMES: [i32; 4] = [3, 4, 16, 19];
    let values = VALUES.into_iter().map(|from| (from, VALUES.to_vec()));
    values.chain([4, 16].map(|from| (from, TIMES.to_vec()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_standard_number_is_answered_once() {
        let mut numbers: Vec<i32> = TEXTS.iter().map(|(number, _)| *number as i32).collect();
        numbers.extend(FLAGS.iter().map(|(number, _)| *number as i32));
        numbers.extend(NUMBERS.iter().map(|(number, _)| *number as i32));
        numbers.extend(LONG_NUMBERS.iter().map(|(number, _)| *number as i32));
        numbers.extend([3, 100, 557, 508, 509, 510, 511, 512, 517]);
        numbers.sort_unstable();
        let expected: Vec<i32> = (0..=11).chain(100..=101).chain(500..=576).collect();
        assert_eq!(numbers, expected);
    }
}
