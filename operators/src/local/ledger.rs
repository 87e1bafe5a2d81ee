//! Bytes that a tape holds: memory that several nodes look at counts once.

use std::collections::BTreeMap;

use candle_core::Tensor;

/// Holders and bytes of each piece of memory, by its address.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    held: BTreeMap<usize, (usize, usize)>,
    bytes: usize,
}

/// Bytes of the numbers that are there: a broadcast dimension has them once.
fn bytes(tensor: &Tensor) -> usize {
    let strides = tensor.dims().iter().zip(tensor.stride());
    let there = strides.map(|(&n, &stride)| if stride == 0 { n.min(1) } else { n });
    there.product::<usize>() * tensor.dtype().size_in_bytes()
}

/// Where the numbers of a tensor are. As long as somebody holds them, nothing else is there.
fn address(tensor: &Tensor) -> usize {
    let (storage, _) = tensor.storage_and_layout();
    std::ptr::from_ref(&*storage).addr()
}

impl Ledger {
    /// One more node holds the tensor.
    pub(super) fn hold(&mut self, tensor: &Tensor) {
        let entry = self.held.entry(address(tensor));
        let (holders, of_it) = entry.or_insert_with(|| (0, bytes(tensor)));
        if *holders == 0 {
            self.bytes += *of_it;
        }
        *holders += 1;
    }

    /// A node lets the tensor go.
    pub(super) fn release(&mut self, tensor: &Tensor) {
        let address = address(tensor);
        if let Some((holders, bytes)) = self.held.get_mut(&address) {
            *holders -= 1;
            if *holders == 0 {
                self.bytes -= *bytes;
                self.held.remove(&address);
            }
        }
    }

    /// Bytes held now.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}
