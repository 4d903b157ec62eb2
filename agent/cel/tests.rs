use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::*;

fn till() -> Json {
    json!({
        "apiVersion": "example.com/v1", "kind": "Till",
        "metadata": {"name": "till", "generation": 3, "labels": {"app/version": "v1"}},
        "spec": {"replicas": 2, "ratio": 0.5, "names": ["a", "b"], "none": null, "empty": []},
        "status": {
            "observedGeneration": 3, "phase": "Running", "readyReplicas": 2,
            "conditions": [
                {"type": "Synced", "status": "True", "message": "as it should be"},
                {"type": "Ready", "status": "False", "reason": "Waits"}
            ]
        }
    })
}

fn on(text: &str, object: &Json) -> Result<bool, Failure> {
    let expression = Expression::new(text, Variables::Fields).unwrap_or_else(|why| panic!("{text}: {why}"));
    expression.holds(Scope::Fields(object.as_object().unwrap()))
}

fn refused(text: &str) -> String {
    Expression::new(text, Variables::Fields).expect_err(text).to_string()
}

/// Each of them is true of [`till`].
const TRUE: &[&str] = &[
    // What Flux's library of health checks is made of.
    "status.conditions.filter(e, e.type == 'Synced').all(e, e.status == 'True')",
    "status.conditions.exists(e, e.type == 'Ready' && e.status == 'False')",
    "status.conditions.exists_one(e, e.type == 'Ready')",
    "has(status.observedGeneration) && status.observedGeneration == metadata.generation",
    "status.phase == 'Running' || status.phase == 'Succeeded'",
    "status.phase in ['Running', 'Succeeded']",
    "size(status.conditions) == 2 && status.conditions.size() > 1",
    "!has(status.failed) && has(status.conditions)",
    "metadata.labels['app/version'] == 'v1'",
    "'app/version' in metadata.labels",
    "status.conditions.filter(e, e.type == 'Nothing').all(e, e.status == 'True')",
    "status.conditions.map(e, e.type) == ['Synced', 'Ready']",
    "status.conditions.map(e, e.status == 'True', e.type) == ['Synced']",
    "status.readyReplicas >= spec.replicas",
    "status.conditions[0].type == 'Synced' && status.conditions[1u].type == 'Ready'",
    "metadata.labels.all(key, key.startsWith('app/'))",
    "metadata.labels.exists(key, metadata.labels[key] == 'v1')",
    // What decides wins over an error beside it.
    "true || status.nothing == 1",
    "status.nothing == 1 || true",
    "!(status.nothing == 1 && false)",
    "[1, 0].exists(x, 1 / x == 1)",
    "![0, 1].all(x, 1 / x == 2)",
    "true ? true : status.nothing",
    // Numbers.
    "1 == 1.0 && 1u == 1 && 1.5 > 1 && 2u > 1 && -1 < 1u && 2.5 > 2 && 2 < 2.5",
    // Without rounding; the other evaluator rounds.
    "9223372036854775807 < 9223372036854775808.0",
    "7 / 2 == 3 && -7 / 2 == -3 && -7 % 2 == -1 && 7.0 / 2.0 == 3.5 && 2u * 3u == 6u",
    "int('12') + int(1.9) == 13 && double('1.5') == 1.5 && uint(3) == 3u && string(12) == '12'",
    "string(true) == 'true' && bool('true') && string(b'ab') == 'ab' && bytes('ab') == b'ab'",
    "spec.ratio == 0.5 && spec.none == null && spec.empty == []",
    "'1' != 1 && null != false && [1] != [2] && {'a': 1} == {'a': 1.0} && {'a': 1} != {'b': 1}",
    "type(1) == int && type('a') == string && type(spec) == map && type(int) == type && dyn(1) == 1",
    // Texts.
    "'abc'.contains('b') && 'abc'.startsWith('a') && 'abc'.endsWith('c') && 'abc'.matches('^a.c$')",
    "matches('abc', 'b') && 'a' + 'b' == 'ab' && 'a' < 'b' && size('año') == 3",
    "'Ab'.lowerAscii() == 'ab' && 'Ab'.upperAscii() == 'AB' && ' a '.trim() == 'a' && 'abc'.reverse() == 'cba'",
    "'tacocat'.indexOf('ac') == 1 && 'tacocat'.indexOf('a', 3) == 5 && 'tacocat'.indexOf('none') == -1",
    "'tacocat'.lastIndexOf('at') == 5 && 'tacocat'.lastIndexOf('a', 3) == 1 && 'tacocat'.charAt(7) == ''",
    "'tacocat'.substring(4) == 'cat' && 'tacocat'.substring(0, 4) == 'taco' && 'año'.charAt(1) == 'ñ'",
    "'a,b,c'.split(',') == ['a', 'b', 'c'] && 'a,b,c'.split(',', 2) == ['a', 'b,c'] && 'abc'.split('') == ['a', 'b', 'c']",
    "'a a'.replace('a', 'b') == 'b b' && 'a a'.replace('a', 'b', 1) == 'b a'",
    "['a', 'b'].join() == 'ab' && spec.names.join('-') == 'a-b'",
    // Sets, encoders, optional values.
    "sets.contains([1, 2, 3], [1, 2]) && sets.equivalent([1, 2, 2], [2, 1]) && !sets.intersects([1], [2])",
    "base64.encode(b'hello') == 'aGVsbG8=' && base64.decode('aGVsbG8') == b'hello'",
    "status.?nothing.orValue('x') == 'x' && status.?phase.orValue('x') == 'Running'",
    "!status.?nothing.?deeper.hasValue() && status.?nothing.deeper == optional.none()",
    "status.?conditions.orValue([]).exists(e, e.type == 'Ready')",
    "spec.names[?5].or(optional.of('c')).value() == 'c' && [?status.?nothing, 1] == [1]",
    "optional.ofNonZeroValue('') == optional.none() && {?'a': status.?nothing} == {}",
    // A macro's variable hides a field, and only inside.
    "spec.names.exists(spec, spec == 'a') && spec.names.all(x, spec.names.exists(y, x == y))",
    "[[1], [2, 3]].all(list, list.all(x, x > 0)) && [1, 2].map(x, [x, x].map(y, y + x)) == [[2, 2], [4, 4]]",
];

#[test]
fn expressions_are_what_the_language_says() {
    for text in TRUE {
        assert_eq!(on(text, &till()), Ok(true), "{text}");
    }
}

/// The crate's own parser and evaluator, which count nothing, say the same.
#[test]
fn another_evaluator_says_the_same() {
    use cel::{Context, Env, Program, Value, extensions, to_value};

    let mut env = Env::stdlib();
    env.add_extension(extensions::strings).unwrap();
    let env = std::sync::Arc::new(env);
    let mut compared = 0;
    for text in TRUE {
        // It knows no sets, and without the features that it would need for them no patterns and no encoders.
        if ["matches", "sets.", "base64", "dyn(", "775807"].iter().any(|without| text.contains(without)) {
            continue;
        }
        let program: Program = env.compile(text).unwrap_or_else(|why| panic!("{text}: {why}"));
        let mut context = Context::with_env(env.clone());
        for (name, field) in till().as_object().unwrap() {
            context.add_variable_from_value(name.clone(), to_value(field).unwrap());
        }
        assert_eq!(program.execute(&context), Ok(Value::Bool(true)), "{text}");
        compared += 1;
    }
    assert!(compared > 35, "{compared}");
}

#[test]
fn what_is_not_there_is_named() {
    for (text, named) in [
        ("status.conditions.all(e, e.status == 'True')", "status is not there"),
        ("has(status.x)", "status is not there"),
        ("spec.nothing == 1", "the field nothing is not there"),
        ("metadata.name.first == 'a'", "the field first cannot be had of string"),
        ("spec.list[3] == 1", "the item 3 is not there"),
        ("spec.list[0] + 'a' == 'a'", "+ cannot be had of int and string"),
        ("spec.list", "it gives list"),
        ("spec.list[0] && true", "&& cannot be had of int"),
        ("1 / 0 == 1", "divides by zero"),
        ("9223372036854775807 + 1 == 0", "out of range"),
    ] {
        let object = json!({"metadata": {"name": "a"}, "spec": {"list": [1]}});
        let why = on(text, &object).expect_err(text).to_string();
        assert!(why.contains(named), "{text}: {why}");
    }
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    for (text, named) in [
        ("status.at < timestamp('2026-01-01T00:00:00Z')", "timestamp"),
        ("status.a.format(['a']) == 'b'", "format"),
        ("status.?a.optMap(x, x == 1).orValue(false)", "optMap"),
        ("url(status.a) == 'a'", "url"),
        ("quantity(status.a).isGreaterThan(quantity('1'))", "isGreaterThan"),
        ("status.a.contains('a', 'b')", "contains"),
        ("status.conditions.exist(e, true)", "exist()"),
        ("'a'.matches('(')", "\"(\""),
        ("Till{name: 'a'} == 1", "message"),
        ("status.conditions.map(e, e.type)", "a list"),
        ("'True'", "a string"),
        ("size(status.conditions)", "an int"),
        ("status.phase ==", "line 1, column"),
        ("has(status)", "has"),
        ("", "line 1, column 1"),
        ("status.phase = 'a'", "line 1, column 14"),
    ] {
        let why = refused(text);
        assert!(why.contains(named), "{text}: {why}");
    }
}

#[test]
fn only_known_variables_where_they_are_known() {
    let known = Variables::Only(&["self", "dep"]);
    let expression =
        Expression::new("dep.metadata.labels['v'] == self.metadata.labels['v']", known).expect("it is one");
    let (one, other) = (json!({"metadata": {"labels": {"v": "1"}}}), json!({"metadata": {"labels": {"v": "2"}}}));
    assert_eq!(expression.holds(Scope::Named(&[("self", &one), ("dep", &one)])), Ok(true));
    assert_eq!(expression.holds(Scope::Named(&[("self", &one), ("dep", &other)])), Ok(false));
    let why = Expression::new("dependency.status == 1", known).unwrap_err().to_string();
    assert!(why.contains("dependency") && why.contains("self and dep"), "{why}");
    assert!(Expression::new("dep.items.all(x, x.y.all(y, y == x))", known).is_ok());
}

/// Evaluations that would never end, or fill the memory, end within the budget.
#[test]
fn an_endless_one_ends() {
    let names: Vec<_> = (0..5_000).map(|number| format!("name {number}")).collect();
    let object = json!({"spec": {"names": names, "text": "a".repeat(100_000)}});
    let doubled = (0..40).fold("['aaaaaaaaaaaaaaaa']".to_owned(), |text, _| format!("{text}.map(x, x + x)"));
    let nested = (0..40).fold("[spec.names]".to_owned(), |text, _| format!("{text}.map(x, [x, x, x, x])"));
    for text in [
        "spec.names.all(a, spec.names.all(b, spec.names.all(c, spec.names.all(d, a != b + c + d))))",
        "spec.names.map(a, spec.names).map(a, a + a) == []",
        "spec.text.replace('a', spec.text) == 'b'",
        "spec.text.split('').join(spec.text) == 'b'",
        "spec.names.all(a, spec.text.matches('(a?){50}b|x'))",
        "spec.names.all(a, spec.text.matches(a) || true)",
        "spec.names.all(a, spec.names == spec.names)",
        "spec.names.exists(a, a == 'none' || spec.names.exists(b, false)) || true",
        &format!("{doubled} == []"),
        &format!("{nested} == {nested}"),
    ] {
        let before = std::time::Instant::now();
        let held =
            Expression::new(text, Variables::Fields).map(|it| it.holds(Scope::Fields(object.as_object().unwrap())));
        assert!(matches!(held, Ok(Err(Failure::Budget)) | Err(Refused::TooDeep)), "{text}: {held:?}");
        // No figure to hold, only the difference between some milliseconds and hours.
        assert!(before.elapsed().as_secs() < 20, "{text}");
    }
}

/// Texts on which a parser that calls itself would come to the end of its stack.
#[test]
fn a_deep_one_is_refused() {
    let half = MAX_LENGTH / 2 - 2;
    for text in [
        "(".repeat(MAX_LENGTH),
        format!("{}a{}", "(".repeat(half), ")".repeat(half)),
        format!("{}a{}", "[".repeat(half), "]".repeat(half)),
        "!".repeat(MAX_LENGTH - 1) + "a",
        "-".repeat(MAX_LENGTH - 1) + "a",
        "{".repeat(MAX_LENGTH),
        format!("a{}", ".a".repeat(half)),
        format!("a{}", ".a()".repeat(half / 2)),
        format!("a{}", "[0]".repeat(half / 2)),
        format!("a{}", "+a".repeat(half)),
        format!("a{}", "?a:a".repeat(half / 2)),
        format!("a{}", "==a".repeat(half / 2)),
        "a?".repeat(half),
        "a.b(".repeat(half / 2),
        "a.all(x,".repeat(MAX_LENGTH / 8),
        "a".repeat(MAX_LENGTH + 1),
        format!("{}true{}", "a.all(x, ".repeat(5), ")".repeat(5)),
    ] {
        let before = std::time::Instant::now();
        let odd = Expression::new(&text, Variables::Fields);
        // Parentheses around one thing, and signs that cancel one another out, are nothing to the parser.
        assert!(odd.is_err() || text.starts_with('!') || text.starts_with("(("), "{text}");
        assert!(before.elapsed().as_secs() < 20, "{text}");
    }
    // What is only long is fine.
    let long = vec!["a == 1"; 400].join(" || ");
    assert_eq!(on(&long, &json!({"a": 1})), Ok(true));
}

proptest! {
    /// Nothing that anybody writes ends the program.
    #[test]
    fn any_text_is_read_or_refused(text in "[a-c0-9.()\\[\\]{}?:!&|+*/%<>='\"\\\\ ,rbux\u{e9}-]{0,60}") {
        if let Ok(expression) = Expression::new(&text, Variables::Fields) {
            let _ = expression.holds(Scope::Fields(json!({"a": {"b": [1, "c", {"a": 2.5}]}, "b": "text"}).as_object().unwrap()));
        }
    }

    #[test]
    fn any_call_is_done_or_fails(
        target in "('añb'|a|b|\\[1, 'x'\\]|5|-3|b'ab'|\\{'a': 1\\}|''|1\\.5|optional\\.of\\(1\\))",
        name in "(size|contains|charAt|indexOf|lastIndexOf|join|replace|split|substring|trim|reverse|matches|or|orValue|value|startsWith)",
        arguments in "((-?[0-5]|'ñ'|''|'b'|b|a)(, (-?[0-5]|'ñ'|''))?(, -?[0-5])?)?",
    ) {
        if let Ok(expression) = Expression::new(&format!("{target}.{name}({arguments}) == 1"), Variables::Fields) {
            let _ = expression.holds(Scope::Fields(json!({"a": ["x", "y"], "b": "añb"}).as_object().unwrap()));
        }
    }
}
