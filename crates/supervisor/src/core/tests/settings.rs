//! What a proxy goes by: kept for its successor, with what it serves with, which nobody else is told.

use eagleray_types::control::{ConfigureProxy, ProxyConfigured};

use super::*;

fn told(settings: &str, number: u64) -> ConfigureProxy {
    ConfigureProxy {
        settings: settings.into(),
        number,
        kept: Vec::new(),
    }
}

fn configure(told: ConfigureProxy) -> ServiceCommand {
    ServiceCommand::Tell(proxy(proxy_command::Body::Configure(told)))
}

impl World {
    fn configure(&mut self, told: ConfigureProxy) {
        self.command(node_command::Body::ConfigureProxy(told));
    }

    fn configured(&mut self, number: u64, problem: &str, kept: &[u8]) {
        self.proxy_says(proxy_event::Body::Configured(ProxyConfigured {
            number,
            problem: problem.into(),
            kept: kept.into(),
            ..ProxyConfigured::default()
        }));
    }
}

#[test]
fn a_successor_is_told_them_before_anything_else_with_what_was_served() {
    let mut world = World::up();
    world.publish(true, "s");
    world.take_commands();
    world.configure(told("{1}", 1));
    assert_eq!(world.told(Role::Proxy), [configure(told("{1}", 1))]);
    world.configured(1, "", b"secret");
    world.configure(told("{2}", 2));
    assert_eq!(
        world.told(Role::Proxy),
        [configure(told("{2}", 2))],
        "the one that runs knows what it serves with"
    );
    world.service_ends(Role::Proxy);
    world.pass(SECOND);
    let all = ConfigureProxy {
        kept: b"secret".to_vec(),
        ..told("{2}", 2)
    };
    assert_eq!(
        world.told(Role::Proxy),
        [ServiceCommand::Start, configure(all), update("s"), accept()]
    );
}

#[test]
fn what_was_served_is_kept_though_nobody_has_told_the_proxy_anything() {
    let mut world = World::up();
    world.configured(0, "", b"secret");
    world.service_ends(Role::Proxy);
    world.pass(SECOND);
    let all = ConfigureProxy {
        kept: b"secret".to_vec(),
        ..told("", 0)
    };
    assert!(world.told(Role::Proxy).contains(&configure(all)));
}

#[test]
fn what_cannot_be_taken_is_shown_until_it_can_and_secrets_are_not_passed_on() {
    let mut world = World::up();
    world.take_commands();
    world.configured(1, "a.pem: is broken", b"secret");
    let said = Body::ProxyConfigured(ProxyConfigured {
        number: 1,
        problem: "a.pem: is broken".into(),
        ..ProxyConfigured::default()
    });
    assert_eq!(world.reports(), [said]);
    let trouble = world.core.troubles.shown().troubles;
    assert!(
        trouble["http_options"]
            .sentence
            .contains("a.pem: is broken"),
        "{trouble:?}"
    );
    world.configured(1, "", b"");
    assert!(world.core.troubles.shown().troubles.is_empty());
}
