//! A job whose worker 0 is listened to.

use std::sync::{Arc, Mutex, PoisonError};

use advect_engine::fabric::Context;
use timely::worker::Worker;

use super::Job;
use crate::error::{PipelineError, Result};
use crate::pipeline::Run;

/// What a worker tells as it happens.
pub(crate) type Told<E> = Box<dyn FnMut(E)>;

/// Runs `job` on all workers of this process, and gives what it gave on each. What worker 0 tells goes to `sink`;
/// if that fails, the job is stopped in order and the failure is the answer.
///
/// # Errors
/// Those of `hear`, and of the fabric.
pub(crate) fn listened<J, S, E, R>(
    run: &Run,
    shared: &Arc<J>,
    sink: Option<S>,
    hear: fn(&mut S, E) -> Result<()>,
    job: fn(&mut Worker, &Context, &Arc<J>, Told<E>) -> R,
) -> Result<(Option<S>, Vec<R>)>
where
    J: Job,
    S: Send + 'static,
    E: 'static,
    R: Send + 'static,
{
    let sink = Arc::new(Mutex::new((sink, Ok::<(), PipelineError>(()))));
    let (held, shared) = (Arc::clone(&sink), Arc::clone(shared));
    let options = run.observe_from(&format!("{:?}", shared.origin().begun()));
    let outcome = run.fabric.run_with(&options, move |worker, context| {
        let (mine, stop) = (Arc::clone(&held), shared.stop().clone());
        let speaks = context.index == 0;
        let told = move |event| {
            if !speaks {
                return;
            }
            let mut held = mine.lock().unwrap_or_else(PoisonError::into_inner);
            let (sink, written) = &mut *held;
            let (Some(sink), Ok(())) = (sink, &written) else {
                return;
            };
            if let Err(e) = hear(sink, event) {
                // end in order, then say why
                *written = Err(e);
                stop.set();
            }
        };
        job(worker, context, &shared, Box::new(told))
    });
    let mut held = sink.lock().unwrap_or_else(PoisonError::into_inner);
    let (sink, written) = (held.0.take(), std::mem::replace(&mut held.1, Ok(())));
    written?;
    Ok((sink, outcome?))
}
