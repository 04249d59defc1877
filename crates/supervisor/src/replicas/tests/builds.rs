//! Builds: processes that are no replicas.

use std::fs;

use super::*;

fn build(bench: &mut Bench, code: &str) {
    let command = Spawn {
        build: r#"{"build": 7}"#.into(),
        ..bench.spawn_command("one", 1, code)
    };
    bench.command(node_command::Body::Spawn(command));
}

#[test]
fn a_build_gets_its_options_and_listens_nowhere() {
    run(async |bench| {
        build(
            bench,
            r#"
print("to stdout", flush=True)
print("to stderr", file=sys.stderr, flush=True)
listens = "EAGLERAY_LISTEN_FD" in os.environ
open("seen", "w").write(f"{sys.argv[1:]} {sys.stdin.read()} {listens}")
"#,
        );
        let exited = bench.exited().await;
        assert_eq!(
            bench.file("seen"),
            "['eagleray._driver.build_process', 'eagleray: build app one'] {\"build\": 7} False"
        );
        assert_eq!(exited.reason, "exit status 0");
        let tail: std::collections::BTreeSet<&str> = exited.stderr_tail.lines().collect();
        assert_eq!(tail, ["to stderr", "to stdout"].into());
        assert!(!bench.core.any_replica_failed(), "nothing went wrong");
        let logs = fs::read_dir(bench.directory.path().join("logs")).unwrap();
        let names: Vec<_> = logs.map(|log| log.unwrap().file_name()).collect();
        assert_eq!(
            fs::read_dir(bench.directory.path().join("r"))
                .unwrap()
                .count(),
            0,
            "it has no socket"
        );
        assert!(
            names.contains(&"build_app_one.log".into()),
            "its output has a file: {names:?}"
        );
    });
}

#[test]
fn a_build_that_is_stopped_is_killed_at_once_with_what_it_has_started() {
    run(async |bench| {
        build(
            bench,
            r#"
child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
open("seen", "w").write(str(child.pid))
os.rename("seen", "child")
time.sleep(1000)
"#,
        );
        while bench.file("child").is_empty() {
            tokio::task::yield_now().await;
        }
        bench.stop("one", 1, 60_000);
        let exited = bench.exited().await;
        assert_eq!(exited.reason, "signal 9 (SIGKILL)");
        assert!(!processes::is_alive(bench.file("child").parse().unwrap()));
    });
}

#[test]
fn a_python_without_our_package_says_so() {
    run(async |bench| {
        let directory = bench.directory.path().join("work");
        let command = Spawn {
            python: "python3".into(),
            bootstrap: String::new(),
            environment: [("PYTHONPATH".to_owned(), String::new())].into(),
            build: "{}".into(),
            working_directory: directory.to_string_lossy().into_owned(),
            ..bench.spawn_command("one", 1, "")
        };
        bench.command(node_command::Body::Spawn(command));
        let exited = bench.exited().await;
        assert_eq!(exited.reason, "exit status 1");
        assert!(exited.stderr_tail.contains("has no eagleray"), "{exited:?}");
    });
}
