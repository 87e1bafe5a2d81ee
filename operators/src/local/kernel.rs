//! Segments that a device has a kernel for.

use std::fmt::Debug;
use std::rc::Rc;

use candle_core::{Result, Tensor};

use super::remake::Segment;
use super::tape::{Handle, Tape};
use crate::OperatorError;

/// The value and the cotangents of a function of one result, without a tape. What it computes is what the segment
/// records that it stands for.
pub(crate) trait Kernel: Debug {
    /// Whether it takes tensors of these shapes and types on their device.
    fn takes(&self, inputs: &[&Tensor]) -> bool;

    /// The value, and what the cotangents need beside it and the inputs: little, or what the tape keeps anyway.
    ///
    /// # Errors
    /// If the device refuses.
    fn value(&self, inputs: &[&Tensor]) -> Result<(Tensor, Vec<Tensor>)>;

    /// The cotangents of all inputs from that of the value, with what was kept.
    ///
    /// # Errors
    /// If the device refuses.
    fn cotangents(&self, inputs: &[&Tensor], kept: &[Tensor], back: &Tensor)
    -> Result<Vec<Tensor>>;
}

impl Tape {
    /// The kernel, if it takes these inputs.
    ///
    /// # Errors
    /// If a value was let go.
    pub(crate) fn taken(
        &self,
        inputs: &[Handle],
        kernel: Option<Rc<dyn Kernel>>,
    ) -> std::result::Result<Option<Rc<dyn Kernel>>, OperatorError> {
        let given = self.values(inputs)?;
        Ok(kernel.filter(|kernel| kernel.takes(&given)))
    }

    /// The result of `make` by a kernel that takes the inputs, as that of [`Tape::remake`]; derivatives of higher order
    /// are those of `make`.
    ///
    /// # Errors
    /// Those of the device.
    pub(crate) fn remake_by(
        &mut self,
        inputs: &[Handle],
        kernel: Rc<dyn Kernel>,
        make: impl Fn(&mut Tape, &[Handle]) -> std::result::Result<Vec<Handle>, OperatorError> + 'static,
    ) -> std::result::Result<Vec<Handle>, OperatorError> {
        let given = self.values(inputs)?;
        let (value, kept) = kernel.value(&given)?;
        let depends = given.iter().map(|x| x.dtype().is_float()).collect();
        let segment = Segment::by((kernel, kept), make, depends);
        Ok(self.segment(segment, inputs, vec![value]))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use candle_core::{DType, Device};

    use super::*;

    /// x² y, which counts what is asked of it.
    #[derive(Debug, Default)]
    struct Counted {
        values: Cell<usize>,
        cotangents: Cell<usize>,
    }

    impl Kernel for Counted {
        fn takes(&self, inputs: &[&Tensor]) -> bool {
            inputs.iter().all(|x| x.dtype() == DType::F64)
        }

        fn value(&self, inputs: &[&Tensor]) -> Result<(Tensor, Vec<Tensor>)> {
            self.values.set(self.values.get() + 1);
            let square = inputs[0].sqr()?;
            Ok((square.mul(inputs[1])?, vec![square]))
        }

        fn cotangents(
            &self,
            inputs: &[&Tensor],
            kept: &[Tensor],
            back: &Tensor,
        ) -> Result<Vec<Tensor>> {
            self.cotangents.set(self.cotangents.get() + 1);
            let to_x = inputs[0].mul(inputs[1])?.affine(2.0, 0.0)?.mul(back)?;
            Ok(vec![to_x, kept[0].mul(back)?])
        }
    }

    type Made = std::result::Result<Vec<Handle>, OperatorError>;

    fn recorded(tape: &mut Tape, inputs: &[Handle]) -> Made {
        let square = tape.sqr(inputs[0])?;
        Ok(vec![tape.mul(square, inputs[1])?])
    }

    /// The tape, x and y, and x + x² y.
    fn tape(
        kernel: &Rc<Counted>,
        numbers: [f64; 2],
    ) -> std::result::Result<(Tape, [Handle; 2], Handle), OperatorError> {
        let mut tape = Tape::new();
        let [x, y] = numbers.map(|x| Tensor::new(&[x], &Device::Cpu));
        let (x, y) = (tape.input("x", &x?), tape.input("y", &y?));
        let known: Rc<dyn Kernel> = Rc::clone(kernel) as _;
        let known = tape.taken(&[x, y], Some(known))?.expect("it takes doubles");
        let made = tape.remake_by(&[x, y], known, recorded)?[0];
        let z = tape.add(x, made)?;
        Ok((tape, [x, y], z))
    }

    fn number(tensor: &Tensor) -> f64 {
        tensor.to_vec1::<f64>().expect("doubles")[0]
    }

    /// A sweep that lets go has the value and the cotangents of the kernel, beside what else meets; one that is recorded
    /// has the derivatives of what the kernel stands for.
    #[test]
    fn kernels_take_the_place_of_what_is_recorded() -> std::result::Result<(), OperatorError> {
        let kernel = Rc::new(Counted::default());
        let one = Tensor::new(&[1.0], &Device::Cpu)?;
        let (swept, inputs, z) = tape(&kernel, [3.0, 5.0])?;
        assert_eq!(number(swept.value(z)?), 3.0 + 45.0);
        let found = swept.sweep(&[z], std::slice::from_ref(&one), &inputs)?;
        assert_eq!(found.iter().map(number).collect::<Vec<_>>(), [31.0, 9.0]);
        assert_eq!((kernel.values.get(), kernel.cotangents.get()), (1, 1));
        // what is wanted alone
        let (swept, [_, y], z) = tape(&kernel, [3.0, 5.0])?;
        let found = swept.sweep(&[z], std::slice::from_ref(&one), &[y])?;
        assert_eq!(found.iter().map(number).collect::<Vec<_>>(), [9.0]);
        // 1 + 2 x y, and along x once more 2 y
        let (mut swept, [x, _], z) = tape(&kernel, [3.0, 5.0])?;
        let seed = swept.ones_like(z)?;
        let slope = swept.gradients(&[z], &[seed], &[x])?[0];
        assert_eq!(number(swept.value(slope)?), 31.0);
        let found = swept.sweep(&[slope], &[one], &[x])?;
        assert_eq!(number(&found[0]), 10.0);
        assert_eq!((kernel.values.get(), kernel.cotangents.get()), (3, 2));
        Ok(())
    }

    /// What a kernel does not take is left to the tape.
    #[test]
    fn other_types_are_not_taken() -> std::result::Result<(), OperatorError> {
        let mut tape = Tape::new();
        let single = Tensor::new(&[2f32], &Device::Cpu)?;
        let x = tape.input("x", &single);
        let known: Rc<dyn Kernel> = Rc::new(Counted::default());
        assert!(tape.taken(&[x, x], Some(known))?.is_none());
        assert!(tape.taken(&[x], None)?.is_none());
        Ok(())
    }
}
