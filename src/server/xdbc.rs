//! The types there are, in the words of ODBC and JDBC: the answer to GetXdbcTypeInfo.
//!
//! The names are those of [`super::wire::type_name`]; Power BI looks a column's type up here by its name.

use arrow::record_batch::RecordBatch;
use arrow_flight::sql::metadata::{XdbcTypeInfo, XdbcTypeInfoDataBuilder};
use arrow_flight::sql::{CommandGetXdbcTypeInfo, Nullable, Searchable, XdbcDataType as X, XdbcDatetimeSubcode as Sub};
use tonic::Status;

/// Answer GetXdbcTypeInfo; a number of a type that does not exist gives no rows.
pub(crate) fn answer(command: CommandGetXdbcTypeInfo) -> Result<RecordBatch, Status> {
    let mut builder = XdbcTypeInfoDataBuilder::new();
    for info in types() {
        builder.append(info);
    }
    let infos = builder.build().map_err(Status::from)?;
    command.into_builder(&infos).build().map_err(Status::from)
}

fn types() -> Vec<XdbcTypeInfo> {
    let mut types = vec![quoted("VARCHAR", X::XdbcVarchar, i32::MAX), plain("BOOLEAN", X::XdbcBit, 1)];
    types.push(quoted("VARBINARY", X::XdbcVarbinary, i32::MAX));
    for (name, unsigned_name, data_type, digits, unsigned_digits) in [
        ("TINYINT", "TINYINT UNSIGNED", X::XdbcTinyint, 3, 3),
        ("SMALLINT", "SMALLINT UNSIGNED", X::XdbcSmallint, 5, 5),
        ("INTEGER", "INTEGER UNSIGNED", X::XdbcInteger, 10, 10),
        ("BIGINT", "BIGINT UNSIGNED", X::XdbcBigint, 19, 20),
    ] {
        types.push(number(name, data_type, digits, false));
        types.push(number(unsigned_name, data_type, unsigned_digits, true));
    }
    types.push(number("REAL", X::XdbcReal, 7, false));
    types.push(number("DOUBLE", X::XdbcDouble, 15, false));
    types.push(XdbcTypeInfo {
        create_params: Some(vec!["precision".into(), "scale".into()]),
        minimum_scale: Some(0),
        maximum_scale: Some(38),
        ..number("DECIMAL", X::XdbcDecimal, 38, false)
    });
    types.push(time("DATE", X::XdbcDate, 10, Sub::XdbcSubcodeYear));
    types.push(time("TIME", X::XdbcTime, 15, Sub::XdbcSubcodeTime));
    types.push(time("TIMESTAMP", X::XdbcTimestamp, 26, Sub::XdbcSubcodeTimestamp));
    types.push(time("TIMESTAMP WITH TIME ZONE", X::XdbcTimestamp, 32, Sub::XdbcSubcodeTimestampWithTimezone));
    types.push(XdbcTypeInfo { sql_data_type: X::XdbcInterval, ..quoted("INTERVAL", X::XdbcInterval, 32) });
    types
}

fn plain(name: &str, data_type: X, size: i32) -> XdbcTypeInfo {
    XdbcTypeInfo {
        type_name: name.into(),
        local_type_name: Some(name.into()),
        data_type,
        sql_data_type: data_type,
        column_size: Some(size),
        nullable: Nullable::NullabilityNullable,
        searchable: Searchable::Full,
        auto_increment: Some(false),
        ..XdbcTypeInfo::default()
    }
}

fn quoted(name: &str, data_type: X, size: i32) -> XdbcTypeInfo {
    XdbcTypeInfo {
        literal_prefix: Some("'".into()),
        literal_suffix: Some("'".into()),
        case_sensitive: true,
        ..plain(name, data_type, size)
    }
}

fn number(name: &str, data_type: X, digits: i32, unsigned: bool) -> XdbcTypeInfo {
    XdbcTypeInfo { unsigned_attribute: Some(unsigned), num_prec_radix: Some(10), ..plain(name, data_type, digits) }
}

fn time(name: &str, data_type: X, size: i32, subcode: Sub) -> XdbcTypeInfo {
    XdbcTypeInfo {
        literal_prefix: Some(format!("{} '", name.split(' ').next().unwrap_or(name))),
        sql_data_type: X::XdbcDatetime,
        datetime_subcode: Some(subcode),
        case_sensitive: false,
        ..quoted(name, data_type, size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::wire::type_name;
    use arrow::array::AsArray;
    use arrow::datatypes::{DataType, TimeUnit};

    #[test]
    fn every_scalar_type_of_the_wire_is_listed_under_its_name() {
        let all = answer(CommandGetXdbcTypeInfo { data_type: None }).unwrap();
        let names: Vec<&str> = all.column(0).as_string::<i32>().iter().flatten().collect();
        for data_type in [
            DataType::Boolean,
            DataType::Int64,
            DataType::UInt8,
            DataType::Float64,
            DataType::Decimal128(10, 2),
            DataType::Utf8,
            DataType::Binary,
            DataType::Date32,
            DataType::Time64(TimeUnit::Microsecond),
            DataType::Timestamp(TimeUnit::Microsecond, None),
            DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            DataType::Duration(TimeUnit::Second),
        ] {
            assert!(names.contains(&type_name(&data_type)), "{data_type}");
        }
        assert_eq!(answer(CommandGetXdbcTypeInfo { data_type: Some(93) }).unwrap().num_rows(), 2);
        assert_eq!(answer(CommandGetXdbcTypeInfo { data_type: Some(4711) }).unwrap().num_rows(), 0);
    }
}
