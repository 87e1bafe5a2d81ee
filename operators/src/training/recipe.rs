//! What is trained, and how.

use advect_engine::Graph;

use super::{Initial, Method, Schedule};

/// A parameter of a graph: what it starts from and how it is treated.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// Its name in the graph.
    pub name: String,
    /// Its first value.
    pub initial: Initial,
    /// Whether weight decay applies: to matrices, not to shifts and gains.
    pub decays: bool,
}

/// A graph with a loss, and the first values of its parameters.
#[derive(Debug, Clone)]
pub struct Trainable {
    /// The graph: its output `loss` is a sum over targets, its output `count` (`F64`) their number, and `share`, if
    /// there is one, what of the loss is told on its own.
    pub graph: Graph,
    /// Every parameter of the graph, in the order of their making.
    pub parameters: Vec<Parameter>,
}

/// How it is trained.
#[derive(Debug, Clone, PartialEq)]
pub struct Recipe {
    /// The optimizer.
    pub method: Method,
    /// The learning rate by step.
    pub schedule: Schedule,
    /// Weight decay λ: a weight loses the part λ times the learning rate a step.
    pub decay: f64,
    /// The greatest norm of the gradient of the mean loss, all parameters together; a longer one is
    /// shortened to it.
    pub clip: Option<f64>,
    /// Seed of the first values.
    pub seed: u64,
    /// How much of the running mean of each parameter stays in a step; `None` takes no mean
    /// ([`Trained::averages`](super::Trained::averages)).
    pub average: Option<f64>,
}

/// The name of the running mean among the numbers that are kept for each element.
pub(super) const AVERAGE: &str = "average";

impl Recipe {
    /// Names of the numbers that are kept for each element beside its parameter: those of the optimizer,
    /// and the running mean.
    pub fn slots(&self) -> Vec<&'static str> {
        let average = self.average.map(|_| AVERAGE);
        let slots = self.method.slots().iter().copied();
        slots.chain(average).collect()
    }
}
