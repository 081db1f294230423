//! Whether two metadata documents of one array mean the same: before more of it is added, and
//! before a stopped run resumes.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

/// Attributes that change what the stored numbers mean.
pub const MEANING: [&str; 7] =
    ["scale_factor", "add_offset", "_FillValue", "missing_value", "_Unsigned", "units", "calendar"];

/// Which shapes agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shapes {
    /// Equal ones.
    Equal,
    /// One that has grown along any dimension since.
    Grown,
}

/// Compares two version 3 metadata documents of one array; harmless differences are added to
/// `changes`.
///
/// # Errors
///
/// What makes them incompatible, as the end of a sentence about the array.
pub fn compare(
    then: &[u8],
    now: &[u8],
    shapes: Shapes,
    changes: &mut Vec<String>,
) -> Result<(), String> {
    if then == now {
        return Ok(());
    }
    let parse = |document: &[u8]| {
        serde_json::from_slice::<Map<String, Value>>(document)
            .map_err(|error| format!("its metadata cannot be read ({error})"))
    };
    let (then, now) = (parse(then)?, parse(now)?);
    let fields: BTreeSet<&String> = then.keys().chain(now.keys()).collect();
    for field in fields {
        let (was, is) = (then.get(field), now.get(field));
        match field.as_str() {
            "shape" => changes.extend(shape(was, is, shapes)?),
            "attributes" => attributes(was, is, changes)?,
            _ if same(was.unwrap_or(&Value::Null), is.unwrap_or(&Value::Null)) => {}
            _ if says_nothing(was) && says_nothing(is) => {}
            field => {
                return Err(format!("its {field} was {} and is {} now", shown(was), shown(is)));
            }
        }
    }
    Ok(())
}

/// Equal, whether a number is written with a fraction or without.
fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => {
            one == other || (one.as_f64() == other.as_f64() && (one.is_f64() || other.is_f64()))
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one.iter().all(|(key, one)| other.get(key).is_some_and(|other| same(one, other)))
        }
        _ => one == other,
    }
}

/// An optional field that is absent, null or empty.
fn says_nothing(value: Option<&Value>) -> bool {
    value.is_none_or(|value| value.is_null() || value.as_array().is_some_and(Vec::is_empty))
}

/// What a difference of shapes means.
fn shape(
    was: Option<&Value>,
    is: Option<&Value>,
    shapes: Shapes,
) -> Result<Option<String>, String> {
    let lengths = |shape: Option<&Value>| {
        shape
            .and_then(Value::as_array)
            .map(|shape| shape.iter().filter_map(Value::as_u64).collect::<Vec<_>>())
            .unwrap_or_default()
    };
    let (then, now) = (lengths(was), lengths(is));
    if then == now {
        return Ok(None);
    }
    let longer = then.len() == now.len() && then.iter().zip(&now).all(|(then, now)| now >= then);
    if shapes == Shapes::Equal || !longer {
        return Err(format!("its shape was {then:?} and is {now:?} now"));
    }
    Ok(Some(format!(
        "it has grown from {then:?} to {now:?} since this ingest began, which resumes at the \
         former; append the rest afterwards"
    )))
}

fn attributes(
    was: Option<&Value>,
    is: Option<&Value>,
    changes: &mut Vec<String>,
) -> Result<(), String> {
    let empty = Map::new();
    let all = |attributes: Option<&'_ Value>| {
        attributes.and_then(Value::as_object).cloned().unwrap_or_else(|| empty.clone())
    };
    let (then, now) = (all(was), all(is));
    if then == now {
        return Ok(());
    }
    for name in MEANING {
        let (then, now) = (then.get(name), now.get(name));
        if !same(then.unwrap_or(&Value::Null), now.unwrap_or(&Value::Null)) {
            return Err(format!(
                "its attribute {name} was {} and is {} now",
                shown(then),
                shown(now)
            ));
        }
    }
    changes.push("its attributes have changed; those of the beginning are kept".to_owned());
    Ok(())
}

fn shown(value: Option<&Value>) -> String {
    value.map_or_else(|| "absent".to_owned(), Value::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compared(then: &str, now: &str, shapes: Shapes) -> Result<Vec<String>, String> {
        let mut changes = Vec::new();
        compare(then.as_bytes(), now.as_bytes(), shapes, &mut changes).map(|()| changes)
    }

    #[test]
    fn growth_and_titles_are_harmless() {
        let grown = |then, now| compared(then, now, Shapes::Grown);
        assert_eq!(grown(r#"{"a": 1}"#, r#"{ "a": 1, "b": null, "c": [] }"#).unwrap(), [""; 0]);
        assert_eq!(grown(r#"{"fill_value": 0}"#, r#"{"fill_value": 0.0}"#).unwrap(), [""; 0]);
        let changes = grown(r#"{"shape": [3, 4]}"#, r#"{"shape": [5, 4]}"#).unwrap();
        assert!(changes[0].contains("from [3, 4] to [5, 4]"), "{changes:?}");
        let titles = [r#"{"attributes": {"title": "a"}}"#, r#"{"attributes": {"title": "b"}}"#];
        assert_eq!(grown(titles[0], titles[1]).unwrap().len(), 1);
    }

    #[test]
    fn what_changes_the_numbers_is_not() {
        for (then, now, said) in [
            (r#"{"shape": [3]}"#, r#"{"shape": [2]}"#, "shape was [3] and is [2]"),
            (r#"{"shape": [3]}"#, r#"{"shape": [3, 1]}"#, "shape was"),
            (r#"{"data_type": "int8"}"#, r#"{"data_type": "int16"}"#, "data_type was \"int8\""),
            (r#"{"fill_value": 0}"#, r#"{"fill_value": 1}"#, "fill_value was 0 and is 1"),
            (r#"{"attributes": {}}"#, r#"{"attributes": {"units": "K"}}"#, "units was absent"),
        ] {
            let error = compared(then, now, Shapes::Grown).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }

    /// Regression, found by fuzzing: a number of many digits was read as a neighbour of its double,
    /// and a document that was written again in fewer digits was another one.
    #[test]
    fn a_number_in_other_digits_is_the_same() {
        let digits = [
            ("53.74569764496049", "53.7456976449604866274967207573354244232177734375"),
            ("91.50488850818105", "91.50488850818105390772"),
            ("216.56498911739862", "2.1656498911739862478498e2"),
        ];
        let places = [
            r#"{"fill_value": #}"#,
            r#"{"attributes": {"scale_factor": #}}"#,
            r#"{"codecs": [{"name": "fixedscaleoffset", "configuration": {"offset": #}}]}"#,
        ];
        for (few, many) in digits {
            for place in places {
                let document = |number: &str| place.replace('#', number);
                let same = compared(&document(few), &document(many), Shapes::Equal);
                assert_eq!(same, Ok(Vec::new()), "{place} {few} {many}");
                // The next double is another number.
                let number: f64 = few.parse().unwrap();
                let next = format!("{:?}", number.next_up());
                assert!(compared(&document(few), &document(&next), Shapes::Equal).is_err());
            }
        }
    }

    #[test]
    fn lengths_differ_only_where_they_may() {
        let shapes = |then: [u64; 2], now: [u64; 2], shapes| {
            let document = |shape: [u64; 2]| format!(r#"{{"shape": {shape:?}}}"#);
            compared(&document(then), &document(now), shapes).is_ok()
        };
        assert!(shapes([3, 4], [9, 4], Shapes::Grown));
        assert!(!shapes([3, 4], [2, 5], Shapes::Grown));
        assert!(!shapes([3, 4], [9, 4], Shapes::Equal));
        assert!(shapes([3, 4], [3, 4], Shapes::Equal));
    }
}
