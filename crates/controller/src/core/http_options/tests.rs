use serde_json::json;

use super::*;

fn runs() -> Map<String, Value> {
    let runs = json!({
        "host": "127.0.0.1",
        "port": 8000,
        "limits": {"header_count": 200.0},
        "ssl_certfile": "/etc/shop/cert.pem",
        "ssl_keyfile": "/etc/shop/key.pem",
    });
    runs.as_object().unwrap().clone()
}

fn said(stated: &Value) -> Option<String> {
    warning(stated.as_object().unwrap(), &runs())
}

fn holds(stated: &Value) -> Value {
    over(&runs(), stated.as_object().unwrap()).into()
}

#[test]
fn what_the_node_has_or_takes_needs_no_word() {
    for fine in [
        json!({}),
        json!({"host": "127.0.0.1", "port": 8000}),
        json!({"port": 0, "request_timeout_s": 7, "keep_alive_timeout_s": 9}),
        json!({"limits": {"header_count": 300}, "root_path": "/a", "allowed_hosts": ["a"]}),
        json!({"ssl_certfile": "./cert.pem", "ssl_keyfile": "/else/key.pem"}),
    ] {
        assert_eq!(said(&fine), None, "{fine}");
    }
}

#[test]
fn what_only_a_start_takes_is_named_with_the_command_that_has_it() {
    let said = said(&json!({
        "host": "0.0.0.0",
        "port": 9000,
        "request_timeout_s": 5,
        "ssl_certfile": null,
    }))
    .unwrap();
    for part in [
        "port 9000 (the node has 8000)",
        "ssl_certfile null",
        "`eagleray start --http-host 0.0.0.0 --http-port 9000`",
    ] {
        assert!(said.contains(part), "{part} in {said}");
    }
    assert!(!said.contains("request_timeout_s"), "{said}");
}

#[test]
fn a_node_without_tls_gets_none_by_a_config() {
    let plain = json!({"host": "127.0.0.1"});
    let plain = plain.as_object().unwrap();
    let stated = json!({"ssl_certfile": "/c", "ssl_keyfile": "/k", "ssl_ca_certs": "/a"});
    let stated = stated.as_object().unwrap();
    assert_eq!(over(plain, stated), *plain);
    let said = warning(stated, plain).unwrap();
    assert!(said.contains("--http-ssl-certfile /c"), "{said}");
    assert_eq!(check(stated, plain), Ok(()));
}

#[test]
fn what_is_stated_goes_over_what_the_node_was_started_with() {
    let held = holds(&json!({
        "host": "0.0.0.0",
        "request_timeout_s": 5,
        "limits": {"connections": 9},
        "ssl_certfile": "cert.pem",
        "ssl_keyfile": "/new/key.pem",
    }));
    assert_eq!(
        held,
        json!({
            "host": "127.0.0.1",
            "port": 8000,
            "request_timeout_s": 5,
            "limits": {"header_count": 200.0, "connections": 9},
            "ssl_certfile": "/etc/shop/cert.pem",
            "ssl_keyfile": "/new/key.pem",
        })
    );
}

#[test]
fn every_key_is_taken_or_spoken_of() {
    for key in HTTP_OPTIONS.keys {
        let odd = match key.name {
            "limits" => json!({"x": 1}),
            "port" => json!(7),
            name if name.starts_with("ssl_") => json!("/odd"),
            _ => json!("odd"),
        };
        let stated = json!({key.name: odd});
        let is_taken = holds(&stated)[key.name] != holds(&json!({}))[key.name];
        assert!(is_taken || said(&stated).is_some(), "{}", key.name);
    }
}

#[test]
fn a_file_has_its_whole_path_unless_the_node_knows_it() {
    let check = |stated: Value| check(stated.as_object().unwrap(), &runs());
    assert_eq!(check(json!({"ssl_certfile": "cert.pem"})), Ok(()));
    assert_eq!(check(json!({"ssl_certfile": "/a/b.pem"})), Ok(()));
    let said = check(json!({"ssl_keyfile": "b.pem"})).unwrap_err();
    assert!(said.contains("http_options.ssl_keyfile b.pem"), "{said}");
}

#[test]
fn changes_are_named_with_what_was() {
    let before = runs();
    let now = holds(&json!({"limits": {"header_count": 300, "connections": 5}, "root_path": "/a"}));
    assert_eq!(
        changes(&before, now.as_object().unwrap()),
        [
            "root_path \"\" -> \"/a\"",
            "limits.connections null -> 5",
            "limits.header_count 200 -> 300",
        ]
    );
    assert!(changes(&before, &before).is_empty());
}
