//! What clients see of the controller: [`stage`] sets it up.

use stage::*;

mod disk;
mod ends;
mod full_disk;
mod history;
mod stage;
mod watchers;

#[test]
fn a_deploy_spawns_is_published_and_settles() {
    let stage = Stage::new();
    let status = stage.client().deploy(stage.spec("v1", 2));
    assert_eq!(
        (
            status.status.as_str(),
            status.deployments[0].replica_states["RUNNING"]
        ),
        ("RUNNING", 2)
    );
    let machine = stage.machine.lock().unwrap();
    let mut updates = machine.updates.iter().rev();
    let last = updates.find(|one| !one.deployments.is_empty()).unwrap();
    let version = &last.deployments[0].versions[0];
    assert_eq!(
        (version.replicas.len(), version.sync_bodies, version.weight),
        (2, true, 2)
    );
    assert!(version.replicas[0].socket_path.contains("/r/"));
}

#[test]
fn a_deploy_without_its_blob_is_refused_and_nothing_starts() {
    let stage = Stage::new();
    let spec = stage.spec("v1", 1);
    fs::remove_file(stage.path("blobs").join(&spec.deployments[0].callable_blob)).unwrap();
    match stage.client().call(api_request::Body::Deploy(spec)) {
        api_response::Body::Error(error) => {
            assert_eq!(error.kind, "invalid");
            assert!(
                error.message.contains("deploy the application again"),
                "{}",
                error.message
            );
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(stage.machine.lock().unwrap().spawned, 0);
}

#[test]
fn a_restarted_controller_adopts_its_replicas_in_a_new_epoch() {
    let mut stage = Stage::new();
    let spec = stage.spec("v1", 2);
    stage.client().deploy(spec.clone());
    let before: Vec<String> = stage
        .machine
        .lock()
        .unwrap()
        .replicas
        .keys()
        .cloned()
        .collect();
    stage.stop();
    stage.start();
    let mut client = stage.client();
    let status = client.deploy(spec);
    assert_eq!(status.status, "RUNNING");
    assert_eq!(status.deployments[0].replicas[0].pid, 7);
    {
        let machine = stage.machine.lock().unwrap();
        assert_eq!(machine.replicas.keys().cloned().collect::<Vec<_>>(), before);
        assert_eq!(machine.spawned, 2);
        let epochs: Vec<u64> = machine.updates.iter().map(|update| update.epoch).collect();
        assert!(
            epochs.is_sorted() && epochs.first() == Some(&1) && epochs.last() == Some(&2),
            "{epochs:?}"
        );
        let first = machine
            .updates
            .iter()
            .find(|update| update.epoch == 2)
            .unwrap();
        assert!(
            first.snapshot && first.deployments[0].versions[0].replicas.len() == 2,
            "never fewer"
        );
    }
    let answer = client.call(api_request::Body::Delete("app".into()));
    assert!(matches!(answer, api_response::Body::Done(_)));
    assert!(stage.machine.lock().unwrap().replicas.is_empty());
}

#[test]
fn a_rollback_goes_back() {
    let stage = Stage::new();
    let mut client = stage.client();
    client.deploy(stage.spec("v1", 1));
    client.deploy(stage.spec("v2", 1));
    let rollback = Rollback {
        application: "app".into(),
        revision: String::new(),
        ..Rollback::default()
    };
    match client.call(api_request::Body::Rollback(rollback)) {
        api_response::Body::Deployed(deployed) => assert_eq!(deployed.revision, "v1-1"),
        other => panic!("{other:?}"),
    }
    let wait = AwaitApplication {
        name: "app".into(),
        revision: "v1-1".into(),
    };
    assert!(matches!(
        client.call(api_request::Body::AwaitApplication(wait)),
        api_response::Body::Settled(_)
    ));
    let api_response::Body::Status(status) = client.call(api_request::Body::Status(Empty {}))
    else {
        panic!()
    };
    assert_eq!(
        status.applications[0].deployments[0].replicas[0].version,
        "v1"
    );
}

#[test]
fn what_cannot_be_read_is_answered_and_a_broken_stream_is_cut_off() {
    let stage = Stage::new();
    let mut client = stage.client();
    client.sequence = 5;
    client.link.send(5, vec![0xff; 9]).unwrap();
    assert!(
        matches!(client.receive(), api_response::Body::Error(error) if error.kind == "invalid")
    );
    client.link.send(5, Vec::new()).unwrap();
    assert!(
        matches!(client.receive(), api_response::Body::Error(error) if error.message.contains("newer"))
    );
    client.link.stream.write_all(&[0xff; 64]).unwrap();
    assert!(client.link.receive().is_none());
    let mut other = stage.client();
    assert!(matches!(
        other.call(api_request::Body::Status(Empty {})),
        api_response::Body::Status(_)
    ));
}

#[test]
fn a_checkpoint_that_cannot_be_used_ends_the_controller_with_its_reason() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("checkpoint.sqlite");
    fs::write(&path, [7; 4096]).unwrap();
    let listener = UnixListener::bind(directory.path().join("controller.sock")).unwrap();
    let (_node, controller) = UnixStream::pair().unwrap();
    let options = Options {
        node: node_id(),
        checkpoint_path: path,
        blob_directory: directory.path().join("blobs"),
        log_directory: directory.path().join("logs"),
        run_directory: directory.path().to_owned(),
        python: "python3".to_owned(),
        http: serde_json::Map::new(),
    };
    let error = run(listener, controller, options, |_| ()).unwrap_err();
    assert!(error.to_string().contains("left untouched"), "{error}");
}

#[test]
fn a_socket_that_was_removed_is_made_again_and_open_connections_stay() {
    let stage = Stage::new();
    let mut before = stage.client();
    before.deploy(stage.spec("v1", 1));
    fs::remove_file(stage.path("controller.sock")).unwrap();
    stage.tell(node_event::Body::ControllerSocketLost(Empty {}));
    let status = |client: &mut Client| {
        let answer = client.call(api_request::Body::Status(Empty {}));
        assert!(
            matches!(answer, api_response::Body::Status(status) if status.applications.len() == 1)
        );
    };
    status(&mut before);
    let path = stage.path("controller.sock");
    assert!(path.exists(), "the event was handled before the call");
    assert_eq!(
        fs::metadata(path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    status(&mut stage.client());
    status(&mut before);
}
