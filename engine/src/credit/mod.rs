//! Credits: how many bytes may be on their way between a producer and its consumers.
//!
//! A producer spends the size of a record when it sends it. The consumer gets the record as
//! [`Lent`], and gives the bytes back when it drops it or takes it out, on whichever worker that
//! is: the credits go home as messages of the dataflow. So what a slow consumer has before it is
//! bounded by the credit of its producers, wherever they are. A record without bytes always
//! passes, and one larger than the whole credit passes alone.
//!
//! The order of records from one worker to another is kept. Credits never wait for data: the
//! stream that returns them holds back no frontier and takes no credit.

mod edge;
mod lent;

pub use edge::credit;
pub(crate) use edge::{Returned, Wire, lend, loop_back};
pub use lent::{Cargo, Credit, Lent};
