//! Reads what was measured between two times, in steps of somebody's choice.
//!
//! The tier with the shortest slots that reaches back far enough answers, and a step is a whole number of its slots. Bounds:
//! [`MOST_POINTS`] steps, and [`MOST_CELLS`] over all series together: where there would be more, the series with the least to do are left
//! out and counted. The file is read twice, first for whom there is and then for those who are shown, so that what is
//! held is bounded too.

use std::collections::BTreeMap;

use crate::{
    layout::TIERS,
    marks::Mark,
    record::Slot,
    ring::Ring,
    row::{Row, Subject},
};

pub const MOST_POINTS: u64 = 2_000;
pub const MOST_CELLS: usize = 60_000;
/// Of an answer.
const MOST_MARKS: usize = 500;

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// `None`: all.
    pub application: Option<String>,
    pub deployment: Option<String>,
    /// This one, or, with `replicas`, all.
    pub replica: Option<String>,
    pub replicas: bool,
    /// Since 1970, as `to_ms` and `now_ms`.
    pub from_ms: u64,
    pub to_ms: u64,
    pub now_ms: u64,
    /// `None`: whatever gives a few hundred points at most.
    pub step_ms: Option<u64>,
}

/// What there is.
#[derive(Clone, Debug, Default)]
pub struct Window {
    /// The beginning of the first step: `from` or a little before.
    pub from_ms: u64,
    pub step_ms: u64,
    /// Of each step, how long was measured in it; 0: nothing was.
    pub covered_ms: Vec<u64>,
    pub series: Vec<OneSeries>,
    /// Series that had no room: here, or in the file.
    pub left_out: u64,
    pub marks: Vec<Mark>,
}

#[derive(Clone, Debug)]
pub struct OneSeries {
    pub subject: Subject,
    /// Of the whole window.
    pub total: Row,
    /// Of each step; `None`: it was not there.
    pub steps: Vec<Option<Row>>,
}

impl Query {
    fn wants(&self, subject: &Subject) -> bool {
        let is = |wanted: &Option<String>, name: &str| {
            wanted.as_ref().is_none_or(|wanted| wanted == name)
        };
        let is_wanted_replica = if subject.is_replica() {
            self.replicas || self.replica.is_some()
        } else {
            self.replica.is_none()
        };
        is_wanted_replica
            && is(&self.application, &subject.application)
            && is(&self.deployment, &subject.deployment)
            && is(&self.replica, &subject.replica)
    }

    fn wants_mark(&self, mark: &Mark) -> bool {
        let is = |wanted: &Option<String>, name: &str| {
            // What is of the whole node, or the whole application, is of each in it.
            name.is_empty() || wanted.as_ref().is_none_or(|wanted| wanted == name)
        };
        mark.time_ms >= self.from_ms
            && mark.time_ms < self.to_ms
            && is(&self.application, &mark.application)
            && is(&self.deployment, &mark.deployment)
            && is(&self.replica, &mark.replica)
    }
}

/// Which slots answer, and how many make a step.
struct Plan {
    tier: usize,
    first: u64,
    end: u64,
    slots_a_step: u64,
}

impl Plan {
    /// # Errors
    /// Why there would be too much, for people.
    fn of(query: &Query) -> Result<Self, String> {
        if query.from_ms >= query.to_ms {
            return Err("`from` is not before `to`".to_owned());
        }
        let age = query.now_ms.saturating_sub(query.from_ms);
        let longest = TIERS[TIERS.len() - 1].span_ms();
        let wanted_step = query.step_ms.unwrap_or(0).min(longest);
        let reaches = TIERS.iter().position(|tier| {
            let coarsest_wanted = wanted_step.max(tier.step_ms);
            let is_short =
                query.step_ms.is_some() || (query.to_ms - query.from_ms) / coarsest_wanted <= 400;
            tier.span_ms() >= age && is_short
        });
        let tier = reaches.unwrap_or(TIERS.len() - 1);
        let of = &TIERS[tier];
        // What lies in the future was written by a clock that was wrong.
        let to_ms = query.to_ms.min(query.now_ms.saturating_add(of.step_ms));
        // The slot that is being overwritten is the oldest.
        let oldest = (query.now_ms / of.step_ms + 1).saturating_sub(of.slots);
        let slots_a_step = wanted_step.div_ceil(of.step_ms).max(1);
        let aligned = |index: u64| index / slots_a_step * slots_a_step;
        let first = aligned((query.from_ms / of.step_ms).max(oldest));
        let end = to_ms.div_ceil(of.step_ms).max(first + 1);
        let plan = Self {
            tier,
            first,
            end,
            slots_a_step,
        };
        if plan.points() > MOST_POINTS {
            let fits = (end - first).div_ceil(MOST_POINTS) * of.step_ms;
            return Err(format!(
                "there would be {} points, and {MOST_POINTS} is the most; a step of {} s fits",
                plan.points(),
                fits / 1000
            ));
        }
        Ok(plan)
    }

    fn points(&self) -> u64 {
        (self.end - self.first).div_ceil(self.slots_a_step)
    }

    /// Each slot that there is, with the step that it belongs to.
    fn slots<'a>(&'a self, ring: &'a Ring) -> impl Iterator<Item = (usize, Slot)> + 'a {
        (self.first..self.end).filter_map(|index| {
            let step = (index - self.first) / self.slots_a_step;
            Some((step as usize, ring.slot(self.tier, index)?))
        })
    }
}

impl Window {
    /// # Errors
    /// What is wrong with the question, for people.
    pub fn read(ring: &Ring, query: &Query) -> Result<Self, String> {
        let plan = Plan::of(query)?;
        let points = plan.points() as usize;
        let step_ms = TIERS[plan.tier].step_ms;
        let mut window = Self {
            from_ms: plan.first * step_ms,
            step_ms: plan.slots_a_step * step_ms,
            covered_ms: vec![0; points],
            ..Self::default()
        };
        let mut totals: BTreeMap<Subject, Row> = BTreeMap::new();
        for (step, slot) in plan.slots(ring) {
            window.covered_ms[step] += slot.covered_ms;
            window.left_out = window.left_out.max(slot.left_out);
            for (subject, row) in slot.rows.iter().filter(|(subject, _)| query.wants(subject)) {
                totals.entry(subject.clone()).or_default().add(row);
            }
        }
        let mut shown: Vec<(Subject, Row)> = totals.into_iter().collect();
        let most = (MOST_CELLS / points.max(1)).max(1);
        if shown.len() > most {
            window.left_out += (shown.len() - most) as u64;
            shown.sort_by_key(|(subject, row)| (subject.is_replica(), u64::MAX - row.weight()));
            shown.truncate(most);
            shown.sort_by(|(one, _), (other, _)| one.cmp(other));
        }
        window.series = shown
            .into_iter()
            .map(|(subject, total)| OneSeries {
                subject,
                total,
                steps: vec![None; points],
            })
            .collect();
        window.fill(&plan, ring);
        window.marks = ring.marks();
        window.marks.retain(|mark| query.wants_mark(mark));
        window.marks.sort_by_key(|mark| mark.time_ms);
        window
            .marks
            .drain(..window.marks.len().saturating_sub(MOST_MARKS));
        Ok(window)
    }

    fn fill(&mut self, plan: &Plan, ring: &Ring) {
        for (step, slot) in plan.slots(ring) {
            for one in &mut self.series {
                if let Some(row) = slot.rows.get(&one.subject) {
                    one.steps[step].get_or_insert_default().add(row);
                }
            }
        }
    }
}
