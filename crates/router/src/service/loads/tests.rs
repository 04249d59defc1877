use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use bytes::Bytes;
use eagleray_types::{
    DeploymentKey,
    control::{DeploymentTarget, TargetUpdate},
};
use tokio::task::{LocalSet, yield_now};

use super::*;
use crate::service::{Options, Outgoing, view_of};

#[derive(Default)]
struct Wakes(AtomicU32);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn key(number: u32) -> DeploymentKey {
    DeploymentKey::new("a", format!("d{number}"))
}

fn target(key: DeploymentKey) -> DeploymentTarget {
    DeploymentTarget {
        key,
        max_queued_requests: -1,
        scales: true,
        ..DeploymentTarget::default()
    }
}

/// A router that knows so many deployments, all at zero replicas.
fn router(deployments: u32) -> (Handle, Reporter) {
    let handle = Handle::new(Options::default());
    let update = TargetUpdate {
        epoch: 1,
        number: 1,
        snapshot: true,
        deployments: (0..deployments).map(|number| target(key(number))).collect(),
        ..TargetUpdate::default()
    };
    handle.apply(&update);
    (handle.clone(), Reporter::new(handle, "r".to_owned()))
}

fn within_a_thread(test: impl AsyncFnOnce()) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, test());
}

fn names(loads: &Loads) -> Vec<(&str, u32, u32)> {
    let loads = loads.loads.iter();
    loads
        .map(|load| (load.deployment.as_str(), load.queued, load.running))
        .collect()
}

#[test]
fn a_thousand_deployments_that_are_idle_wake_nobody() {
    within_a_thread(async || {
        let (handle, reporter) = router(1000);
        let whole = reporter.whole();
        assert!(whole.whole && whole.loads.is_empty());
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(Arc::clone(&wakes));
        let mut next = pin!(reporter.next());
        assert!(
            next.as_mut()
                .poll(&mut Context::from_waker(&waker))
                .is_pending()
        );
        for _ in 0..100 {
            yield_now().await;
        }
        assert_eq!(wakes.0.load(Ordering::Relaxed), 0);
        // And one that is not idle does.
        let request = Outgoing::whole(Bytes::new(), Bytes::new());
        let exchange = handle.submit(std::time::Instant::now(), &key(7), request);
        assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
        let said = next.await;
        assert_eq!((said.whole, names(&said)), (false, vec![("d7", 1, 0)]));
        drop(exchange);
    });
}

#[test]
fn the_first_change_is_said_at_once_and_those_after_it_together() {
    within_a_thread(async || {
        let (handle, reporter) = router(2);
        reporter.whole();
        // The pause after the whole one.
        let submit = |number| {
            let request = Outgoing::whole(Bytes::new(), Bytes::new());
            handle.submit(std::time::Instant::now(), &key(number), request)
        };
        let began = Instant::now();
        let first = submit(0);
        assert_eq!(names(&reporter.next().await), [("d0", 1, 0)]);
        let more = [submit(0), submit(1), submit(1)];
        let said = reporter.next().await;
        assert!(began.elapsed() >= EVERY, "no more often than that");
        assert_eq!(names(&said), [("d0", 2, 0), ("d1", 2, 0)]);
        // What was taken back before it was told of is nothing to tell.
        drop(submit(0));
        drop(more);
        assert_eq!(names(&reporter.next().await), [("d0", 1, 0), ("d1", 0, 0)]);
        let whole = reporter.whole();
        assert_eq!((whole.whole, names(&whole)), (true, vec![("d0", 1, 0)]));
        drop(first);
        assert_eq!(names(&reporter.next().await), [("d0", 0, 0)]);
        let mut next = pin!(reporter.next());
        let mut context = Context::from_waker(Waker::noop());
        assert!(matches!(next.as_mut().poll(&mut context), Poll::Pending));
    });
}

#[test]
fn a_call_to_one_certain_replica_counts_for_its_deployment() {
    within_a_thread(async || {
        let (handle, reporter) = router(2);
        reporter.whole();
        let view = view_of(&key(1), "r1");
        handle.add_view(&target(view.clone()));
        let submit = |key: &DeploymentKey| {
            let request = Outgoing::whole(Bytes::new(), Bytes::new());
            handle.submit(std::time::Instant::now(), key, request)
        };
        let exchanges = [submit(&key(1)), submit(&view), submit(&view)];
        assert_eq!(names(&reporter.next().await), [("d1", 3, 0)]);
        assert_eq!(names(&reporter.whole()), [("d1", 3, 0)]);
        drop(exchanges);
        assert_eq!(names(&reporter.next().await), [("d1", 0, 0)]);
    });
}
