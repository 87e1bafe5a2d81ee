//! The Evoformer and its parts. Families:
//!
//! * `attention`: fused attention has the outputs and cotangents of the plain form, and of one worker on many.
//! * `parts`: what stands around attention has the values of its equations.
//! * `model`: training on every mesh is that of one worker.
//! * `bits`: neither threads nor workers nor runs change a bit, where that is promised.

mod attention;
mod bits;
mod cut;
mod job;
mod model;
mod parts;
mod plain;
