//! SIGTERM, SIGINT and SIGHUP: the first asks the run to seal and save, the second ends it at once.

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

use crate::error::{PipelineError, Result};
use crate::pipeline::Stop;

/// Exit code of a run that a second signal ended.
const INTERRUPTED: i32 = 130;

/// Sets `stop` at the first signal; the second exits with [`INTERRUPTED`].
pub(crate) fn install(stop: &Stop) -> Result<()> {
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        // in this order: the second signal finds the flag that the first has set
        let second = flag::register_conditional_shutdown(signal, INTERRUPTED, stop.flag());
        second
            .and_then(|_| flag::register(signal, stop.flag()))
            .map_err(|e| PipelineError::Usage {
                what: format!("signal {signal}"),
                why: format!("cannot be handled here: {e}"),
                mend: "start advect from an ordinary shell".to_owned(),
            })?;
    }
    Ok(())
}
