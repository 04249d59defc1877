//! The API over its socket, with a controller and a node that answer what they are told to.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use eagleray_config::{Config, Problems};
use eagleray_rest::{Answer, Api as Served, Away, Calls, Options};
use eagleray_types::control::{
    ApiError, ApplicationStatus, Applied, Deployed, Empty, EventRecord, Events, History, NodeInfo,
    Planned, PlannedApplication, RevisionRecord, Status, api_request, api_response, node_request,
    node_response,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
};

const PATIENCE: Duration = Duration::from_secs(20);

type Reply = dyn Fn(&api_request::Body) -> api_response::Body + Send + Sync;

/// A controller that answers as told, and keeps what it was asked.
struct Scripted {
    reply: Box<Reply>,
    asked: Mutex<Vec<api_request::Body>>,
}

impl Calls for Scripted {
    fn call(&self, request: api_request::Body) -> Answer<'_, api_response::Body> {
        let answer = (self.reply)(&request);
        self.asked.lock().unwrap().push(request);
        Box::pin(async move { Ok(answer) })
    }

    fn node(&self, request: node_request::Body) -> Answer<'_, node_response::Body> {
        Box::pin(async move {
            match request {
                node_request::Body::Info(_) => Ok(node_response::Body::Info(NodeInfo::default())),
                node_request::Body::Shutdown(_) => Ok(node_response::Body::Done(Empty {})),
                _ => Err(Away("not asked in these tests".to_owned())),
            }
        })
    }
}

struct Api {
    calls: Arc<Scripted>,
    directory: TempDir,
}

impl Api {
    fn new(
        reply: impl Fn(&api_request::Body) -> api_response::Body + Send + Sync + 'static,
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let token = directory.path().join("token");
        std::fs::write(&token, "secret\n").unwrap();
        let calls = Arc::new(Scripted {
            reply: Box::new(reply),
            asked: Mutex::default(),
        });
        let options = Options {
            socket: directory.path().join("rest.sock"),
            token,
            kept_token: None,
            logs: directory.path().join("logs"),
            control_address: "http://127.0.0.1:8265".to_owned(),
            version: "0.0.0",
            judge: |_: &Config| Problems::default(),
        };
        let served = Served::bind(options, Arc::clone(&calls) as Arc<dyn Calls>).unwrap();
        tokio::spawn(served.serve());
        Self { calls, directory }
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("rest.sock")
    }

    async fn ask(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let text = exchange(&self.socket(), method, path, &body, "").await;
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let body = serde_json::from_str(body).unwrap_or_else(|_| Value::from(body));
        (status, body)
    }

    fn last(&self) -> api_request::Body {
        self.calls.asked.lock().unwrap().last().unwrap().clone()
    }
}

async fn connect(socket: &Path, method: &str, path: &str, body: &str, headers: &str) -> UnixStream {
    let mut stream = UnixStream::connect(socket).await.unwrap();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer secret\r\nconnection: close\r\n\
         content-length: {}\r\n{headers}\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

async fn exchange(socket: &Path, method: &str, path: &str, body: &str, headers: &str) -> String {
    let mut stream = connect(socket, method, path, body, headers).await;
    let mut text = String::new();
    let read = stream.read_to_string(&mut text);
    tokio::time::timeout(PATIENCE, read).await.unwrap().unwrap();
    text
}

fn error(kind: &str) -> api_response::Body {
    api_response::Body::Error(ApiError {
        kind: kind.to_owned(),
        message: "no".to_owned(),
    })
}

const DONE: api_response::Body = api_response::Body::Done(Empty {});

#[tokio::test]
async fn a_deploy_is_an_apply_of_what_the_config_states() {
    let api = Api::new(|_| {
        api_response::Body::Applied(Applied {
            deploy: 12,
            building: vec!["shop".to_owned()],
            deleted: vec!["old".to_owned()],
            warnings: vec!["kept".to_owned()],
        })
    });
    let config = json!({
        "http_options": {"port": 8001},
        "applications": [{"name": "shop", "import_path": "shop:app", "args": {"b": 1, "a": 2}}],
    });
    let (status, body) = api
        .ask(
            "POST",
            "/api/v1/deploys",
            &json!({
                "config": config, "whole": false, "author": "ann", "message": "why", "rebuild": true, "plan": "p1",
                "place": {"app_directory": "/shop", "python_path": ["/lib"], "python": "/python",
                          "environment": {"A": "b"}},
            }),
        )
        .await;
    assert_eq!(
        (status, body),
        (
            202,
            json!({"deploy": 12, "building": ["shop"], "deleted": ["old"], "warnings": ["kept"]})
        )
    );
    let api_request::Body::Apply(apply) = api.last() else {
        panic!("{:?}", api.last())
    };
    let [declared] = apply.applications.as_slice() else {
        panic!("{apply:?}")
    };
    assert_eq!(declared.name, "shop");
    let stated: Value = serde_json::from_str(&declared.config).unwrap();
    assert_eq!(stated["args"], json!({"a": 2, "b": 1}));
    assert_eq!(apply.node_options, r#"{"http_options":{"port":8001}}"#);
    assert_eq!(
        (apply.author.as_str(), apply.message.as_str()),
        ("ann", "why")
    );
    assert!(apply.rebuild && !apply.whole && apply.plan == "p1");
    assert_eq!(apply.place.app_directory, "/shop");
    assert_eq!(apply.place.python_path, ["/lib"]);
    assert_eq!(apply.place.environment["A"], "b");

    // As text, whole unless it is said otherwise, and by Ray's own path.
    let text = "applications: [{name: shop, import_path: 'shop:app'}]";
    let (status, _) = api
        .ask("POST", "/api/v1/deploys", &json!({"text": text}))
        .await;
    let api_request::Body::Apply(apply) = api.last() else {
        panic!("{:?}", api.last())
    };
    assert_eq!((status, apply.whole), (202, true));
    let put = exchange(
        &api.socket(),
        "PUT",
        "/api/serve/applications/",
        &config.to_string(),
        "",
    )
    .await;
    assert!(put.starts_with("HTTP/1.1 200 OK"), "{put}");
    assert!(put.contains("warning: 199 - \"kept\""), "{put}");
    assert!(put.ends_with("\r\n\r\n"), "the body is empty: {put}");
    assert!(matches!(api.last(), api_request::Body::Apply(apply) if apply.whole));
}

#[tokio::test]
async fn a_plan_is_shown_and_one_that_is_stale_is_a_conflict() {
    let api = Api::new(|request| match request {
        api_request::Body::Plan(_) => api_response::Body::Planned(Planned {
            plan: "p1".to_owned(),
            http_options: vec!["root_path \"\" -> \"/a\"".to_owned()],
            ..Planned::default()
        }),
        _ => error("conflict"),
    });
    let deploy = json!({"config": {"applications": []}});
    assert_eq!(
        api.ask("POST", "/api/v1/plans", &deploy).await,
        (
            200,
            json!({
                "plan": "p1", "applications": [], "warnings": [],
                "http_options": ["root_path \"\" -> \"/a\""],
            })
        )
    );
    let (status, body) = api.ask("POST", "/api/v1/deploys", &deploy).await;
    assert_eq!((status, &body["code"]), (409, &json!("conflict")));
}

#[tokio::test]
async fn a_config_with_masked_secrets_is_refused() {
    let api = Api::new(|_| DONE);
    let config = json!({"applications": [
        {"name": "shop", "import_path": "shop:app", "runtime_env": {"env_vars": {"PASSWORD": "****"}}},
    ]});
    let (status, body) = api
        .ask("POST", "/api/v1/deploys", &json!({"config": config}))
        .await;
    assert_eq!(status, 400);
    assert!(
        body["message"].as_str().unwrap().contains("no secrets"),
        "{body}"
    );
    assert!(
        api.calls.asked.lock().unwrap().is_empty(),
        "nothing was asked"
    );
}

fn revision(number: u64, current: bool) -> RevisionRecord {
    RevisionRecord {
        application: "shop".to_owned(),
        number,
        revision: format!("hash{number}"),
        current,
        config: r#"{"runtime_env": {"env_vars": {"A": "secret"}}}"#.to_owned(),
        ..RevisionRecord::default()
    }
}

#[tokio::test]
async fn revisions_are_found_by_number_and_by_hash() {
    let api = Api::new(|request| match request {
        api_request::Body::History(name) if name == "none" => {
            api_response::Body::History(History::default())
        }
        api_request::Body::History(_) => api_response::Body::History(History {
            revisions: vec![revision(3, true), revision(2, false), revision(1, false)],
        }),
        _ => api_response::Body::Deployed(Deployed {
            revision: "hash1".to_owned(),
            notes: vec!["rolls".to_owned()],
            number: 3,
            rollback_of: 1,
        }),
    });
    for wanted in ["2", "r2", "hash2"] {
        let path = format!("/api/v1/applications/shop/revisions/{wanted}");
        let (status, body) = api.ask("GET", &path, &Value::Null).await;
        assert_eq!((status, &body["number"]), (200, &json!(2)), "{wanted}");
        assert_eq!(body["config"]["runtime_env"]["env_vars"]["A"], "****");
    }
    for (path, expected) in [
        ("/api/v1/applications/shop/revisions/9", 404),
        ("/api/v1/applications/shop/revisions/r", 404),
        ("/api/v1/applications/none/revisions", 404),
        ("/api/v1/revisions", 200),
    ] {
        assert_eq!(
            api.ask("GET", path, &Value::Null).await.0,
            expected,
            "{path}"
        );
    }
    let (status, body) = api
        .ask(
            "POST",
            "/api/v1/applications/shop/rollback",
            &json!({"revision": "1", "author": "ann"}),
        )
        .await;
    assert_eq!(
        (status, body),
        (
            202,
            json!({"revision": 3, "rollback_of": 1, "notes": ["rolls"]})
        )
    );
    let asked = api.calls.asked.lock().unwrap();
    let rolled = asked.iter().find_map(|one| match one {
        api_request::Body::Rollback(rollback) => Some(rollback.clone()),
        _ => None,
    });
    let rolled = rolled.unwrap();
    assert_eq!(
        (rolled.revision.as_str(), rolled.author.as_str()),
        ("r1", "ann")
    );
}

#[tokio::test]
async fn two_revisions_are_compared() {
    let api = Api::new(|request| match request {
        api_request::Body::Compare(compare) if compare.application == "shop" => {
            let application = PlannedApplication {
                name: compare.from.clone() + &compare.to,
                change: "update".to_owned(),
                ..PlannedApplication::default()
            };
            api_response::Body::Planned(Planned {
                applications: vec![application],
                ..Planned::default()
            })
        }
        _ => error("not_found"),
    });
    let path = "/api/v1/applications/shop/diff";
    let (status, answer) = api
        .ask("GET", &format!("{path}?from=r1&to=r3"), &Value::Null)
        .await;
    assert_eq!(
        (status, &answer["applications"][0]["name"]),
        (200, &json!("r1r3"))
    );
    for (path, expected) in [
        (path.to_owned(), 400),
        (format!("{path}?from=r1"), 400),
        ("/api/v1/applications/none/diff?from=1&to=2".to_owned(), 404),
    ] {
        let (status, _) = api.ask("GET", &path, &Value::Null).await;
        assert_eq!(status, expected, "{path}");
    }
}

#[tokio::test]
async fn scaling_has_the_errors_of_the_contract() {
    let api = Api::new(|request| match request {
        api_request::Body::Scale(scale) => match scale.application.as_str() {
            "shop" => DONE,
            "none" => error("not_found"),
            _ => error("conflict"),
        },
        _ => error("invalid"),
    });
    let three = json!({"target_num_replicas": 3});
    for (application, body, status, key) in [
        ("shop", &three, 200, "message"),
        ("none", &three, 404, "error"),
        ("auto", &three, 412, "error"),
        ("shop", &json!({"target_num_replicas": -1}), 400, "error"),
        ("shop", &json!({"target_num_replicas": "3"}), 400, "error"),
        ("shop", &json!({}), 400, "error"),
    ] {
        let path = format!("/api/v1/applications/{application}/deployments/Rank/scale");
        let (found, answer) = api.ask("POST", &path, body).await;
        assert_eq!(found, status, "{application} {body}");
        assert_eq!(
            answer.as_object().unwrap().keys().collect::<Vec<_>>(),
            [key]
        );
    }
}

#[tokio::test]
async fn events_are_paged_and_followed() {
    let api = Api::new(|request| {
        let api_request::Body::Events(wanted) = request else {
            return error("invalid");
        };
        // Two events in all; whoever has them waits.
        let events = (wanted.since..2).map(|before| EventRecord {
            number: before + 1,
            message: format!("event {}", before + 1),
            ..EventRecord::default()
        });
        api_response::Body::Events(Events {
            events: events.collect(),
            next: 2,
            lost: 0,
        })
    });
    let (status, body) = api
        .ask("GET", "/api/v1/events?since=1&limit=5", &Value::Null)
        .await;
    assert_eq!(status, 200);
    assert_eq!(
        (&body["events"][0]["number"], &body["next"]),
        (&json!(2), &json!(2))
    );
    let followers = [
        ("/api/v1/events?follow=true&since=1", ""),
        (
            "/api/v1/events",
            "accept: text/event-stream\r\nlast-event-id: 1\r\n",
        ),
    ];
    for (path, headers) in followers {
        let mut stream = connect(&api.socket(), "GET", path, "", headers).await;
        let mut text = String::new();
        let mut part = [0; 4096];
        while !text.contains("event 2") {
            let read = tokio::time::timeout(PATIENCE, stream.read(&mut part)).await;
            let length = read.unwrap().unwrap();
            assert!(length > 0, "it broke off: {text}");
            text.push_str(std::str::from_utf8(&part[..length]).unwrap());
        }
        assert!(text.contains("content-type: text/event-stream"), "{text}");
        assert!(text.contains("id: 2\ndata: {"), "{text}");
        assert!(!text.contains("event 1\""), "{text}");
    }
}

#[tokio::test]
async fn an_error_of_the_controller_has_its_status() {
    for (kind, expected) in [
        ("invalid", 400),
        ("not_found", 404),
        ("conflict", 409),
        ("internal", 500),
    ] {
        let api = Api::new(move |_| error(kind));
        let (status, body) = api.ask("GET", "/api/v1/revisions", &Value::Null).await;
        assert_eq!((status, &body["code"]), (expected, &json!(kind)));
        assert_eq!(body["where"], "");
        assert_eq!(body["help"], json!([]));
    }
}

#[tokio::test]
async fn an_application_is_deleted_if_it_is_there() {
    let api = Api::new(|request| match request {
        api_request::Body::Status(_) => api_response::Body::Status(Status {
            http_options: r#"{"port":8000}"#.to_owned(),
            applications: vec![ApplicationStatus {
                name: "a b/c".to_owned(),
                ..ApplicationStatus::default()
            }],
            why: Vec::new(),
            target_capacity: Some(62.5),
            resources: Vec::new(),
        }),
        _ => DONE,
    });
    let (status, _) = api
        .ask("DELETE", "/api/v1/applications/a%20b%2Fc", &Value::Null)
        .await;
    assert_eq!(status, 202);
    assert_eq!(
        api.last(),
        api_request::Body::BeginDelete("a b/c".to_owned())
    );
    let (status, _) = api
        .ask("DELETE", "/api/v1/applications/a", &Value::Null)
        .await;
    assert_eq!(status, 404);
}

#[test]
fn the_description_is_the_committed_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/openapi.json");
    let made = eagleray_rest::openapi() + "\n";
    if std::env::var_os("EAGLERAY_WRITE_DOCS").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    assert_eq!(
        std::fs::read_to_string(&path).unwrap_or_default(),
        made,
        "EAGLERAY_WRITE_DOCS=1 cargo test -p eagleray-rest writes docs/reference/openapi.json"
    );
}

#[tokio::test]
async fn logs_are_found_by_the_number_of_a_revision_and_what_is_no_parameter_is_refused() {
    let api = Api::new(|_| {
        let records = [
            ("shop", 1, "0a1b2c3d4e5f"),
            ("shop", 2, "ffff2c3d4e5f"),
            ("other", 2, "eeee"),
        ];
        let revisions = records.map(|(application, number, revision)| RevisionRecord {
            application: application.to_owned(),
            number,
            revision: revision.to_owned(),
            ..RevisionRecord::default()
        });
        api_response::Body::History(History {
            revisions: revisions.to_vec(),
        })
    });
    let logs = api.directory.path().join("logs");
    std::fs::create_dir(&logs).unwrap();
    let line = |revision: &str, words: &str| {
        format!("INFO 2026-12-01 09:00:00,000 shop/Rank q3kd91 {revision} id-1 -- {words}\n")
    };
    let text = line("0a1b2c3d", "old") + &line("ffff2c3d", "new");
    std::fs::write(logs.join("replica_shop_Rank_q3kd91.log"), text).unwrap();

    for (query, words, other) in [
        ("revision=r1", "old", "new"),
        ("revision=ffff2c3d4e5f", "new", "old"),
    ] {
        let path = format!("/api/v1/logs?application=shop&{query}");
        let (status, found) = api.ask("GET", &path, &Value::Null).await;
        // It comes in parts, of lengths that stand between them.
        let text = found.as_str().unwrap();
        assert_eq!(status, 200, "{query}");
        assert!(text.contains(&format!("\"message\":\"{words}\"")), "{text}");
        assert!(!text.contains(other), "{text}");
    }

    for (query, status, words) in [
        ("revision=r2", 400, "several applications"),
        ("revision=r9", 404, "no revision r9"),
        ("level=loud", 400, "CRITICAL"),
        ("since=yesterday", 400, "`5m`"),
        ("source=printer", 400, "stderr"),
        ("limit=-1", 400, "limit"),
        ("nonsense=1", 400, "nonsense"),
    ] {
        let (found, refused) = api
            .ask("GET", &format!("/api/v1/logs?{query}"), &Value::Null)
            .await;
        assert_eq!(found, status, "{query}");
        let message = refused["message"].as_str().unwrap();
        assert!(message.contains(words), "{query}: {message}");
    }
}

#[tokio::test]
async fn who_is_not_let_in_is_told_so_after_its_body_and_may_ask_again() {
    let api = Api::new(|_| DONE);
    let mut stream = UnixStream::connect(api.socket()).await.unwrap();
    let head = "POST /api/v1/deploys HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 4\r\n\r\n";
    let mut text = String::new();
    for _ in 0..2 {
        stream.write_all(head.as_bytes()).await.unwrap();
        // By then the head has been read.
        exchange(&api.socket(), "GET", "/nowhere", "", "").await;
        let early = stream.try_read(&mut [0; 1]);
        assert_eq!(early.unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
        stream.write_all(b"null").await.unwrap();
        let mut buffer = [0; 4096];
        let read = tokio::time::timeout(PATIENCE, stream.read(&mut buffer)).await;
        text.push_str(std::str::from_utf8(&buffer[..read.unwrap().unwrap()]).unwrap());
    }
    assert_eq!(text.matches("HTTP/1.1 401 ").count(), 2, "{text}");
    assert!(!text.contains("connection: close"), "{text}");
    assert!(api.calls.asked.lock().unwrap().is_empty());
}
