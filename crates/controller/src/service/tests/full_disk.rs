//! A disk that takes no more.

use super::stage::*;

/// A store on a disk that is full now and then.
struct FullDisk {
    store: Sqlite,
    full: Arc<AtomicBool>,
}

impl FullDisk {
    fn check(&self) -> Result<(), StoreError> {
        if !self.full.load(Ordering::Relaxed) {
            return Ok(());
        }
        Err(StoreError::Unavailable {
            location: self.store.location(),
            detail: "database or disk is full".into(),
        })
    }
}

impl Store for FullDisk {
    fn location(&self) -> String {
        self.store.location()
    }

    fn put_blob(&mut self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        self.check()?;
        self.store.put_blob(name, bytes)
    }

    fn blob(&mut self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.store.blob(name)
    }

    fn blob_names(&mut self) -> Result<Vec<String>, StoreError> {
        self.store.blob_names()
    }

    fn remove_blob(&mut self, name: &str) -> Result<(), StoreError> {
        self.check()?;
        self.store.remove_blob(name)
    }

    fn root(&mut self) -> Result<Option<Vec<u8>>, StoreError> {
        self.store.root()
    }

    fn replace_root(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.check()?;
        self.store.replace_root(bytes)
    }
}

#[test]
fn a_disk_that_is_full_fails_the_deploy_and_not_the_controller() {
    let full = Arc::new(AtomicBool::new(false));
    let stage = Stage::with_store({
        let full = Arc::clone(&full);
        move |path| {
            Box::new(FullDisk {
                store: Sqlite::open(path).unwrap(),
                full: Arc::clone(&full),
            })
        }
    });
    let mut client = stage.client();
    client.deploy(stage.spec("v1", 1));
    full.store(true, Ordering::Relaxed);
    for _ in 0..3 {
        match client.call(api_request::Body::Deploy(stage.spec("v2", 1))) {
            api_response::Body::Error(error) => {
                assert_eq!(error.kind, "internal");
                assert!(error.message.contains("disk is full"), "{}", error.message);
            }
            other => panic!("{other:?}"),
        }
    }
    let victim = stage
        .machine
        .lock()
        .unwrap()
        .replicas
        .keys()
        .next()
        .cloned()
        .unwrap();
    stage.machine.lock().unwrap().replicas.remove(&victim);
    stage.tell(node_event::Body::Exited(Exited {
        replica_id: victim.clone(),
        epoch: 1,
        reason: "signal 9 (SIGKILL)".into(),
        signal: 9,
        ..Default::default()
    }));
    let status = client.call(api_request::Body::Status(Empty {}));
    assert!(
        matches!(status, api_response::Body::Status(_)),
        "it answers"
    );
    assert!(
        !stage.machine.lock().unwrap().replicas.contains_key(&victim),
        "and replaces what dies"
    );
    full.store(false, Ordering::Relaxed);
    assert_eq!(client.deploy(stage.spec("v2", 1)).status, "RUNNING");
}
