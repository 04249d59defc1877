//! Applications that a file leaves out are deleted: that is asked first.

use crate::{
    answers::Status,
    api::Api,
    ask,
    exit::Exit,
    status,
    submission::Submission,
    trouble::{Outcome, Trouble},
};

pub(super) fn deletions(api: &Api, submission: &Submission, yes: bool, quiet: bool) -> Outcome<()> {
    if yes || !submission.whole {
        return Ok(());
    }
    let left_out = left_out(&status::of(api, None)?, &submission.names);
    if left_out.is_empty() {
        return Ok(());
    }
    let names = left_out.join(", ");
    let question = format!("{} leaves out {names}: delete it?", submission.label);
    match ask::yes(&question, quiet) {
        Some(true) => Ok(()),
        Some(false) => Err(Trouble::new(
            Exit::Refused,
            "declined",
            "nothing was changed",
        )),
        None => {
            let message = format!(
                "{} leaves out {names}, which would be deleted; nothing was changed",
                submission.label
            );
            Err(Trouble::new(Exit::Refused, "needs_yes", message)
                .help("say --yes if that is meant, or put it into the file"))
        }
    }
}

/// What was declared and is not named any more. Applications of scripts stay.
fn left_out(status: &Status, names: &[String]) -> Vec<String> {
    let declared = status
        .applications
        .iter()
        .filter(|one| one.source == "declarative" && one.status != "DELETING");
    let gone = declared.filter(|one| !names.contains(&one.name));
    gone.map(|one| one.name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_was_declared_is_left_out() {
        let application =
            |name: &str, source: &str| json!({"name": name, "source": source, "status": "RUNNING"});
        let status = json!({"applications": [
            application("kept", "declarative"), application("old", "declarative"), application("script", "imperative"),
            {"name": "going", "source": "declarative", "status": "DELETING"},
        ]});
        let status = serde_json::from_value(status).expect("as the node says it");
        assert_eq!(
            left_out(&status, &["kept".to_owned(), "new".to_owned()]),
            ["old"]
        );
    }
}
