//! SIGTERM, SIGINT and SIGHUP: the first asks the run to seal and save, the second ends it at once.

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

use crate::error::{PipelineError, Result};
use crate::pipeline::Stop;

/// Exit code of a run that a second signal ended.
const INTERRUPTED: i32 = 130;

/// Whether this program was started with a signal ignored, as `nohup` does for those that outlive their terminal.
fn ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|l| l.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

/// Sets `stop` at the first signal; the second exits with [`INTERRUPTED`].
pub(crate) fn install(stop: &Stop) -> Result<()> {
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        if signal == SIGHUP && ignored(signal) {
            continue;
        }
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
