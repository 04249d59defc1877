//! What a proxy says that it has to do of a deployment that scales, and what those are told who wait for one at zero.

use std::time::Instant;

use eagleray_types::control::DeploymentTarget;

use crate::support::{Client, PATIENCE, Proxy, Replica, answer_all, target};

impl Proxy {
    /// How many requests wait for a deployment, and how many run, as the threads have said until now.
    fn load(&mut self, deployment: &str) -> (u32, u32) {
        // What is answered comes after what was said before.
        self.counter("panics");
        let words = self
            .loads
            .values()
            .filter_map(|known| known.get(deployment));
        words.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    }
}

fn scaling(name: &str, replicas: &[&Replica]) -> DeploymentTarget {
    DeploymentTarget {
        scales: true,
        ..target(name, replicas)
    }
}

/// Waits until the threads together have said this.
fn wait_for(proxy: &mut Proxy, deployment: &str, load: (u32, u32)) {
    let began = Instant::now();
    while proxy.load(deployment) != load {
        let is = proxy.load(deployment);
        assert!(began.elapsed() < PATIENCE, "{is:?} and not {load:?}");
        std::thread::yield_now();
    }
}

fn sent(proxy: &Proxy, count: usize) -> Vec<Client> {
    let client = |_| {
        let mut client = proxy.client();
        client.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n");
        client
    };
    (0..count).map(client).collect()
}

#[test]
fn what_waits_and_what_runs_is_said_of_deployments_that_scale() {
    let mut proxy = Proxy::start();
    proxy.snapshot(&[("/", scaling("D", &[]))]);
    let mut clients = sent(&proxy, 5);
    wait_for(&mut proxy, "D", (5, 0));
    drop(clients.pop());
    wait_for(&mut proxy, "D", (4, 0));
    let replica = Replica::serving("a", 10, answer_all);
    proxy.snapshot(&[("/", scaling("D", &[&replica]))]);
    for client in &mut clients {
        assert_eq!(client.response().status, 200);
    }
    wait_for(&mut proxy, "D", (0, 0));
    proxy.snapshot(&[("/", target("E", &[]))]);
    let _waiting = sent(&proxy, 1);
    assert_eq!(proxy.load("E"), (0, 0), "nobody wants to know");
}

#[test]
fn those_that_wait_are_told_why_waiting_would_not_help_and_when_to_come_back() {
    let mut proxy = Proxy::start();
    proxy.snapshot(&[("/", scaling("D", &[]))]);
    let mut clients = sent(&proxy, 2);
    wait_for(&mut proxy, "D", (2, 0));
    let given_up = DeploymentTarget {
        unavailable: "the first one keeps failing".to_owned(),
        ..scaling("D", &[])
    };
    proxy.snapshot(&[("/", given_up)]);
    clients.extend(sent(&proxy, 1));
    for client in &mut clients {
        let response = client.response();
        assert_eq!(
            (response.status, response.header("retry-after")),
            (503, Some("30"))
        );
        let text = response.text();
        assert!(text.contains("app/D is not available"), "{text}");
        assert!(text.contains("(the first one keeps failing)"), "{text}");
    }
    wait_for(&mut proxy, "D", (0, 0));
}
