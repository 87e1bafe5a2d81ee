//! MPI's own blocking calls, which the bulk lane is measured against.

use mpi::collective::SystemOperation;
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, CommunicatorCollectives, Destination, Source};

use super::job::Job;

impl Job {
    /// Sends `buffer` from rank 0 to rank 1 by `MPI_Send` and receives it back by `MPI_Recv`; other
    /// ranks return at once. Waits by polling, as MPI does.
    pub fn ping_pong(&self, buffer: &mut [u8]) {
        let world = SimpleCommunicator::world();
        match self.rank() {
            0 if self.size() > 1 => {
                world.process_at_rank(1).send(&buffer[..]);
                world.process_at_rank(1).receive_into(buffer);
            }
            1 => {
                world.process_at_rank(0).receive_into(buffer);
                world.process_at_rank(0).send(&buffer[..]);
            }
            _ => {}
        }
    }

    /// Sums `parts` of all ranks element by element into `sums` by `MPI_Allreduce`; all ranks call
    /// it together, with slices of one length.
    pub fn all_reduce(&self, parts: &[f32], sums: &mut [f32]) {
        SimpleCommunicator::world().all_reduce_into(parts, sums, SystemOperation::sum());
    }
}
