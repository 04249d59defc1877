use super::*;

/// A value of the same type that is another.
fn other(value: Value) -> Value {
    match value {
        Value::Whole(number) => Value::Whole(number + 1),
        Value::Number(number) => Value::Number(number + 0.5),
        Value::Flag(flag) => Value::Flag(!flag),
        Value::Text(text) => Value::Text(text + "x"),
        Value::Numbers(_) => Value::Numbers([("x".to_owned(), 1.0)].into()),
        Value::Texts(_) => Value::Texts([("x".to_owned(), "y".to_owned())].into()),
    }
}

#[test]
fn every_option_is_told_apart_and_reaches_whom_its_scope_says() {
    let old = DeploymentOptions::standard();
    for option in DeploymentOption::ALL {
        let mut new = old.clone();
        option.give(&mut new, other(option.of(&old))).unwrap();
        let changed: Vec<_> = old.changed(&new, |_| true).map(|one| one.key).collect();
        assert_eq!(changed, [option.key]);
        let told = old.of_replica() != new.of_replica();
        assert_eq!(told, option.scope == Scope::Replica, "{}", option.key);
        assert_eq!(old.changed(&new, |scope| scope != option.scope).count(), 0);
    }
}

#[test]
fn standard_values_are_taken_and_a_wrong_one_is_named_with_its_range() {
    let mut options = DeploymentOptions::standard();
    assert_eq!(options.problems(), [""; 0]);
    options.num_replicas = 0;
    options.backpressure_status = 200;
    options.health_check_period_s = f64::NAN;
    options.max_queued_requests = -2;
    assert_eq!(
        options.problems(),
        [
            "num_replicas must be 1 to 10000, got 0",
            "max_queued_requests must be at least -1, got -2",
            "health_check_period_s must be more than 0, up to 1000000000, got NaN",
            "backpressure_status of backpressure_config must be 503 or 429 or 0, got 200",
        ]
    );
}

#[test]
fn a_value_of_another_type_changes_nothing() {
    let mut options = DeploymentOptions::standard();
    let row = |key| {
        DeploymentOption::ALL
            .iter()
            .find(|row| row.key == key)
            .unwrap()
    };
    for (key, value) in [
        ("num_replicas", Value::Whole(-1)),
        ("num_replicas", Value::Text("1".into())),
        ("hang_timeout_s", Value::Flag(true)),
    ] {
        let problem = row(key).give(&mut options, value).unwrap_err();
        assert!(problem.starts_with(key), "{problem}");
    }
    assert_eq!(options, DeploymentOptions::standard());
}
