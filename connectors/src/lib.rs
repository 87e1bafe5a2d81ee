//! Connectors: one format, archive or live source a file.
//!
//! A connector turns bytes from outside into batches of one schema ([`observation_schema`]) or
//! into arrays of numbers, and back. Bad records become [`Rejected`] values with a stable reason;
//! only a source that cannot go on gives a [`ConnectorError`].

mod a3m;
pub mod checkpoint;
pub mod csv;
mod decode;
mod decoded;
mod error;
mod fasta;
pub mod folder;
pub mod ipc;
mod isd;
pub mod listener;
mod live;
pub mod ndjson;
pub mod netcdf;
pub mod parquet;
mod pdb;
mod rejected;
mod sao;
mod schema;
mod text;
pub mod time;

pub use a3m::{A3mReader, AlignedRow};
pub use decode::decode_file;
pub use decoded::{Decoded, Row};
pub use error::{ConnectorError, Result};
pub use fasta::{Sequence, read_fasta};
pub use isd::read_isd;
pub use live::{Delivery, Waker};
pub use pdb::{Residue, read_pdb};
pub use rejected::{Item, Reason, Rejected, RejectedSink, rejected_schema, rejected_to_batch};
pub use sao::read_sao;
pub use schema::{Observation, from_batch, observation_schema, to_batch};
pub use text::{read_text, unpack_bzip2};
