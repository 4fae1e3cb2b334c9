//! Against hand-written cases, and against serde_json on random texts, whole and damaged.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BinaryViewArray, LargeBinaryArray, LargeStringArray, StringArray,
    StringViewArray, StructArray,
};
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion_common::ScalarValue;
use datafusion_common::config::ConfigOptions;
use datafusion_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF};
use serde_json::Value;

use super::*;

fn plan(columns: &str) -> Result<FieldRef> {
    let schema = ScalarValue::Utf8(Some(columns.into()));
    let text: FieldRef = Arc::new(Field::new("text", DataType::Utf8, true));
    ScalarUDF::from(FromJson::new()).return_field_from_args(ReturnFieldArgs {
        arg_fields: &[text.clone(), text],
        scalar_arguments: &[None, Some(&schema)],
    })
}

fn decode(texts: ArrayRef, columns: &str) -> StructArray {
    let args = ScalarFunctionArgs {
        number_rows: texts.len(),
        arg_fields: vec![],
        args: vec![ColumnarValue::Array(texts), ColumnarValue::Scalar(ScalarValue::Utf8(Some(columns.into())))],
        return_field: plan(columns).unwrap(),
        config_options: Arc::new(ConfigOptions::default()),
    };
    match ScalarUDF::from(FromJson::new()).invoke_with_args(args).unwrap() {
        ColumnarValue::Array(array) => array.as_struct().clone(),
        ColumnarValue::Scalar(scalar) => panic!("{scalar}"),
    }
}

/// The decoded rows as text: values in the order of the columns, `-` for NULL, `NULL` for a NULL struct.
fn rows(texts: &[&str], columns: &str) -> Vec<String> {
    let decoded = decode(Arc::new(StringArray::from(texts.to_vec())), columns);
    let options = FormatOptions::default().with_null("-");
    let columns: Vec<ArrayFormatter<'_>> =
        decoded.columns().iter().map(|column| ArrayFormatter::try_new(column, &options).unwrap()).collect();
    (0..texts.len())
        .map(|row| match decoded.is_null(row) {
            true => {
                assert!(decoded.columns().iter().all(|column| column.is_null(row)), "fields of a NULL struct are NULL");
                "NULL".to_string()
            }
            false => columns.iter().map(|column| column.value(row).to_string()).collect::<Vec<_>>().join("|"),
        })
        .collect()
}

fn row(text: &str, columns: &str) -> String {
    rows(&[text], columns).remove(0)
}

#[test]
fn every_type() {
    let columns = "t TEXT, b BIGINT, i INT, s SMALLINT, d DOUBLE, f BOOLEAN, day DATE, at TIMESTAMP, m DECIMAL(12,2)";
    let text = r#"{"t":"x","b":-9223372036854775808,"i":2147483647,"s":-32768,"d":0.1,"f":true,"day":"2026-11-08",
                   "at":"2026-11-08T14:03:22.5Z","m":499.99}"#;
    let expected = "x|-9223372036854775808|2147483647|-32768|0.1|true|2026-11-08|2026-11-08T14:03:22.500Z|499.99";
    assert_eq!(row(text, columns), expected);
    let strings = r#"{"t":"x","b":"-9223372036854775808","i":"2147483647","s":" -32768 ","d":"0.1","f":"true",
                      "day":"2026-11-08","at":"2026-11-08T19:33:22.5+05:30","m":"499.99"}"#;
    assert_eq!(row(strings, columns), expected);
    assert_eq!(row("{}", columns), "-|-|-|-|-|-|-|-|-");
    assert_eq!(row(r#"{"t":null,"m":null,"f":null,"at":null}"#, columns), "-|-|-|-|-|-|-|-|-");
}

#[test]
fn a_value_that_does_not_fit_is_null_alone() {
    let columns = "id TEXT, b BIGINT, i INT, s SMALLINT, d DOUBLE, f BOOLEAN, day DATE, at TIMESTAMP, m DECIMAL(4,2)";
    for text in [
        r#"{"id":"k","b":9223372036854775808,"i":2147483648,"s":32768,"d":1e999,"f":1,"day":20261108,"at":1,"m":100}"#,
        r#"{"id":"k","b":"abc","i":"","s":"1.5","d":"x","f":"yes","day":"8.11.2026","at":"now","m":"99.995"}"#,
        r#"{"id":"k","b":{},"i":[],"s":true,"d":{"a":1},"f":"","day":null,"at":{},"m":[1]}"#,
        r#"{"id":"k","b":-9223372036854775809,"i":1e10,"s":"-32769","d":"1e400","m":-1e99}"#,
    ] {
        assert_eq!(row(text, columns), "k|-|-|-|-|-|-|-|-", "{text}");
    }
}

#[test]
fn text_takes_any_value() {
    let texts = [r#"{"t":12.50}"#, r#"{"t":true}"#, r#"{"t": [1, {"a":"}"}] }"#, r#"{"t":""}"#, r#"{"t":"null"}"#];
    assert_eq!(rows(&texts, "t VARCHAR"), ["12.50", "true", r#"[1, {"a":"}"}]"#, "", "null"]);
}

#[test]
fn strings_with_escapes() {
    let text = r#"{"t":"a\"b\\c\/d\b\f\n\r\t\u0041\u00e9\u092c\ud83d\ude00z"}"#;
    assert_eq!(row(text, "t TEXT"), "a\"b\\c/d\u{8}\u{c}\n\r\tAé\u{92c}😀z");
    assert_eq!(row(r#"{"t":"\u20b9 नमस्ते 😀"}"#, "t TEXT"), "₹ नमस्ते 😀");
    // A key may be escaped, too, and a number in a string.
    assert_eq!(row(r#"{"\u0074":"\u0034\u0032"}"#, "t INT"), "42");
    assert_eq!(row(r#"{"at":"2026-11-08T14:03:22\u005A"}"#, "at TIMESTAMP"), "2026-11-08T14:03:22Z");
}

#[test]
fn what_is_no_object_is_null() {
    let good = r#"{"a":{"b":[1,2]},"id":7}"#;
    assert_eq!(row(good, "id INT"), "7");
    for end in 0..good.len() {
        assert_eq!(row(&good[..end], "id INT"), "NULL", "{end}");
    }
    for text in [
        "null",
        "7",
        "[]",
        r#""x""#,
        "{}}",
        "{} {}",
        "{}x",
        "{,}",
        r#"{"id":7,}"#,
        r#"{"id" 7}"#,
        r#"{id:7}"#,
        r#"{"id":07}"#,
        r#"{"id":7.}"#,
        r#"{"id":.7}"#,
        r#"{"id":+7}"#,
        r#"{"id":1e}"#,
        r#"{"id":-}"#,
        r#"{"id":tru}"#,
        r#"{"id":7 "a":1}"#,
        r#"{"id":"\x"}"#,
        r#"{"id":"\u12"}"#,
        r#"{"x":"\ud800"}"#,
        r#"{"x":"\udc00"}"#,
        r#"{"x":"\ud800\u0041"}"#,
        "{\"x\":\"\n\"}",
        "{\"x\":\"\u{0}\"}",
        r#"{"x":[1,]}"#,
        r#"{"x":[1}"#,
        r#"{"x":{"y"}}"#,
        "\u{feff}{}",
        r#"{"x":nul}"#,
        r#"{'id':7}"#,
        "{\"id\":7}\u{a0}",
    ] {
        assert_eq!(row(text, "id INT"), "NULL", "{text}");
    }
    assert_eq!(row(" \t\r\n{ \"id\" : 7 , \"x\" : [ ] } \n", "id INT"), "7");
}

#[test]
fn of_repeated_keys_the_last_counts() {
    assert_eq!(row(r#"{"id":1,"id":2}"#, "id INT"), "2");
    assert_eq!(row(r#"{"id":1,"id":null}"#, "id INT"), "-");
    assert_eq!(row(r#"{"id":1,"id":"x"}"#, "id INT"), "-");
}

#[test]
fn the_order_of_keys_may_change_at_any_record() {
    let texts: Vec<String> = (0..1000)
        .map(|n| match n % 4 {
            0 => format!(r#"{{"a":{n},"b":"b{n}","c":true}}"#),
            1 => format!(r#"{{"c":true,"x":{{}},"b":"b{n}","a":"{n}"}}"#),
            2 => format!(r#"{{"new{n}":0, "b": "b{n}", "a" : {n}, "c":true}}"#),
            _ => format!(r#"{{"b":"b{n}","a":{n}.0,"aa":1,"c":true}}"#),
        })
        .collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    for (n, row) in rows(&texts, "a INT, b TEXT, c BOOLEAN").iter().enumerate() {
        assert_eq!(*row, format!("{n}|b{n}|true"));
    }
}

#[test]
fn names_that_need_escapes() {
    let columns = r#""a b" INT, "q""q" INT, "x"":1,""y" INT"#;
    assert_eq!(row(r#"{"a b":1,"q\"q":2,"x\":1,\"y":3}"#, columns), "1|2|3");
    assert_eq!(row(r#"{"a b":1,"x":1,"y":3}"#, columns), "1|-|-");
}

#[test]
fn nesting_is_followed_to_its_limit_and_not_beyond() {
    let nested = |levels: usize| format!("{{\"x\":{}{},\"id\":7}}", "[".repeat(levels), "]".repeat(levels));
    for (levels, expected) in [(1, "7"), (126, "7"), (127, "NULL"), (1_000_000, "NULL")] {
        let text = nested(levels);
        assert_eq!(row(&text, "id INT"), expected, "{levels}");
        assert_eq!(serde_json::from_str::<Value>(&text).is_ok(), expected == "7", "{levels}");
    }
    let open = "{\"x\":".repeat(1_000_000);
    assert_eq!(row(&open, "id INT"), "NULL");
}

#[test]
fn every_layout_of_text_gives_the_same() {
    let texts =
        vec![Some(r#"{"id":1,"t":"₹"}"#), None, Some("{"), Some(""), Some(r#"{"id":2,"t":"longer than twelve"}"#)];
    let bytes: Vec<Option<&[u8]>> = texts.iter().map(|text| text.map(str::as_bytes)).collect();
    let expected = decode(Arc::new(StringArray::from(texts.clone())), "id INT, t TEXT");
    assert_eq!(expected.nulls().unwrap().iter().collect::<Vec<_>>(), [true, false, false, false, true]);
    let arrays: Vec<ArrayRef> = vec![
        Arc::new(LargeStringArray::from(texts.clone())),
        Arc::new(StringViewArray::from(texts)),
        Arc::new(BinaryArray::from(bytes.clone())),
        Arc::new(LargeBinaryArray::from(bytes.clone())),
        Arc::new(BinaryViewArray::from(bytes)),
    ];
    for array in arrays {
        assert_eq!(decode(array.clone(), "id INT, t TEXT"), expected, "{}", array.data_type());
        let sliced = decode(array.slice(3, 2), "id INT, t TEXT");
        assert_eq!(sliced, expected.slice(3, 2), "{}", array.data_type());
    }
    let empty = decode(Arc::new(BinaryArray::from(Vec::<Option<&[u8]>>::new())), "id INT");
    assert_eq!(empty.len(), 0);
}

#[test]
fn bytes_that_are_no_text_spoil_their_record_only() {
    // The second record ends within a character whose rest begins the third.
    let bytes: Vec<&[u8]> =
        vec![b"{\"id\":1}", b"{\"id\":2} \xe2\x82", b"\xb9{\"id\":3}", b"{\"id\":\"\xff\"}", b"{\"id\":5}"];
    let decoded = decode(Arc::new(BinaryArray::from(bytes)), "id INT");
    assert_eq!(decoded.nulls().unwrap().iter().collect::<Vec<_>>(), [true, false, false, false, true]);
    let bytes: Vec<&[u8]> = vec![b"{\"id\":2} \xe2\x82", b"\xb9{\"id\":3}", b"{\"id\":4}"];
    let decoded = decode(Arc::new(BinaryArray::from(bytes)), "id INT");
    assert_eq!(decoded.nulls().unwrap().iter().collect::<Vec<_>>(), [false, false, true]);
}

#[test]
fn scalars_stay_scalars() {
    let field = plan("id INT").unwrap();
    for (text, valid) in [(Some("{\"id\":7}"), true), (Some("{"), false), (None, false)] {
        let args = ScalarFunctionArgs {
            number_rows: 5,
            arg_fields: vec![],
            args: vec![ColumnarValue::Scalar(ScalarValue::Utf8(text.map(String::from)))],
            return_field: field.clone(),
            config_options: Arc::new(ConfigOptions::default()),
        };
        match ScalarUDF::from(FromJson::new()).invoke_with_args(args).unwrap() {
            ColumnarValue::Scalar(ScalarValue::Struct(array)) => assert_eq!(array.is_valid(0), valid),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn mistakes_in_the_arguments_are_found_when_planning() {
    let function = ScalarUDF::from(FromJson::new());
    for (types, part) in [
        (vec![DataType::Utf8], "takes a text and its columns"),
        (vec![DataType::Int32, DataType::Utf8], "reads strings and bytes, not Int32"),
        (vec![DataType::Utf8, DataType::Int32], "a string literal, not Int32"),
    ] {
        let message = function.coerce_types(&types).unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    }
    let text: FieldRef = Arc::new(Field::new("text", DataType::Utf8, true));
    let args = ReturnFieldArgs { arg_fields: &[text.clone(), text], scalar_arguments: &[None, None] };
    assert!(function.return_field_from_args(args).unwrap_err().to_string().contains("string literal"));
}

/// A small random number generator, so that every run tests the same texts.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % limit
    }

    fn space(&mut self) -> &'static str {
        ["", "", "", "", " ", "\n", "\t \r"][self.below(7)]
    }

    fn string(&mut self) -> String {
        const PARTS: [&str; 16] = [
            "a",
            "view",
            "S001",
            "12",
            "-7.50",
            "\\\"",
            "\\\\",
            "\\n",
            "\\u0041",
            "\\ud83d\\ude00",
            "é",
            "ब",
            "😀",
            " ",
            "a longer text of words",
            "\\/",
        ];
        (0..self.below(5)).map(|_| PARTS[self.below(PARTS.len())]).collect()
    }

    fn value(&mut self, depth: usize) -> String {
        const NUMBERS: [&str; 12] = [
            "0",
            "-0",
            "7",
            "12.5",
            "1e3",
            "-2.5E-2",
            "9223372036854775807",
            "-9223372036854775808",
            "18446744073709551616",
            "0.1",
            "123456789.125",
            "1E+2",
        ];
        match self.below(if depth > 3 { 6 } else { 8 }) {
            0 => ["true", "false", "null"][self.below(3)].into(),
            1 | 2 => NUMBERS[self.below(NUMBERS.len())].into(),
            3..=5 => format!("\"{}\"", self.string()),
            6 => {
                let items: Vec<String> = (0..self.below(4)).map(|_| self.value(depth + 1)).collect();
                format!("[{}{}{}]", self.space(), items.join(","), self.space())
            }
            _ => self.object(depth + 1),
        }
    }

    fn object(&mut self, depth: usize) -> String {
        const KEYS: [&str; 9] = ["t", "n", "d", "t2", "", "unknown", "\\u0074", "other \\\"key\\\"", "ज"];
        let mut fields = Vec::new();
        for _ in 0..self.below(6) {
            let (key, value) = (KEYS[self.below(KEYS.len())], self.value(depth));
            let (a, b, c) = (self.space(), self.space(), self.space());
            fields.push(format!("{a}\"{key}\"{b}:{c}{value}{}", self.space()));
        }
        format!("{{{}{}}}", self.space(), fields.join(","))
    }

    /// Change a byte or two.
    fn damage(&mut self, text: &mut Vec<u8>) {
        const BYTES: &[u8] = b"\"\\{}[]:,0159.eE+-tfn \n\x00\x1f\x7f\x80\xc3\xff";
        for _ in 0..1 + self.below(2) {
            let at = self.below(text.len());
            let byte = BYTES[self.below(BYTES.len())];
            match self.below(4) {
                0 => text[at] = byte,
                1 => text.insert(at, byte),
                2 => drop(text.remove(at)),
                _ => text.truncate(at),
            }
            if text.is_empty() {
                return;
            }
        }
    }
}

#[test]
fn agrees_with_serde_json_on_random_texts() {
    let mut random = Random(2026);
    let mut accepted = [0; 2];
    for _ in 0..300 {
        let texts: Vec<Vec<u8>> = (0..200)
            .map(|_| {
                let mut text = random.object(0).into_bytes();
                if random.below(2) == 0 {
                    random.damage(&mut text);
                }
                text
            })
            .collect();
        let array: BinaryArray = texts.iter().map(|text| Some(text.as_slice())).collect();
        let decoded = decode(Arc::new(array), "t TEXT, n BIGINT, d DOUBLE, \"\" TEXT, \"other \"\"key\"\"\" TEXT");
        for (row, text) in texts.iter().enumerate() {
            let shown = String::from_utf8_lossy(text);
            let parsed = serde_json::from_slice::<Value>(text);
            if parsed.as_ref().is_err_and(|error| error.to_string().contains("number out of range")) {
                continue;
            }
            let object = parsed.ok().and_then(|value| value.as_object().cloned());
            assert_eq!(decoded.is_valid(row), object.is_some(), "{shown}");
            accepted[usize::from(object.is_some())] += 1;
            if let Some(object) = object {
                check_row(&decoded, row, &object, &shown);
            }
        }
    }
    assert!(accepted[0] > 10_000 && accepted[1] > 30_000, "{accepted:?}");
}

fn check_row(decoded: &StructArray, row: usize, object: &serde_json::Map<String, Value>, shown: &str) {
    for (column, name) in [(0, "t"), (3, ""), (4, "other \"key\"")] {
        let texts = decoded.column(column).as_string::<i32>();
        let text = texts.is_valid(row).then(|| texts.value(row));
        match object.get(name) {
            None | Some(Value::Null) => assert_eq!(text, None, "{shown}"),
            Some(Value::String(expected)) => assert_eq!(text, Some(expected.as_str()), "{shown}"),
            Some(other) => assert_eq!(serde_json::from_str::<Value>(text.unwrap()).unwrap(), *other, "{shown}"),
        }
    }
    let whole = decoded.column(1).as_primitive::<Int64Type>();
    let whole = whole.is_valid(row).then(|| whole.value(row));
    match object.get("n") {
        Some(Value::Number(number)) if number.is_i64() => assert_eq!(whole, number.as_i64(), "{shown}"),
        Some(Value::Number(number)) if number.as_f64().unwrap().fract() != 0.0 => assert_eq!(whole, None, "{shown}"),
        Some(Value::Number(number)) if number.as_f64().unwrap().abs() < 1e15 => {
            assert_eq!(whole, Some(number.as_f64().unwrap() as i64), "{shown}");
        }
        Some(Value::String(_)) => {}
        _ => assert_eq!(whole, None, "{shown}"),
    }
    let double = decoded.column(2).as_primitive::<Float64Type>();
    match object.get("d") {
        Some(Value::Number(number)) => {
            // serde_json's own floating-point numbers may be off in the last digit.
            let expected = number.as_f64().unwrap();
            assert!((double.value(row) - expected).abs() <= expected.abs() * 1e-15, "{shown}");
        }
        Some(Value::String(_)) => {}
        _ => assert!(double.is_null(row), "{shown}"),
    }
}
