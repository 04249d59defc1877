//! Watchers of targets, quick and slow.

use super::stage::*;

#[test]
fn a_watcher_gets_a_snapshot_and_then_what_changes() {
    let stage = Stage::new();
    let mut watcher = stage.client();
    watcher.send(api_request::Body::WatchTargets(Empty {}));
    let first = watcher.next_target();
    assert!(first.snapshot && first.deployments.is_empty());
    stage.client().deploy(stage.spec("v1", 1));
    let mut number = first.number;
    loop {
        let update = watcher.next_target();
        assert_eq!(update.number, number + 1);
        number = update.number;
        if update
            .deployments
            .iter()
            .any(|target| !target.versions.is_empty())
        {
            break;
        }
    }
}

#[test]
fn a_watcher_that_does_not_read_is_passed_over_and_gets_a_snapshot_later() {
    let stage = Stage::new();
    let mut watcher = stage.client();
    watcher.send(api_request::Body::WatchTargets(Empty {}));
    watcher.next_target();
    let mut client = stage.client();
    let mut spec = stage.spec("v1", 200);
    let last = 300;
    for queued in 1..=last {
        spec.revision = format!("r{queued}");
        spec.deployments[0].options.max_queued_requests = queued;
        client.deploy(spec.clone());
    }
    let (mut received, mut number, mut skipped) = (0, 0, false);
    loop {
        let update = watcher.next_target();
        received += 1;
        assert!(
            update.snapshot || update.number == number + 1 || number == 0,
            "a gap without a snapshot"
        );
        skipped |= number != 0 && update.number > number + 1;
        number = update.number;
        if update
            .deployments
            .iter()
            .any(|target| target.max_queued_requests == last)
        {
            break;
        }
    }
    assert!(skipped, "all {received} updates were kept for it");
}

#[test]
fn a_client_has_a_few_watches_at_most() {
    let stage = Stage::new();
    let mut client = stage.client();
    for _ in 0..16 {
        client.send(api_request::Body::WatchTargets(Empty {}));
        client.next_target();
    }
    let answer = client.call(api_request::Body::WatchTargets(Empty {}));
    assert!(
        matches!(answer, api_response::Body::Error(error) if error.message.contains("16 watches"))
    );
}
