//! The device that the tests of local functions run on.

use advect_operators::local::{self, Device};

/// The processor, or what the environment variable `ADVECT_DEVICE` names. A name that is not there fails.
pub(crate) fn device() -> Device {
    match std::env::var_os("ADVECT_DEVICE") {
        None => Device::Cpu,
        Some(name) => {
            let name = name.to_string_lossy();
            local::device(&name).unwrap_or_else(|e| panic!("ADVECT_DEVICE: {e}"))
        }
    }
}
