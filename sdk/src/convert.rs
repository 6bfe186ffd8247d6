//! Converts between the two JSON trees that sinks use.

use serde_json::{Number, Value};
use simd_json::{OwnedValue, StaticNode};

/// Copies a tree for `serde_json`; NaN and infinities become `null`, since JSON cannot represent them.
pub fn owned_value_to_serde_json(value: &OwnedValue) -> Value {
    match value {
        OwnedValue::Static(StaticNode::Null) => Value::Null,
        OwnedValue::Static(StaticNode::Bool(bool)) => Value::Bool(*bool),
        OwnedValue::Static(StaticNode::I64(number)) => Value::from(*number),
        OwnedValue::Static(StaticNode::U64(number)) => Value::from(*number),
        OwnedValue::Static(StaticNode::F64(number)) => {
            Number::from_f64(*number).map_or(Value::Null, Value::Number)
        }
        OwnedValue::String(text) => Value::String(text.clone()),
        OwnedValue::Array(items) => items.iter().map(owned_value_to_serde_json).collect(),
        OwnedValue::Object(fields) => {
            fields.iter().map(|(name, value)| (name.clone(), owned_value_to_serde_json(value))).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_node() {
        let tree = simd_json::json!({
            "null": null, "bool": true, "int": -42, "big": u64::MAX, "float": 1.5,
            "text": "zażółć", "array": [1, [false], {}], "object": {"inner": {"x": "y"}},
        });
        let expected = serde_json::json!({
            "null": null, "bool": true, "int": -42, "big": u64::MAX, "float": 1.5,
            "text": "zażółć", "array": [1, [false], {}], "object": {"inner": {"x": "y"}},
        });
        assert_eq!(owned_value_to_serde_json(&tree), expected);
        for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert!(owned_value_to_serde_json(&OwnedValue::from(number)).is_null());
        }
    }
}
