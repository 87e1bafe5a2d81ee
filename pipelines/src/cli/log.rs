//! Structured logs on standard error.

use tracing_subscriber::EnvFilter;

use super::args::LogFormat;
use crate::error::{PipelineError, Result};

/// Starts logging. A panic of a worker becomes a debug line, and in text the end of a failed run is none, since
/// the error is printed anyway.
pub(crate) fn init(filter: &Option<String>, format: LogFormat) -> Result<()> {
    let filter = match filter {
        Some(text) => EnvFilter::try_new(text).map_err(|e| PipelineError::Usage {
            what: format!("--log {text}"),
            why: e.to_string(),
            mend: "give error, warn, info, debug or trace, or target=level,...".to_owned(),
        })?,
        None => EnvFilter::try_from_default_env().unwrap_or_else(|_| {
            EnvFilter::new(match format {
                LogFormat::Text => "warn,advect::run=off",
                LogFormat::Json => "warn",
            })
        }),
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    // a subscriber that is there already, as in tests, stays
    let _ = match format {
        LogFormat::Text => builder.with_ansi(false).try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    std::panic::set_hook(Box::new(|panic| tracing::debug!(%panic, "panic")));
    Ok(())
}
