//! The metrics: names, types and meanings.

/// Name, type and help of every metric, in the order in which they are printed.
pub const METRICS: [(&str, &str, &str); 19] = [
    (
        "advect_operator_activations_total",
        "counter",
        "Times the operator was scheduled.",
    ),
    (
        "advect_operator_busy_seconds_total",
        "counter",
        "Time in the operator; of a scope, with its children.",
    ),
    (
        "advect_operator_records_in_total",
        "counter",
        "Records received, over all inputs.",
    ),
    (
        "advect_operator_records_out_total",
        "counter",
        "Records sent, over all outputs; a record to several receivers is one.",
    ),
    (
        "advect_operator_messages_in_total",
        "counter",
        "Messages received.",
    ),
    (
        "advect_operator_bytes_total",
        "counter",
        "Bytes sent to other workers, as the operator counted them.",
    ),
    (
        "advect_operator_queue_messages",
        "gauge",
        "Messages from workers of this process that wait for the operator.",
    ),
    (
        "advect_operator_waiting_records",
        "gauge",
        "Records of the whole job on their way to the operator, on all workers.",
    ),
    (
        "advect_operator_credits",
        "gauge",
        "Credits the operator has left.",
    ),
    (
        "advect_operator_memory_bytes",
        "gauge",
        "Bytes the operator keeps.",
    ),
    (
        "advect_operator_lag",
        "gauge",
        "Distance of the earliest time held for the operator from the newest of its scope, in timestamps (0: nothing held).",
    ),
    (
        "advect_operator_frontier_age_seconds",
        "gauge",
        "Time since what is held for the operator last moved (0: nothing held).",
    ),
    (
        "advect_frontier",
        "gauge",
        "Earliest time open in the scope, as a number.",
    ),
    (
        "advect_frontier_age_seconds",
        "gauge",
        "Time since the frontier of the scope last moved.",
    ),
    (
        "advect_worker_idle_seconds_total",
        "counter",
        "Time the worker slept for want of work.",
    ),
    (
        "advect_worker_unseen_seconds",
        "gauge",
        "Time since the worker last came to the end of a step or slept.",
    ),
    (
        "advect_peer_unheard_seconds",
        "gauge",
        "Time since progress of the worker was last heard of, for workers of other processes.",
    ),
    (
        "advect_process_resident_bytes",
        "gauge",
        "Resident memory of the process.",
    ),
    (
        "advect_trace_left_out_total",
        "counter",
        "Events left out of the trace.",
    ),
];
