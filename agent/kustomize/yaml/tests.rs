use super::*;
use serde_json::json;

fn read(text: &str) -> Vec<Value> {
    documents("f.yaml", text.as_bytes()).unwrap().into_iter().map(|document| document.value).collect()
}

fn fails(text: &str) -> String {
    documents("f.yaml", text.as_bytes()).unwrap_err().to_string()
}

#[test]
fn values_as_kubectl_reads_them() {
    let text = "a: on\nb: 0644\nc: 'on'\nd: 1e3\ne: 18446744073709551615\nf: 2001-01-01\ng: ~\nh:\ni: 1.50\n1: x\n";
    assert_eq!(
        read(text),
        [json!({"a": true, "b": 420, "c": "on", "d": 1000, "e": u64::MAX, "f": "2001-01-01", "g": null,
                "h": null, "i": 1.5, "1": "x"})]
    );
}

#[test]
fn documents_keep_their_number_and_line() {
    let found =
        documents("f.yaml", b"\xef\xbb\xbf---\r\na: 1\r\n---\r\n# nothing\r\n---\r\nb: |\r\n  x\r\n  y\r\n").unwrap();
    let placed: Vec<_> = found.iter().map(|document| (document.index, document.line)).collect();
    assert_eq!(placed, [(0, 2), (2, 6)]);
    assert_eq!(found[1].value, json!({"b": "x\ny\n"}));
}

#[test]
fn json_is_yaml() {
    assert_eq!(read("{\"a\": [1, \"\\u00e9\", {\"b\": null}]}"), [json!({"a": [1, "é", {"b": null}]})]);
}

#[test]
fn anchors_and_merge_keys() {
    let text = "base: &b {x: 1, v: 2}\nother: &o {v: 3, z: 4}\none: {<<: *b, v: 9}\ntwo:\n  <<: [*b, *o]\nthree: *b\n";
    let found = read(text).remove(0);
    assert_eq!(found["one"], json!({"x": 1, "v": 9}));
    assert_eq!(found["two"], json!({"x": 1, "v": 2, "z": 4}));
    assert_eq!(found["three"], json!({"x": 1, "v": 2}));
}

#[test]
fn faults_are_placed() {
    assert_eq!(
        fails("a: 1\n---\nb: 1\nb: 2\n"),
        "f.yaml:4:1: document 2: key \"b\" is given twice in one mapping; keep one of them"
    );
    assert!(fails("a: [1\n").starts_with("f.yaml:"), "{}", fails("a: [1\n"));
    assert!(fails("a: &x [*x]\n").contains("contains it"));
    assert!(fails("a: .nan\n").contains("no form in JSON"));
    assert!(fails("a: !!int x\n").contains("tagged !!int"));
    assert!(fails("<<: 1\n").contains("merge key"));
    let error = documents("f.yaml", b"a: b\nc: \xff\n").unwrap_err();
    assert_eq!((error.line, error.column), (2, 4));
}

#[test]
fn a_bomb_is_refused() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let alias = format!("*a{}, ", level - 1).repeat(10);
        text.push_str(&format!("a{level}: &a{level} [{}]\n", alias.trim_end_matches(", ")));
    }
    assert!(fails(&text).contains("aliases"), "{}", fails(&text));
}

#[test]
fn printed_as_go_yaml_prints() {
    let value = json!({
        "plain": "text", "number": "12", "bool": "on", "empty": "", "date": "2001-01-01", "sixty": "1:20",
        "lines": "a\nb\n", "keep": "a\n\n", "strip": "a\nb", "lead": " a\nb\n", "tab": "a\tb", "colon": "a: b",
        "dash": "- a", "hash": "a #b", "quote": "it's: x", "list": [1, [2, 3], {"a": 1, "b": []}], "map": {},
        "float": 1.5, "null": null, "a10": 1, "a9": 1, "Z": 1, "star": "*.example.com", "trail": "a ",
        "space-break": "a \nb\n"
    });
    assert_eq!(
        to_yaml(&value),
        "Z: 1\na9: 1\na10: 1\nbool: \"on\"\ncolon: 'a: b'\ndash: '- a'\ndate: \"2001-01-01\"\nempty: \"\"\nfloat: 1.5\n\
         hash: 'a #b'\nkeep: |+\n  a\n\nlead: |2\n   a\n  b\nlines: |\n  a\n  b\nlist:\n- 1\n- - 2\n  - 3\n- a: 1\n  b: []\n\
         map: {}\n\"null\": null\nnumber: \"12\"\nplain: text\nquote: 'it''s: x'\nsixty: \"1:20\"\n\
         space-break: \"a \\nb\\n\"\nstar: '*.example.com'\nstrip: |-\n  a\n  b\ntab: \"a\\tb\"\ntrail: 'a '\n"
    );
    let back = documents("p.yaml", to_yaml(&value).as_bytes()).unwrap();
    assert_eq!(back[0].value, value);
}

#[test]
fn fields_have_lines() {
    let text = b"a: 1\npatches:\n- path: x\n- Path: y\n  target:\n    kind: z\n---\npatches: 1\n";
    let line = |field| line_of(text, field);
    assert_eq!(line("patches[1].path"), 4);
    assert_eq!(line("patches[1].target.kind"), 6);
    assert_eq!(line("patches[1].target.name"), 6);
    assert_eq!(line("nothing"), 1);
}
