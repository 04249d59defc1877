use serde_json::json;

use super::*;
use crate::screen;

fn deploy(value: serde_json::Value) -> Deploy {
    serde_json::from_value(value).expect("as the node says it")
}

#[test]
fn a_deploy_that_is_up_ends_with_what_it_has_cost() {
    let receipt = json!({
        "began_at_s": 100.0, "ended_at_s": 134.0, "answered": 17408, "failed": 0,
        "deployments": [
            {"name": "Embed", "change": "untouched"}, {"name": "Gate", "change": "in_place", "reasons": ["max_ongoing_requests 5 -> 20"]},
            {"name": "Rank", "change": "restart", "reasons": ["code models/rank.py"]},
        ],
    });
    let deploy = deploy(json!({"number": 15, "from": 14, "state": "done", "receipt": receipt}));
    let screen = Screen {
        terminal: false,
        ..screen::plain(80)
    };
    assert_eq!(
        up("shop", &deploy, 0.0, &screen),
        [
            "shop r15 restart Rank (code models/rank.py); in place Gate (max_ongoing_requests 5 -> 20); untouched Embed",
            "shop r15 RUNNING after 34.0 s; 0 of 17,408 requests failed meanwhile",
        ]
    );
}

#[test]
fn requests_that_still_run_are_neither_answered_nor_failed() {
    let receipt = Receipt {
        answered: 2,
        failed: 1,
        running: 3,
        ..Receipt::default()
    };
    assert_eq!(
        cost(&receipt),
        "1 of 6 requests failed meanwhile, 3 still run"
    );
    assert_eq!(cost(&Receipt::default()), "no request came meanwhile");
}

#[test]
fn a_failure_is_one_screen_with_its_cause_and_what_to_do() {
    let traceback: Vec<String> = (0..40).map(|line| format!("  line {line}")).collect();
    let message = format!(
        "Traceback (most recent call last):\n{}\nFileNotFoundError: '/m.onnx'",
        traceback.join("\n")
    );
    let deploy = deploy(json!({
        "number": 15, "from": 14, "state": "rolled_back", "printed": ["loading"],
        "failure": {"code": "constructor_failed", "message": message, "where": "models/rank.py:41", "help": ["fix it"]},
        "receipt": {"answered": 9310, "failed": 0},
    }));
    let lines = failed("shop", &deploy, None, &screen::plain(80));
    assert!(lines.len() <= 24, "{lines:#?}");
    assert_eq!(
        lines[0],
        "✖ shop r15 did not come up. r14 serves. 0 of 9,310 requests failed meanwhile."
    );
    assert_eq!(
        lines[2],
        "error[constructor_failed]: FileNotFoundError: '/m.onnx'"
    );
    assert_eq!(lines[3], "  where    models/rank.py:41");
    assert_eq!(lines[4], "  why      (33 lines before)");
    let end = &lines[lines.len() - 4..];
    assert_eq!(
        end,
        [
            "  printed  loading",
            "  help     fix it",
            "  help     eagleray diff shop --from r14 --to r15",
            "  help     eagleray logs shop"
        ]
    );
}

#[test]
fn nothing_of_a_failure_is_said_twice() {
    let started = deploy(json!({
        "number": 3, "from": 2, "state": "rolled_back",
        "failure": {
            "code": "start_failed", "where": "/srv/shop.py:6 in __init__",
            "message": "Rank: the constructor raised in 6 of 6 tries\nNameError: name 'factr' is not defined",
        },
        "receipt": {"deployments": [{"name": "Rank", "change": "restart", "reasons": ["changed code: shop.py"]}]},
    }));
    assert_eq!(
        failed("shop", &started, None, &screen::plain(80)),
        [
            "✖ shop r3 did not come up. r2 serves.",
            "",
            "error[start_failed]: Rank: the constructor raised in 6 of 6 tries",
            "  where    /srv/shop.py:6 in __init__",
            "  why      NameError: name 'factr' is not defined",
            "  changed  restart Rank (changed code: shop.py)",
            "  help     eagleray diff shop --from r2 --to r3",
            "  help     eagleray logs shop",
        ]
    );
    let message = "Traceback (most recent call last):\n  File \"/srv/shop.py\", line 2, in <module>\n\
                   ImportError: no\nmodule 'shop' cannot be imported, for the reason above";
    let printed: Vec<&str> = std::iter::once("hello").chain(message.lines()).collect();
    let built = deploy(json!({
        "state": "failed", "failure": {"code": "import_failed", "message": message, "help": "correct it"}, "printed": printed,
    }));
    assert_eq!(
        failed("shop", &built, None, &screen::plain(80))[2..],
        [
            "error[import_failed]: module 'shop' cannot be imported",
            "  why      Traceback (most recent call last):",
            "             File \"/srv/shop.py\", line 2, in <module>",
            "           ImportError: no",
            "  printed  hello",
            "  help     correct it",
            "  help     eagleray logs shop",
        ]
    );
    assert_eq!(nearby("/srv/shop.py:6", "/srv"), "shop.py:6");
    assert_eq!(nearby("/srv2/shop.py:6", "/srv"), "/srv2/shop.py:6");
}

#[test]
fn what_ran_already_is_unchanged() {
    let deploy = deploy(
        json!({"number": 4, "from": 3, "state": "done", "receipt": {"build_skipped": true}}),
    );
    assert_eq!(
        unchanged("shop", &deploy),
        [
            "shop unchanged, r4 is what runs already (not built anew: nothing that it reads has changed)"
        ]
    );
}

#[test]
fn a_first_build_that_fails_says_that_nothing_served() {
    let deploy = deploy(
        json!({"state": "failed", "failure": {"code": "import_failed", "message": "no module named 'x'"}}),
    );
    let lines = failed("shop", &deploy, None, &screen::plain(80));
    assert_eq!(
        lines[0],
        "✖ shop was not built. Nothing of it served before."
    );
    assert_eq!(lines[2], "error[import_failed]: no module named 'x'");
}
