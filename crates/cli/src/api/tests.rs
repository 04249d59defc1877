use serde_json::json;

use super::*;
use crate::mock::Mock;

#[test]
fn a_question_carries_the_token_and_its_query() {
    let mock = Mock::new(vec![(200, r#"{"a": 1}"#.to_owned())]);
    let answer: Value = mock
        .api
        .get("/api/v1/status", &[("application", "a b/ü")])
        .expect("answered");
    assert_eq!(answer, json!({"a": 1}));
    let asked = mock.asked().remove(0);
    assert_eq!(asked.line, "GET /api/v1/status?application=a%20b%2F%C3%BC");
    assert!(
        asked
            .headers
            .contains(&"authorization: Bearer secret".to_owned()),
        "{asked:?}"
    );
}

#[test]
fn a_body_is_json_and_an_empty_answer_is_an_empty_object() {
    let mock = Mock::new(vec![(202, String::new())]);
    let answer: Value = mock
        .api
        .post("/api/v1/shutdown", &json!({"x": [1]}), ANSWER_WITHIN)
        .expect("answered");
    assert_eq!(answer, json!({}));
    assert_eq!(mock.asked().remove(0).body, r#"{"x":[1]}"#);
}

#[test]
fn an_error_object_keeps_its_place_and_help() {
    let body = json!({"code": "invalid", "message": "no", "where": "a.yaml:1:2", "help": ["do"]});
    let mock = Mock::new(vec![(400, body.to_string())]);
    let trouble = mock.api.get::<Value>("/x", &[]).expect_err("refused");
    assert_eq!(
        (
            trouble.exit,
            trouble.code.as_str(),
            trouble.message.as_str(),
            trouble.place.as_str()
        ),
        (Exit::Refused, "invalid", "no", "a.yaml:1:2")
    );
    assert_eq!(trouble.help, ["do"]);
}

#[test]
fn each_status_has_its_exit() {
    for (status, body, exit) in [
        (
            404,
            r#"{"code": "not_found", "message": "no"}"#,
            Exit::Missing,
        ),
        (
            409,
            r#"{"code": "plan_stale", "message": "no", "help": "plan anew"}"#,
            Exit::Refused,
        ),
        (412, r#"{"error": "autoscaled"}"#, Exit::Refused),
        (
            503,
            r#"{"code": "node_ending", "message": "ends"}"#,
            Exit::Unknown,
        ),
        (
            500,
            r#"{"code": "internal", "message": "bug"}"#,
            Exit::Failed,
        ),
    ] {
        let mock = Mock::new(vec![(status, body.to_owned())]);
        let trouble = mock.api.get::<Value>("/x", &[]).expect_err(body);
        assert_eq!(trouble.exit, exit, "{status}");
    }
}

#[test]
fn a_wrong_token_is_said_with_where_it_is_from_and_never_shown() {
    let mock = Mock::new(vec![(401, "{}".to_owned())]);
    let trouble = mock.api.get::<Value>("/x", &[]).expect_err("refused");
    assert_eq!(trouble.exit, Exit::Refused);
    let text = format!("{trouble:?}");
    assert!(
        text.contains("the test") && !text.contains("secret"),
        "{text}"
    );
}

#[test]
fn a_node_of_another_release_is_named() {
    let version = r#"{"version": "9.9", "ray_version": "2.60.0"}"#;
    let mock = Mock::new(vec![
        (404, "no such thing".to_owned()),
        (200, version.to_owned()),
    ]);
    let trouble = mock
        .api
        .get::<Value>("/api/v9/x", &[])
        .expect_err("refused");
    assert!(trouble.message.contains("404 no such thing"), "{trouble:?}");
    assert!(trouble.help[0].contains("release 9.9"), "{trouble:?}");
}

#[test]
fn an_address_where_nobody_listens_is_said() {
    let mock = Mock::new(Vec::new());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let mut found = mock.api.found.clone();
    found.address = format!("http://{}", listener.local_addr().expect("bound"));
    drop(listener);
    let trouble = Api::to(found).get::<Value>("/x", &[]).expect_err("nobody");
    assert_eq!(
        (trouble.exit, trouble.code.as_str()),
        (Exit::Unknown, "unreachable")
    );
}

#[test]
fn what_answers_and_is_no_node_is_said() {
    let mock = Mock::new(vec![(200, "<html>".to_owned()), (200, "<html>".to_owned())]);
    let trouble = mock.api.get::<Value>("/x", &[]).expect_err("no json");
    assert!(
        trouble.help[0].contains("is this the control port"),
        "{trouble:?}"
    );
}

#[test]
fn a_question_waits_for_a_controller_that_is_being_started_again() {
    let away = (503, r#"{"code": "controller_away", "message": "away"}"#);
    let answers = [away, away, (200, r#"{"a": 1}"#)];
    let mock = Mock::new(
        answers
            .map(|(status, body)| (status, body.to_owned()))
            .into(),
    );
    let answer: Value = mock.api.get("/x", &[]).expect("answered");
    assert_eq!(answer, json!({"a": 1}));
    assert_eq!(mock.asked().len(), 3);
}
