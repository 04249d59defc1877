//! The history and the events outlive the controller, on a real disk.

use super::stage::*;

fn history(client: &mut Client) -> Vec<RevisionRecord> {
    match client.call(api_request::Body::History("app".into())) {
        api_response::Body::History(history) => history.revisions,
        other => panic!("{other:?}"),
    }
}

fn events(client: &mut Client) -> Vec<EventRecord> {
    match client.call(api_request::Body::Events(EventsRequest::default())) {
        api_response::Body::Events(events) => events.events,
        other => panic!("{other:?}"),
    }
}

#[test]
fn history_events_and_a_rollback_to_a_number_outlive_the_controller() {
    let mut stage = Stage::new();
    let mut client = stage.client();
    client.deploy(stage.spec("v1", 1));
    client.deploy(stage.spec("v2", 1));
    let (records, told) = (history(&mut client), events(&mut client));
    assert_eq!(records.len(), 2);
    assert!(records.iter().all(|one| one.result == "running"));
    assert!(!records[0].author.is_empty());
    assert!(records[0].deployed_at_s > 1.7e9);
    // Answered after what was learnt before it is saved.
    client.deploy(stage.spec("v3", 1));
    drop(client);
    stage.stop();
    stage.start();
    let mut client = stage.client();
    assert_eq!(history(&mut client)[1..], {
        let mut before = records;
        before[0].current = false;
        before
    });
    assert_eq!(events(&mut client)[..told.len()], told);
    let rollback = Rollback {
        application: "app".into(),
        revision: "r1".into(),
        author: "ann".into(),
        message: "the new one is slow".into(),
    };
    match client.call(api_request::Body::Rollback(rollback)) {
        api_response::Body::Deployed(deployed) => {
            assert_eq!((deployed.number, deployed.rollback_of), (4, 1));
        }
        other => panic!("{other:?}"),
    }
    let newest = &history(&mut client)[0];
    assert_eq!((newest.number, newest.rollback_of), (4, 1));
    assert_eq!(
        (newest.author.as_str(), newest.revision.as_str()),
        ("ann", "v1-1")
    );
    assert_eq!(newest.message, "the new one is slow");
}

#[test]
fn events_that_cannot_be_written_stop_nothing() {
    let stage = Stage::new();
    fs::create_dir(stage.path("events")).unwrap();
    let mut client = stage.client();
    assert_eq!(client.deploy(stage.spec("v1", 1)).status, "RUNNING");
    assert!(!events(&mut client).is_empty());
}
