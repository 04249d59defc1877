//! The fuzz target of configs: a plain function of bytes, which the fuzzer of `fuzz/` runs too. A panic is a finding.

use std::collections::BTreeMap;

use eagleray_config::{Config, Format, MOST_PROBLEMS, Options};

/// The first byte says which format the rest is read as.
///
/// What is refused is refused with problems that name a place in the text. What is taken has one canonical form, which is
/// taken too and is its own; and put over code it either contradicts itself or fits what a running system obeys.
pub(crate) fn config(input: &[u8]) {
    let Some((&first, rest)) = input.split_first() else {
        return;
    };
    let text = String::from_utf8_lossy(rest);
    let format = if first.is_multiple_of(2) {
        Format::Yaml
    } else {
        Format::Json
    };
    let config = match Config::parse(&text, format) {
        Ok(config) => config,
        Err(problems) => {
            assert!((1..=MOST_PROBLEMS).contains(&problems.iter().len()));
            let lines = text.split(['\n', '\r']).count();
            for problem in problems.iter() {
                let place = problem.place.map_or(1, |place| place.line as usize);
                assert!(
                    (1..=lines).contains(&place),
                    "{problem} on line {place} of {lines}"
                );
            }
            assert!(!problems.render("fuzz").is_empty());
            return;
        }
    };
    let canonical = config.canonical();
    let again = Config::parse(&canonical, Format::Json);
    let again = again.unwrap_or_else(|problems| panic!("{canonical}: {problems}"));
    assert_eq!(again.canonical(), canonical);
    for application in &config.applications {
        let names = application.deployments.iter().map(|one| one.name.clone());
        let code: BTreeMap<_, _> = names.map(|name| (name, Options::new())).collect();
        for merged in application.over(&code).into_iter().flatten() {
            assert_eq!(merged.1.options().map(drop), Ok(()), "{canonical}");
        }
    }
}
