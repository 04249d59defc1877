use super::*;

fn judge(_: &Config) -> Problems {
    Problems::default()
}

fn arguments(words: &[&str]) -> Source {
    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        deploy: Source,
    }
    use clap::Parser;
    Line::try_parse_from(["deploy"].iter().chain(words))
        .expect("a command line")
        .deploy
}

fn read_with(words: &[&str]) -> Outcome<Submission> {
    read(
        &arguments(words),
        true,
        Program {
            judge,
            command: || clap::Command::new("eagleray"),
        },
    )
}

#[test]
fn a_module_is_one_application_and_leaves_the_others_alone() {
    let submission = read_with(&["shop:build", "size=2", "--name", "shop"]).expect("right");
    assert!(!submission.whole);
    assert_eq!(submission.names, ["shop"]);
    assert_eq!(
        submission.body["config"],
        json!({"applications": [{"name": "shop", "import_path": "shop:build", "args": {"size": "2"}}]})
    );
}

#[test]
fn a_file_is_all_that_shall_be_declared_and_is_sent_as_it_is() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("shop.yaml");
    let text = "applications:\n- {name: a, import_path: 'a:x'}\n- {name: b, route_prefix: /b, import_path: 'b:x'}\n";
    std::fs::write(&path, text).expect("written");
    let submission = read_with(&[path.to_str().expect("text")]).expect("right");
    assert!(submission.whole);
    assert_eq!(submission.names, ["a", "b"]);
    assert_eq!(submission.body["text"], text);
}

#[test]
fn every_problem_of_a_file_is_kept_with_its_place() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("shop.yaml");
    std::fs::write(&path, "applications:\n- nam: a\n  import_path: x\n").expect("written");
    let trouble = read_with(&[path.to_str().expect("text")]).expect_err("wrong");
    assert_eq!(trouble.exit, Exit::Refused);
    let places: Vec<_> = trouble
        .problems
        .iter()
        .map(|flaw| flaw.place.rsplit_once("yaml:").expect("a place").1)
        .collect();
    assert_eq!(places, ["2:3", "3:16"]);
}

#[test]
fn what_cannot_be_meant_is_a_wrong_command_line() {
    for words in [
        &["shop"][..],
        &["shop:app", "novalue"],
        &["shop:app", "=x"],
        &["missing/dir", "x=1"],
    ] {
        assert_eq!(
            read_with(words).expect_err("wrong").exit,
            Exit::Usage,
            "{words:?}"
        );
    }
    assert_eq!(
        read_with(&["missing.yaml"]).expect_err("no file").exit,
        Exit::Refused
    );
}
