//! The loop of training before it runs.

use advect_operators::training::Trainable;

use super::Training;
use crate::plan::Plan;

/// The plan of a job: its `title`; what feeds it, what that is, and what comes from it.
pub(crate) fn plan(
    title: String,
    [source, what, gives]: [&str; 3],
    trainable: &Trainable,
    training: &Training,
) -> Plan {
    let graph = &trainable.graph;
    let workers = 0..graph.mesh().workers();
    let most = |of: &dyn Fn(usize) -> usize| workers.clone().map(of).max().unwrap_or(0) as u64;
    let weights = most(&|w| graph.parameter_bytes(w));
    let slots = training.recipe.slots().len() as u64;
    let relayout = "relayout";
    let there = most(&|w| graph.bytes_sent(w));
    let back = most(&|w| graph.bytes_sent_back(w));
    let gradients = most(&|w| trainable.gradient_bytes_sent(w).unwrap_or(0));
    Plan::new(title)
        .node(source, what, 0)
        .node(
            "Forward",
            "the graph, parameters as they are stored",
            weights,
        )
        .node(
            "Backward",
            "its adjoint, gradients as they are stored",
            weights,
        )
        .node("Tally", "loss, targets, squares of gradients", 0)
        .node("Update", "the state of the optimizer", slots * weights)
        .edge(source, "Forward", gives, "pipeline", 0)
        .edge(
            "Forward",
            "Backward",
            "relayouts on the way forward, a micro-batch",
            relayout,
            there,
        )
        .edge(
            "Backward",
            "Update",
            "relayouts on the way back, a micro-batch",
            relayout,
            back,
        )
        .edge(
            "Backward",
            "Tally",
            "gradients to where they are stored, a step",
            relayout,
            gradients,
        )
        .edge(
            "Tally",
            "Update",
            "totals of a step",
            "Partial(Sum) -> Same",
            0,
        )
        .edge(
            "Update",
            "Forward",
            "version of the next step",
            "feedback (1, 0)",
            0,
        )
        .note(
            "memory without activations; relayouts of parameters are sent once a step, with zero-2 and zero-3 \
             also those of gradients and of parameters at every micro-batch",
        )
}
