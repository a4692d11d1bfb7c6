//! Every decision that a packet would meet.

use dataplane::packet_path::explain::Explanation;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// All decisions in order; the last one is the outcome.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ExplanationView {
    /// The decisions.
    pub steps: Vec<StepView>,
    /// The real server that would get the packet.
    pub real: Option<SocketAddr>,
}

/// One decision.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StepView {
    /// What was decided: a short stable word.
    pub stage: String,
    /// How, in a sentence.
    pub says: String,
}

impl From<Explanation> for ExplanationView {
    fn from(explanation: Explanation) -> Self {
        let step = |step: dataplane::packet_path::explain::Step| StepView {
            stage: step.stage.to_owned(),
            says: step.says,
        };
        Self { steps: explanation.steps.into_iter().map(step).collect(), real: explanation.real }
    }
}
