//! Processes as MPI ranks: timely's channels over TCP, payloads over MPI.
//!
//! The ranks tell each other by MPI where they listen, and connect timely's channels by sockets:
//! their threads then wait in the kernel, where waiting for a message in MPI would keep a core
//! busy. Payloads of the bulk lane are sent by `MPI_Isend` from the memory they lie in, and
//! received by `MPI_Irecv` into the memory they are for, once their descriptor has come.
//!
//! MPI is started with `MPI_THREAD_MULTIPLE`, and ended when the last clone of the [`Job`] goes.
//! MPI knows no loss of a rank: where one fails, `MPI_Abort` ends all of them.

mod job;
mod lane;
mod progress;
mod raw;
mod yardstick;

pub use job::Job;
