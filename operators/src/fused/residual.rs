//! Shifts and the end of a branch on a tape. Of sums the tape keeps nothing.

use advect_engine::graph::Site;

use super::{OnTape, Result, exactly};
use crate::local::{Handle, Tape};
use crate::network::{Add, Bias, Residual};

impl OnTape for Bias {
    fn record(&self, _: &Site, tape: &mut Tape, inputs: &[Handle]) -> Result<Handle> {
        let [x, b] = exactly("bias", inputs)?;
        tape.total(x, &[b])
    }
}

impl OnTape for Add {
    fn record(&self, _: &Site, tape: &mut Tape, inputs: &[Handle]) -> Result<Handle> {
        let [x, y] = exactly("add", inputs)?;
        tape.total(x, &[y])
    }

    fn ends(&self) -> bool {
        true
    }
}

impl OnTape for Residual {
    fn record(&self, _: &Site, tape: &mut Tape, inputs: &[Handle]) -> Result<Handle> {
        let [x, y, b] = exactly("residual", inputs)?;
        tape.total(x, &[y, b])
    }

    fn ends(&self) -> bool {
        true
    }
}
