//! Snapshots: everything before a frontier in one manifest, and outputs that hold each record once.
//!
//! ```text
//! operators ── Entry(time, put | remove | count | record) ──► Keep ─┐ (state to the worker of its key)
//!                                                                   │
//! worker 0:  the frontier has passed epoch e ── order e ──► Write ◄─┘  on every worker:
//!                ▲                                           │        a part file, the output logs
//!                └──── Seal: the manifest, renamed ◄─ receipts        written and flushed
//! ```
//!
//! A job counts its progress in *epochs*, a function of its times that does not decrease (the step
//! of a [`Tick`](crate::Tick), `known` of a [`Cycle`](crate::Cycle)). Operators give what they would
//! need to go on, source offsets and positions of [random streams](RandomState) included, as
//! [`Entry`] values in a stream, each with its time. Nothing stops for a snapshot: when the frontier
//! has passed an epoch, worker 0 orders it, every worker writes what came before it, and the
//! snapshot exists when worker 0 has renamed its manifest into place.
//!
//! State is keyed by what it is about (a cell, a station, a range of rows), never by a worker, so
//! that a job resumes on another number of workers and processes.
//!
//! # What is guaranteed
//!
//! * A process may be killed at any moment. The directory then holds a whole snapshot or none, and
//!   a run that [resumes](Store::begin) gives the outputs of an undisturbed run if its operators
//!   are functions of what they saved and of what the sources read again.
//! * Each record of an [output](Outputs) is there once, in an order that depends neither on the
//!   number of workers nor on when the job was killed.
//! * A torn or changed manifest, part or log is noticed by its length or CRC-32. The snapshot before
//!   it is used if it is whole, with a warning in the log, else an error names the file.
//! * A full disk ends the job with an error that names the file; the last snapshot stays whole.
//! * Two jobs do not write one directory at the same time.
//!
//! # What is not
//!
//! * Outputs are exact in this directory. What a job sends elsewhere while it runs is sent again
//!   after a resume; send what is in the finished [`Outputs`] to have it once.
//! * All processes must see the same directory, and it must keep what `fsync` says it keeps.
//! * Entries between two snapshots wait in memory; [`Store::every`] trades that against the cost
//!   of a snapshot, which writes the whole state from the worker threads.
//!
//! # What an operator does
//!
//! It takes its keys from [`Session::saved`] when it is built, and gives an entry for each change.
//! A source begins at [`Session::epoch`]. An arrangement is filled again at a time *before* that
//! epoch: what follows from it is known already, and `Keep` drops entries of epochs before it.

mod disk;
mod entry;
mod flow;
mod lock;
mod log;
mod manifest;
mod outputs;
mod part;
mod random;
mod saved;
mod seal;
mod session;
mod store;

pub use disk::whole;
pub use entry::Entry;
pub use outputs::{Outputs, Sealed};
pub use random::RandomState;
pub use saved::Saved;
pub use session::Session;
pub use store::Store;
