//! Back to an earlier deploy: its code, its options, and what was declared with it.

use std::collections::BTreeMap;

use eagleray_types::control::{ApiError, ApplicationSpec, Compare, Planned, Rollback};

use super::{
    event::{Origin, Source},
    plan::{self, packages},
    validate::api_error,
};
use crate::books::{
    Books,
    history::{History, Record},
};

/// Revisions that a refusal names.
const NAMED: usize = 10;

/// What is deployed by a rollback, and where that came from. An application that was deleted comes back.
pub(super) fn earlier(
    books: &Books,
    rollback: &Rollback,
) -> Result<(ApplicationSpec, Box<Origin>), ApiError> {
    let record = find(books, &rollback.application, &rollback.revision)?;
    let kept = &record.entry.record;
    let origin = Origin {
        source: Source::Rollback,
        author: rollback.author.clone(),
        message: rollback.message.clone(),
        config: kept.config.clone(),
        node_options: kept.node_options.clone(),
        rollback_of: kept.number,
        ..Origin::default()
    };
    Ok((record.revision.spec.clone(), Box::new(origin)))
}

fn find<'a>(books: &'a Books, name: &str, revision: &str) -> Result<&'a Record, ApiError> {
    let Some(history) = books.desired.history(name) else {
        let message = format!(
            "there is no application '{name}', and none of that name was deleted in the last 7 days"
        );
        return Err(api_error("not_found", message));
    };
    let found = history.find(revision);
    found.ok_or_else(|| not_kept(name, revision, history))
}

/// What leads from one revision to another, whichever came first.
pub(super) fn compare(books: &Books, compare: &Compare) -> Result<Planned, ApiError> {
    let from = find(books, &compare.application, &compare.from)?;
    let to = find(books, &compare.application, &compare.to)?;
    let mut planned = plan::compare(Some(&from.revision.spec), Some(&to.revision.spec));
    planned.from = from.number();
    Ok(Planned {
        applications: vec![planned],
        ..Planned::default()
    })
}

/// What a rollback does not bring back: an interpreter or packages that have changed since.
pub(super) fn warnings(
    present: &ApplicationSpec,
    earlier: &ApplicationSpec,
    number: u64,
) -> Vec<String> {
    let mut warnings = Vec::new();
    let changed = packages(&packages_of(earlier), &packages_of(present));
    if !changed.is_empty() {
        warnings.push(format!(
            "packages have changed since r{number}: {}; a rollback brings back code, not packages, so it runs with what \
             is installed now",
            changed.join(", ")
        ));
    }
    if earlier.python != present.python {
        warnings.push(format!(
            "r{number} runs with {} again, where the present revision has {}",
            earlier.python, present.python
        ));
    }
    warnings
}

fn packages_of(spec: &ApplicationSpec) -> BTreeMap<String, String> {
    let deployments = spec.deployments.iter();
    deployments.flat_map(|one| one.packages.clone()).collect()
}

fn not_kept(name: &str, revision: &str, history: &History) -> ApiError {
    let wanted = match revision {
        "" => "a revision before the present one".to_owned(),
        revision => format!("revision {revision}"),
    };
    let short = |hash: &str| -> String { hash.chars().take(12).collect() };
    let known: Vec<String> = history
        .newest_first()
        .take(NAMED)
        .map(|one| format!("r{} ({})", one.number(), short(&one.revision.spec.revision)))
        .collect();
    let message = format!(
        "application '{name}' has not kept {wanted}; the newest that it has kept: {}",
        known.join(", ")
    );
    api_error("not_found", message)
}
