//! The four calls of MPI that move payloads, with their handles.

use mpi::ffi;

/// A communicator of its own for payloads, so that no other message can match one.
pub(super) struct Comm(ffi::MPI_Comm);

// SAFETY: a communicator is a handle that never changes, and MPI runs with MPI_THREAD_MULTIPLE,
// which allows its use from all threads at once.
unsafe impl Send for Comm {}
// SAFETY: as above.
unsafe impl Sync for Comm {}

/// A transfer that MPI has not finished.
pub(super) struct Request(ffi::MPI_Request);

// SAFETY: a request is a handle; with MPI_THREAD_MULTIPLE any one thread at a time may test it, and
// testing takes it by unique reference.
unsafe impl Send for Request {}

fn ok(code: std::ffi::c_int, call: &str) -> Result<(), String> {
    if code == ffi::MPI_SUCCESS as std::ffi::c_int {
        Ok(())
    } else {
        Err(format!("{call} gave the error {code}"))
    }
}

impl Comm {
    /// A copy of the communicator of all ranks; all of them call this together.
    pub(super) fn of_the_world() -> Result<Self, String> {
        // SAFETY: the handles are valid while MPI runs; MPI_Comm_dup writes the new one.
        unsafe {
            let mut comm = ffi::RSMPI_COMM_NULL;
            ok(
                ffi::MPI_Comm_dup(ffi::RSMPI_COMM_WORLD, &mut comm),
                "MPI_Comm_dup",
            )?;
            Ok(Comm(comm))
        }
    }

    /// The largest tag that this MPI carries.
    pub(super) fn largest_tag(&self) -> u64 {
        let mut value: *mut std::ffi::c_int = std::ptr::null_mut();
        let mut found = 0;
        // SAFETY: the attribute MPI_TAG_UB is an int that MPI owns; `value` is set to its place.
        unsafe {
            ffi::MPI_Comm_get_attr(
                self.0,
                ffi::MPI_TAG_UB as std::ffi::c_int,
                (&raw mut value).cast(),
                &mut found,
            );
            // every MPI carries tags up to 32767
            if found == 0 || value.is_null() {
                32767
            } else {
                u64::from((*value).unsigned_abs())
            }
        }
    }

    /// Starts to send `bytes` (less than 2 GiB).
    ///
    /// # Safety
    /// The bytes stay where they are and as they are until the request is done.
    pub(super) unsafe fn send(
        &self,
        bytes: &[u8],
        rank: usize,
        tag: u64,
    ) -> Result<Request, String> {
        // SAFETY: the caller keeps the bytes; the handles are valid while MPI runs.
        unsafe {
            let mut request = ffi::RSMPI_REQUEST_NULL;
            let code = ffi::MPI_Isend(
                bytes.as_ptr().cast(),
                bytes.len() as std::ffi::c_int,
                ffi::RSMPI_UINT8_T,
                rank as std::ffi::c_int,
                tag as std::ffi::c_int,
                self.0,
                &mut request,
            );
            ok(code, "MPI_Isend")?;
            Ok(Request(request))
        }
    }

    /// Starts to receive into `bytes` (less than 2 GiB).
    ///
    /// # Safety
    /// The bytes stay where they are, and nobody else touches them, until the request is done.
    pub(super) unsafe fn receive(
        &self,
        bytes: &mut [u8],
        rank: usize,
        tag: u64,
    ) -> Result<Request, String> {
        // SAFETY: the caller keeps the bytes; the handles are valid while MPI runs.
        unsafe {
            let mut request = ffi::RSMPI_REQUEST_NULL;
            let code = ffi::MPI_Irecv(
                bytes.as_mut_ptr().cast(),
                bytes.len() as std::ffi::c_int,
                ffi::RSMPI_UINT8_T,
                rank as std::ffi::c_int,
                tag as std::ffi::c_int,
                self.0,
                &mut request,
            );
            ok(code, "MPI_Irecv")?;
            Ok(Request(request))
        }
    }

    /// Ends all ranks.
    pub(super) fn abort(&self, code: i32) {
        // SAFETY: the handle is valid while MPI runs.
        unsafe { ffi::MPI_Abort(self.0, code) };
    }

    /// Gives the communicator back; all ranks call this together, before MPI ends.
    pub(super) fn free(&mut self) {
        // SAFETY: nothing is sent on it any more: the job that owns it is going.
        unsafe { ffi::MPI_Comm_free(&mut self.0) };
    }
}

impl Request {
    /// Whether the transfer is done; lets MPI work on all transfers.
    pub(super) fn done(&mut self) -> Result<bool, String> {
        let mut flag = 0;
        // SAFETY: the request was made by MPI and is null once it is done, which MPI_Test allows.
        unsafe {
            let code = ffi::MPI_Test(&mut self.0, &mut flag, ffi::RSMPI_STATUS_IGNORE);
            ok(code, "MPI_Test")?;
        }
        Ok(flag != 0)
    }
}
