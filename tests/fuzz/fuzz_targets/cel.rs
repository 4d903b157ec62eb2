//! Any text is an expression or is refused, and its evaluation ends.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::json;
use wickie_cel::{Expression, Scope, Variables};

fuzz_target!(|text: &str| {
    let Ok(expression) = Expression::new(text, Variables::Fields) else { return };
    let object = json!({"a": {"b": [1, "añb", {"a": 2.5}], "c": null}, "b": "text", "c": [true, [], {}]});
    if let Some(fields) = object.as_object() {
        let _ = expression.holds(Scope::Fields(fields));
    }
});
