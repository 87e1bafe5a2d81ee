//! Devices by name.

use candle_core::Device;

use crate::OperatorError;

/// The device called `cpu`, or the GPU `cuda:0`, `cuda:1`, …, for [`Local::on`](super::Local::on).
///
/// A name gives the same device each time. Tensors meet on one device only, so take GPUs from here.
///
/// # Errors
/// [`OperatorError::Device`] if there is no device of this name, with those that there are.
pub fn device(name: &str) -> Result<Device, OperatorError> {
    if name == "cpu" {
        return Ok(Device::Cpu);
    }
    let number = name.strip_prefix("cuda:");
    let number = number.filter(|n| n.bytes().all(|b| b.is_ascii_digit()));
    match number.and_then(|n| n.parse().ok()) {
        Some(number) => gpus::device(number).map_err(|why| refused(name, why)),
        None => Err(refused(
            name,
            format!("no such name; there are {}", gpus::names()),
        )),
    }
}

fn refused(name: &str, why: String) -> OperatorError {
    OperatorError::Device {
        name: name.to_owned(),
        why,
    }
}

#[cfg(feature = "cuda")]
mod gpus {
    use std::collections::BTreeMap;
    use std::sync::{Mutex, PoisonError};

    use candle_core::Device;
    use candle_core::cuda::cudarc::driver::{CudaContext, DriverError};

    /// Those in use: each that candle makes has tensors of its own.
    static OPEN: Mutex<BTreeMap<usize, Device>> = Mutex::new(BTreeMap::new());

    pub(super) fn device(number: usize) -> Result<Device, String> {
        let known = count().map_err(|e| format!("{}; there is cpu", no_driver(&e)))?;
        if number >= known {
            return Err(format!("no such GPU; there are {}", names()));
        }
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(device) = open.get(&number) {
            return Ok(device.clone());
        }
        // one stream for all threads: what one worker made is there before another works on it
        let device = Device::new_cuda_with_stream(number).map_err(|e| e.to_string())?;
        if let Device::Cuda(device) = &device {
            #[allow(unsafe_code, reason = "there is nothing to order")]
            // SAFETY: events order what several streams do; all work on this device is in its one stream, which
            // also frees memory.
            unsafe {
                device.disable_event_tracking();
            }
        }
        Ok(open.entry(number).or_insert(device).clone())
    }

    pub(super) fn names() -> String {
        match count() {
            Ok(count) => {
                let gpus = (0..count).map(|number| format!(", cuda:{number}"));
                format!("cpu{}", gpus.collect::<String>())
            }
            Err(e) => format!("cpu ({})", no_driver(&e)),
        }
    }

    fn count() -> Result<usize, DriverError> {
        CudaContext::device_count().map(|count| usize::try_from(count).unwrap_or(0))
    }

    fn no_driver(e: &DriverError) -> String {
        format!(
            "the driver of NVIDIA does not start, error {}; see nvidia-smi",
            e.0 as u32
        )
    }
}

#[cfg(not(feature = "cuda"))]
mod gpus {
    use candle_core::Device;

    pub(super) fn device(_: usize) -> Result<Device, String> {
        Err("built without the feature cuda; build with --features cuda".to_owned())
    }

    pub(super) fn names() -> String {
        "cpu, and with --features cuda also cuda:0, cuda:1, ...".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::device;

    fn said(name: &str) -> String {
        let refused = device(name).map(|_| ());
        refused.expect_err(name).to_string()
    }

    #[test]
    fn the_processor_is_always_there() {
        assert!(device("cpu").expect("cpu").is_cpu());
    }

    /// A name that is none is answered by those that there are.
    #[test]
    fn unknown_names_list_what_there_is() {
        for name in [
            "",
            "gpu",
            "CPU",
            "cpu:0",
            "cuda",
            "cuda:",
            "cuda:x",
            "cuda:-1",
            "cuda:+1",
            "cuda:0 ",
            "metal:0",
            "cuda:99999999999999999999999",
        ] {
            let said = said(name);
            let expected = format!("device `{name}`: no such name; there are cpu");
            assert!(said.starts_with(&expected), "{said}");
        }
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn gpus_need_the_feature() {
        let expected =
            "device `cuda:1`: built without the feature cuda; build with --features cuda";
        assert_eq!(said("cuda:1"), expected);
        assert!(said("gpu").ends_with("with --features cuda also cuda:0, cuda:1, ..."));
    }

    /// With or without a driver, that GPU is not there.
    #[cfg(feature = "cuda")]
    #[test]
    fn gpus_that_are_not_there_are_refused() {
        let said = said("cuda:4096");
        assert!(said.starts_with("device `cuda:4096`: "), "{said}");
        let (no_gpu, no_driver) = (
            said.contains("no such GPU"),
            said.contains("does not start"),
        );
        assert!(no_gpu != no_driver, "{said}");
        assert!(said.contains("cpu"), "{said}");
    }
}
