//! What grows on the disk, and what somebody removes from it.

use std::time::{Instant, SystemTime};

use super::stage::*;
use crate::core::REVISIONS_KEPT;

fn eventually(complaint: &str, condition: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < until, "{complaint}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn blob(stage: &Stage, version: &str) -> PathBuf {
    stage.path("blobs").join(sha256_hex(version.as_bytes()))
}

#[test]
fn the_blobs_of_a_revision_go_with_it_and_those_somebody_has_come_for_stay() {
    let stage = Stage::new();
    let mut client = stage.client();
    let name = |number: usize| format!("v{number}");
    for number in 0..REVISIONS_KEPT {
        client.deploy(stage.spec(&name(number), 1));
    }
    // A driver comes for the second again before it goes.
    fs::File::options()
        .append(true)
        .open(blob(&stage, "v1"))
        .unwrap()
        .set_modified(SystemTime::now() + Duration::from_secs(5))
        .unwrap();
    for number in REVISIONS_KEPT..REVISIONS_KEPT + 3 {
        client.deploy(stage.spec(&name(number), 1));
    }
    eventually("the blob of the third is there", || {
        !blob(&stage, "v2").exists()
    });
    eventually("the blob of the first is there", || {
        !blob(&stage, "v0").exists()
    });
    assert!(blob(&stage, "v1").exists(), "it was touched");
    for number in 3..REVISIONS_KEPT + 3 {
        assert!(
            blob(&stage, &name(number)).exists(),
            "{number} can be gone back to"
        );
    }
    client.call(api_request::Body::DeleteAll(Empty {}));
    client.call(api_request::Body::Status(Empty {}));
    assert!(
        blob(&stage, &name(3)).exists(),
        "a deleted application can be brought back"
    );
}

#[test]
fn a_checkpoint_that_was_removed_is_written_again_whole() {
    let mut stage = Stage::new();
    let mut client = stage.client();
    client.deploy(stage.spec("v1", 1));
    client.deploy(stage.spec("v2", 1));
    let path = stage.path("checkpoint.sqlite");
    for removed in ["checkpoint.sqlite", "checkpoint.sqlite-journal"] {
        fs::remove_file(stage.path(removed)).ok();
    }
    stage.tell(node_event::Body::StateLost(Empty {}));
    eventually("it is not made again", || path.exists());
    // Answered after what was saved before it.
    client.deploy(stage.spec("v3", 1));
    drop(client);
    stage.stop();
    stage.start();
    let mut client = stage.client();
    let api_response::Body::Status(status) = client.call(api_request::Body::Status(Empty {}))
    else {
        panic!("no status");
    };
    assert_eq!(status.applications.len(), 1);
    let rollback = Rollback {
        application: "app".into(),
        revision: "v1-1".into(),
        ..Rollback::default()
    };
    let answer = client.call(api_request::Body::Rollback(rollback));
    assert!(
        matches!(answer, api_response::Body::Deployed(_)),
        "{answer:?}"
    );
}

#[test]
fn a_checkpoint_that_was_moved_away_is_begun_anew_above_all_that_was_before() {
    let mut stage = Stage::new();
    stage.client().deploy(stage.spec("v1", 1));
    for _ in 0..2 {
        stage.stop();
        stage.start();
        stage.client().call(api_request::Body::Status(Empty {}));
    }
    eventually("the third controller has published nothing", || {
        stage.machine.lock().unwrap().newest_epoch == 3
    });
    stage.stop();
    for name in ["checkpoint.sqlite", "checkpoint.sqlite-journal"] {
        fs::remove_file(stage.path(name)).unwrap();
    }
    stage.start();
    // It is behind, and says so as it ends.
    let (controller, node, hang_up) = stage.controller.take().unwrap();
    let error = controller.join().unwrap().unwrap_err();
    assert!(
        matches!(
            error,
            Error::Behind {
                epoch: 1,
                newest: 3
            }
        ),
        "{error}"
    );
    drop(hang_up);
    node.join().unwrap();
    stage.start();
    let mut client = stage.client();
    assert_eq!(client.deploy(stage.spec("v2", 1)).status, "RUNNING");
    assert_eq!(stage.machine.lock().unwrap().newest_epoch, 4);
}
