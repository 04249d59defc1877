use std::path::PathBuf;

use super::*;

/// Pairs of files by name, and a proxy that was started with the pair `first`.
struct World {
    folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let world = Self { folder };
        world.make("first");
        world
    }

    fn make(&self, name: &str) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        self.write(&format!("{name}-cert"), &made.cert.pem());
        self.write(&format!("{name}-key"), &made.signing_key.serialize_pem());
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    fn copy(&self, from: &str, to: &str) {
        std::fs::copy(self.path(from), self.path(to)).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn files(&self, name: &str) -> TlsOptions {
        TlsOptions {
            certificate: self.path(&format!("{name}-cert")),
            key: self.path(&format!("{name}-key")),
            client_authorities: None,
        }
    }

    fn options(&self, name: &str) -> Options {
        Options {
            tls: Some(self.files(name)),
            ..Options::default()
        }
    }

    /// `NAME`, the pair; `NAME ROOT`, with a root path; `plain`; anything with `bad` is refused.
    fn read(&self, text: &str) -> Result<Options, String> {
        let (name, root) = text.split_once(' ').unwrap_or((text, ""));
        match name {
            "bad" => Err("it is bad".to_owned()),
            "plain" => Ok(Options::default()),
            name => Ok(Options {
                root_path: root.to_owned(),
                ..self.options(name)
            }),
        }
    }
}

fn told(settings: &str, number: u64, kept: &[u8]) -> ConfigureProxy {
    ConfigureProxy {
        settings: settings.to_owned(),
        number,
        kept: kept.to_vec(),
    }
}

fn said(step: &Step) -> &ProxyConfigured {
    step.said.as_ref().expect("something is said")
}

fn is_nothing(step: &Step) -> bool {
    step.settings.is_none() && step.said.is_none()
}

#[test]
fn settings_are_taken_and_those_that_cannot_be_read_change_nothing() {
    let world = World::new();
    let read = |text: &str| world.read(text);
    let mut all = Configuring::new(&world.options("first"), &read);
    let step = all.configure(&told("first /a", 1, b""));
    assert_eq!(step.settings.as_ref().unwrap().root_path, "/a");
    assert_eq!((said(&step).number, said(&step).problem.as_str()), (1, ""));
    let again = all.configure(&told("first /a", 2, b""));
    assert!(again.settings.is_none(), "they hold already");
    let step = all.configure(&told("bad", 3, b""));
    assert!(step.settings.is_none());
    assert_eq!(said(&step).problem, "http_options: it is bad");
    assert_eq!(all.settings().root_path, "/a");
    let step = all.configure(&told("", 4, b""));
    assert_eq!(step.settings.unwrap().root_path, "", "as it was started");
}

#[test]
fn whether_there_is_tls_never_changes() {
    let world = World::new();
    let read = |text: &str| world.read(text);
    let mut secure = Configuring::new(&world.options("first"), &read);
    let step = secure.configure(&told("plain", 1, b""));
    assert!(step.settings.unwrap().tls.is_some());
    let mut plain = Configuring::new(&Options::default(), &read);
    let step = plain.configure(&told("first", 1, b""));
    assert!(step.settings.unwrap().tls.is_none());
    assert!(plain.introduce().is_none(), "nothing is kept");
}

#[test]
fn other_files_are_taken_and_broken_ones_leave_what_serves() {
    let world = World::new();
    world.make("second");
    let read = |text: &str| world.read(text);
    let mut all = Configuring::new(&world.options("first"), &read);
    let first = all.introduce().unwrap().kept;
    let step = all.configure(&told("second", 1, b""));
    let second = said(&step).kept.clone();
    assert!(step.settings.is_some() && second != first && !second.is_empty());
    let step = all.configure(&told("none /b", 2, b""));
    assert!(said(&step).problem.contains("none-cert: cannot be read"));
    assert!(said(&step).kept.is_empty(), "as it was");
    let settings = step.settings.unwrap();
    assert_eq!(settings.root_path, "/b", "all else is taken");
    assert!(settings.tls.is_some());
    assert_eq!(all.introduce().unwrap().kept, second);
}

#[test]
fn files_are_looked_at_and_half_of_a_renewal_is_not_worth_a_word() {
    let world = World::new();
    world.make("second");
    let read = |text: &str| world.read(text);
    let mut all = Configuring::new(&world.options("first"), &read);
    let look = |all: &mut Configuring<'_>| {
        let files = all.files().unwrap().clone();
        let found = Pem::read(&files);
        all.looked(&files, found)
    };
    assert!(is_nothing(&look(&mut all)), "as they were");
    world.copy("second-cert", "first-cert");
    assert!(is_nothing(&look(&mut all)), "they do not fit yet");
    world.copy("second-key", "first-key");
    let step = look(&mut all);
    assert!(step.settings.is_some());
    assert!(said(&step).renewed.ends_with("first-cert was read anew"));
    assert!(!said(&step).kept.is_empty());

    world.write("first-key", "nothing");
    for _ in 1..LOOKS {
        assert!(is_nothing(&look(&mut all)));
    }
    let step = look(&mut all);
    assert!(step.settings.is_none() && said(&step).problem.contains("no private key"));
    assert!(is_nothing(&look(&mut all)), "said once");
    world.copy("second-key", "first-key");
    let step = look(&mut all);
    assert_eq!(said(&step).problem, "", "well again");
    assert!(step.settings.is_none(), "nothing is another");
}

#[test]
fn a_look_at_files_of_before_says_nothing_of_those_of_now() {
    let world = World::new();
    world.make("second");
    let read = |text: &str| world.read(text);
    let mut all = Configuring::new(&world.options("first"), &read);
    let before = all.files().unwrap().clone();
    let found = Pem::read(&before);
    all.configure(&told("second", 1, b""));
    assert!(is_nothing(&all.looked(&before, found)));
}

#[test]
fn a_successor_whose_files_are_broken_serves_what_was_served() {
    let world = World::new();
    let read = |text: &str| world.read(text);
    let kept = Configuring::new(&world.options("first"), &read)
        .introduce()
        .unwrap()
        .kept;
    world.write("first-key", "nothing");
    let mut next = Configuring::new(&world.options("first"), &read);
    assert!(next.settings().tls.is_none());
    let step = next.configure(&told("", 0, &kept));
    assert!(step.settings.as_ref().unwrap().tls.is_some());
    assert!(said(&step).problem.contains("no private key"));
    assert!(next.unusable().is_none());

    let mut alone = Configuring::new(&world.options("first"), &read);
    assert!(alone.unusable().is_some(), "nobody has kept anything");
}

#[test]
fn what_was_kept_without_authorities_is_not_taken_where_clients_must_show_a_certificate() {
    let world = World::new();
    let read = |text: &str| world.read(text);
    let kept = Configuring::new(&world.options("first"), &read)
        .introduce()
        .unwrap()
        .kept;
    let strict = Options {
        tls: Some(TlsOptions {
            client_authorities: Some(world.path("none")),
            ..world.files("first")
        }),
        ..Options::default()
    };
    let mut next = Configuring::new(&strict, &read);
    let step = next.configure(&told("", 0, &kept));
    assert!(step.settings.is_none());
    assert!(next.unusable().is_some());
}
