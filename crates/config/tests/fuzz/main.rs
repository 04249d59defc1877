//! The fuzz target on stable: the kept seeds, then generated input, as `fuzz/stable.rs` says.
//!
//! Generated input is lines and values of configs, good and bad, put together at random and then mutated, so that most
//! of it gets past the first key.

#[path = "../../../../fuzz/stable.rs"]
mod stable;
mod target;

use eagleray_config::{shape::Object, table};
use fastrand::Rng;

type Target = fn(&[u8]);

const TARGETS: [(&str, Target); 1] = [("config", target::config)];

/// Longest generated input.
const MAX_INPUT: usize = 8 * 1024;

const VALUES: &[&str] = &[
    "1",
    "0",
    "-1",
    "010",
    "0x_",
    "1:30",
    "1.5",
    "1e3",
    "1.0e+400",
    ".inf",
    "99999999999999999999",
    "4294967296",
    "9007199254740993",
    "yes",
    "no",
    "~",
    "",
    "auto",
    "\"3\"",
    "'it''s'",
    "\"\\u00e4\"",
    "a",
    "/a",
    "m:a",
    "m.a:",
    "2001-01-01",
    "[]",
    "{}",
    "[1, a]",
    "{A: b}",
    "{a: {b: c}}",
    "&x {A: 1}",
    "*x",
    "<<",
    "=",
    "!!str 1",
    "!!int a",
    "!x y",
    "|\n  a\n",
    ">-\n  a\n\n",
    "JSON",
    "DEBUG",
    "EveryNode",
    "PACK",
    "mean",
    "503",
    "{min_replicas: 2, max_replicas: 1}",
    "\u{e9}",
];

#[test]
fn kept_seeds_pass() {
    stable::pass_seeds(&TARGETS, write_seeds);
}

#[test]
fn generated_input_passes() {
    stable::drive(&TARGETS, u64::MAX, |_, rng| generate(rng), mutate);
}

fn generate(rng: &mut Rng) -> Vec<u8> {
    let mut out = vec![0];
    if rng.u8(..) < 64 {
        // The canonical form, which is JSON, as either.
        out[0] = rng.u8(0..2);
        let application = map(&table::APPLICATION, rng, 3);
        out.extend(format!("{{\"applications\": [{application}]}}").bytes());
        return out;
    }
    for _ in 0..rng.usize(0..3) {
        line(&table::CONFIG, "", rng, &mut out);
    }
    out.extend(b"applications:\n- import_path: m:a\n");
    for _ in 0..rng.usize(0..4) {
        line(&table::APPLICATION, "  ", rng, &mut out);
    }
    out.extend(b"  deployments:\n  - name: D\n");
    for _ in 0..rng.usize(0..6) {
        line(&table::DEPLOYMENT, "    ", rng, &mut out);
    }
    out
}

fn line(object: &Object, indent: &str, rng: &mut Rng, out: &mut Vec<u8>) {
    let key = &object.keys[rng.usize(..object.keys.len())];
    let value = match key.takes.object() {
        Some(inner) if rng.bool() => map(inner, rng, 2),
        _ => pick(rng).to_owned(),
    };
    out.extend(format!("{indent}{}: {value}\n", key.name).bytes());
}

fn map(object: &Object, rng: &mut Rng, depth: usize) -> String {
    let entry = |rng: &mut Rng| {
        let key = &object.keys[rng.usize(..object.keys.len())];
        let value = match key.takes.object() {
            Some(inner) if depth > 0 => map(inner, rng, depth - 1),
            _ => pick(rng).to_owned(),
        };
        format!("\"{}\": {value}", key.name)
    };
    let entries: Vec<_> = (0..rng.usize(0..4)).map(|_| entry(rng)).collect();
    format!("{{{}}}", entries.join(", "))
}

fn pick(rng: &mut Rng) -> &'static str {
    VALUES[rng.usize(..VALUES.len())]
}

fn mutate(input: &mut Vec<u8>, rng: &mut Rng) {
    let at = rng.usize(0..=input.len());
    match rng.u8(0..6) {
        0 => input.truncate(at),
        1 => input.insert(at, rng.u8(..)),
        2 if at < input.len() => input[at] ^= 1 << rng.u8(0..8),
        3 => {
            let piece = pick(rng).bytes().collect::<Vec<_>>();
            input.splice(at..at, piece);
        }
        4 => {
            let tail = input[at..].to_vec();
            input.extend(tail.iter().take(MAX_INPUT - input.len().min(MAX_INPUT)));
        }
        _ if at < input.len() => {
            input[at] = *rng.choice(b"\n\t :-[]{}&*!|>'\"#%@,?\0").unwrap_or(&0);
        }
        _ => {}
    }
}

/// One seed per shape, small and readable; what a fuzzer finds is added beside them by hand.
fn write_seeds() {
    let whole = "applications:\n- name: a\n  import_path: m:a\n  runtime_env: {env_vars: {A: '1'}}\n  deployments:\n  \
                 - &d {name: D, num_replicas: 2, ray_actor_options: {num_cpus: 1}}\n  - {<<: *d, name: E}\n";
    let json = "{\"applications\": [{\"import_path\": \"m:a\", \"args\": {\"x\": [1, 2.5, null, \"\\u00e4\"]}}]}";
    for (name, format, text) in [
        ("whole", 0, whole),
        ("json", 1, json),
        ("json-as-yaml", 0, json),
        (
            "scalars",
            0,
            "applications: []\nx-a: [yes, 010, 0x1F, 1:30, 1_0, 1.5e+3, .5, ~, '', \"\\t\", !!str 1]\n",
        ),
        (
            "block",
            0,
            "x-a: |+\n  b\n\n  c\nx-d: >-\n  e\n  f\napplications: []",
        ),
        (
            "aliases",
            0,
            "x-a: &a [1]\nx-b: &b [*a, *a]\nx-c: [*b, *b]\napplications: []\n",
        ),
        ("twice", 0, "a: 1\na: 2\n"),
        ("documents", 0, "---\napplications: []\n...\n---\n"),
        ("deep", 1, "[[[[[[[[{}]]]]]]]]"),
        ("cut", 0, "applications: [{name: 'a"),
    ] {
        stable::keep("config", name, &[&[format], text.as_bytes()].concat());
    }
}
