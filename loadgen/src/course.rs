//! Who is connected and subscribed as a run goes on.

use crate::scenario::{Scenario, Step};
use ringmq_codec::Version;

#[derive(Clone, Copy, Debug, Default)]
struct Standing {
    is_connected: bool,
    is_subscribed: bool,
}

/// Where all groups stand.
#[derive(Debug)]
pub(crate) struct Course<'a> {
    scenario: &'a Scenario,
    groups: Vec<Standing>,
}

/// Who gets what is published now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Audience {
    /// Groups that get it at once.
    pub listening: Vec<usize>,
    /// Groups that the broker keeps it for.
    pub away: Vec<usize>,
}

impl<'a> Course<'a> {
    pub fn new(scenario: &'a Scenario) -> Self {
        Self { scenario, groups: vec![Standing::default(); scenario.groups.len()] }
    }

    /// A step was taken.
    pub fn take(&mut self, step: &Step) {
        match step {
            Step::Connect { groups, .. } => {
                for at in groups {
                    let group = &self.scenario.groups[*at];
                    self.groups[*at].is_connected = true;
                    self.groups[*at].is_subscribed &= !group.clean_start;
                }
            }
            Step::Subscribe { groups } => {
                groups.iter().for_each(|at| self.groups[*at].is_subscribed = true);
            }
            Step::Disconnect { groups } => {
                for at in groups {
                    let group = &self.scenario.groups[*at];
                    let is_kept =
                        !group.clean_start && (group.version != Version::V5 || group.session_expiry_s > 0);
                    self.groups[*at].is_connected = false;
                    self.groups[*at].is_subscribed &= is_kept;
                }
            }
            Step::Forget { groups } | Step::Churn { groups, .. } => {
                groups.iter().for_each(|at| self.groups[*at] = Standing::default());
            }
            Step::Publish { .. }
            | Step::Clear { .. }
            | Step::Receive
            | Step::Hold { .. }
            | Step::Ping { .. }
            | Step::Shell { .. } => {}
        }
    }

    /// Who gets what these groups publish now.
    pub fn audience(&self, publishing: &[usize]) -> Audience {
        let is_retained =
            |at: &usize| self.scenario.groups[*at].publish.as_ref().is_some_and(|publish| publish.retain);
        let are_retained = publishing.iter().all(is_retained);
        let mut audience = Audience::default();
        for (at, standing) in self.groups.iter().enumerate() {
            match (standing.is_connected, standing.is_subscribed) {
                (true, true) => audience.listening.push(at),
                (false, true) => audience.away.push(at),
                // What is retained comes once they subscribe.
                (_, false) if are_retained => audience.away.push(at),
                (_, false) => {}
            }
        }
        audience
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presets::Options;

    /// The audiences of all Publish steps.
    fn audiences(scenario: &Scenario) -> Vec<Audience> {
        let mut course = Course::new(scenario);
        let mut found = Vec::new();
        for step in &scenario.steps {
            if let Step::Publish { groups, .. } = step {
                found.push(course.audience(groups));
            }
            course.take(step);
        }
        found
    }

    #[test]
    fn who_is_away_and_who_listens_follows_from_the_steps() {
        let options = Options::default();
        let found = |scenario: Result<Scenario, String>| audiences(&scenario.unwrap());
        let table = [
            (found(options.pairs(2)), vec![0], vec![]),
            (found(options.offline(10, 2, 1, None)), vec![], vec![0]),
            (found(options.retained(10, 1, 2)), vec![], vec![0, 1]),
        ];
        for (audiences, listening, away) in table {
            assert_eq!(audiences, [Audience { listening, away }]);
        }
    }
}
