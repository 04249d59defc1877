//! How a deployment follows its load.

use eagleray_types::control::{
    AutoscalingDecision, AutoscalingStatus, Supposed as SupposedMessage,
};
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::{json as parsed, some};

/// What was measured, what it asks for, and what holds it back.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Autoscaling {
    /// So many shall run.
    replicas: u32,
    /// So many serve.
    ready_replicas: u32,
    /// So many the load asks for now, before delays and bounds.
    asked_replicas: u32,
    min_replicas: u32,
    max_replicas: u32,
    target_ongoing_requests: f64,
    /// Requests that wait in routers.
    queued_requests: u64,
    /// Requests that replicas have.
    running_requests: u64,
    /// Every router has said what it has; until then nothing is scaled down.
    heard_all: bool,
    /// Why it is not what the load asks for.
    hold: Option<String>,
    /// The policy that says how many are needed; null: the load does.
    policy: Option<String>,
    /// Why that says nothing that can be meant, so that the number stays.
    policy_error: Option<String>,
    /// The last one first, ten at most.
    decisions: Vec<Decision>,
    /// The keys of `autoscaling_config` that are stated.
    #[schema(value_type = Object)]
    config: Value,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Decision {
    /// Wall clock, seconds.
    at_s: f64,
    from: u32,
    to: u32,
    reason: String,
}

/// What the same load would do by another configuration.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Supposed {
    /// So many would run once all delays are over, if the load stays as it is.
    replicas: u32,
    /// So many at once.
    replicas_now: u32,
    /// So many the load would ask for, before delays and bounds.
    asked_replicas: u32,
    hold: Option<String>,
}

impl From<AutoscalingStatus> for Autoscaling {
    fn from(status: AutoscalingStatus) -> Self {
        Self {
            replicas: status.replicas,
            ready_replicas: status.ready,
            asked_replicas: status.asked,
            min_replicas: status.min_replicas,
            max_replicas: status.max_replicas,
            target_ongoing_requests: status.target_ongoing_requests,
            queued_requests: status.queued,
            running_requests: status.running,
            heard_all: status.heard_all,
            hold: some(status.hold),
            policy: some(status.policy),
            policy_error: some(status.policy_error),
            decisions: status.decisions.into_iter().map(Into::into).collect(),
            config: parsed(&status.config),
        }
    }
}

impl From<AutoscalingDecision> for Decision {
    fn from(decision: AutoscalingDecision) -> Self {
        Self {
            at_s: decision.at_s,
            from: decision.from,
            to: decision.to,
            reason: decision.reason,
        }
    }
}

impl From<SupposedMessage> for Supposed {
    fn from(supposed: SupposedMessage) -> Self {
        Self {
            replicas: supposed.replicas,
            replicas_now: supposed.replicas_now,
            asked_replicas: supposed.asked,
            hold: some(supposed.hold),
        }
    }
}

/// The same in the words of Ray Serve's schema, whose `metrics` may have any keys.
pub(crate) fn detail(status: &AutoscalingStatus) -> Value {
    let policy = some(status.policy.clone()).unwrap_or_else(|| "default".to_owned());
    let decisions = status.decisions.iter().map(|one| {
        json!({
            "timestamp_s": one.at_s,
            "reason": one.reason,
            "prev_num_replicas": one.from,
            "curr_num_replicas": one.to,
            "policy": policy,
        })
    });
    let direction = match status.replicas.cmp(&status.ready) {
        std::cmp::Ordering::Greater => "UPSCALING",
        std::cmp::Ordering::Less => "DOWNSCALING",
        std::cmp::Ordering::Equal => "STABLE",
    };
    let mut metrics = Map::new();
    for (key, value) in [
        ("queued_requests", json!(status.queued)),
        ("running_requests", json!(status.running)),
        (
            "ongoing_requests",
            json!(status.queued.saturating_add(status.running)),
        ),
        (
            "target_ongoing_requests",
            json!(status.target_ongoing_requests),
        ),
        ("asked_num_replicas", json!(status.asked)),
        ("min_replicas", json!(status.min_replicas)),
        ("max_replicas", json!(status.max_replicas)),
        ("hold", json!(some(status.hold.clone()))),
    ] {
        metrics.insert(key.to_owned(), value);
    }
    json!({
        "scaling_status": direction,
        "decisions": decisions.collect::<Vec<_>>(),
        "metrics": metrics,
        "metrics_health": if status.heard_all { "healthy" } else { "delayed" },
        "errors": some(status.policy_error.clone()).into_iter().collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_detail_has_the_keys_of_ray_serves_schema() {
        let status = AutoscalingStatus {
            replicas: 4,
            ready: 1,
            asked: 6,
            queued: 20,
            running: 10,
            hold: "at max_replicas 4".to_owned(),
            policy: "m:f".to_owned(),
            policy_error: "it raised".to_owned(),
            decisions: vec![AutoscalingDecision {
                at_s: 12.5,
                from: 1,
                to: 4,
                reason: "30 ongoing requests".to_owned(),
            }],
            ..AutoscalingStatus::default()
        };
        let detail = detail(&status);
        assert_eq!(detail["scaling_status"], "UPSCALING");
        assert_eq!(detail["metrics"]["ongoing_requests"], 30);
        assert_eq!(detail["metrics"]["hold"], "at max_replicas 4");
        assert_eq!(detail["metrics_health"], "delayed");
        let decision = &detail["decisions"][0];
        assert_eq!(decision["prev_num_replicas"], 1);
        assert_eq!(decision["curr_num_replicas"], 4);
        assert_eq!(decision["policy"], "m:f");
        assert_eq!(detail["errors"], json!(["it raised"]));
        let keys = [
            "scaling_status",
            "decisions",
            "metrics",
            "metrics_health",
            "errors",
        ];
        assert_eq!(detail.as_object().map(Map::len), Some(keys.len()));
    }
}
