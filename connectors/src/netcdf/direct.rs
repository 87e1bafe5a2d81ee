//! HDF5 chunks and contiguous arrays, read past the library.
//!
//! The library holds one process-wide lock and inflates in it, so threads do not help. Here it is
//! only asked where the chunks lie; their bytes are read by position (`pread`), inflated with
//! libdeflate and unshuffled on worker threads. Only little-endian numbers under no filter,
//! deflate, shuffle or both are read this way; the library takes the rest.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use hdf5::Dataset;
use hdf5::datatype::ByteOrder;
use hdf5::filters::Filter;

use super::decoder::{Decoder, Extent, MAX_RATIO};
use super::hdf::HdfFile;
use super::meta::number_type;
use super::model::Variable;
use super::slab::{Slab, for_each_index, position, product};
use crate::error::Result;

/// The largest decoded chunk that is kept for the next read: 64 MiB.
const MAX_KEPT: usize = 64 << 20;
/// The most worker threads of one read.
const MAX_THREADS: usize = 16;
/// The fewest bytes of a contiguous run that a thread is worth: 4 MiB.
const MIN_PART: usize = 4 << 20;
/// Contiguous runs shorter than this are left to the library, which gathers them in one read.
const MIN_RUN: usize = 512;

/// Where and how the numbers of a variable are stored.
#[derive(Debug)]
pub(super) enum Layout {
    /// In one piece from this byte on.
    Contiguous(u64),
    /// In chunks of this shape, listed in row-major order of the grid of chunks.
    Chunked {
        chunk: Vec<usize>,
        grid: Vec<usize>,
        deflate: bool,
        shuffle: bool,
        at: Vec<Extent>,
    },
}

/// A chunk in memory, by variable and place in the grid.
#[derive(Debug)]
pub(super) struct DecodedChunk {
    variable: String,
    place: usize,
    bytes: Arc<Vec<u8>>,
}

impl Layout {
    /// Whether asking for all chunk addresses costs less than it saves. The library needs about
    /// 11 ns · n² for n chunks (its index is walked anew for each); past it, a byte of the result
    /// is about 3 ns cheaper.
    pub(super) fn pays(dataset: &Dataset, variable: &Variable, slab: &Slab) -> bool {
        let n = dataset.num_chunks().unwrap_or(0) as u64;
        let bytes = product(&slab.count).unwrap_or(0) as u64 * variable.number_type.size() as u64;
        n.saturating_mul(n).saturating_mul(11) < bytes.saturating_mul(3).max(100_000)
    }

    /// The layout of a data set, if it can be read past the library.
    pub(super) fn of(dataset: &Dataset, variable: &Variable) -> Option<Self> {
        let stored = dataset.dtype().ok()?;
        let plain = cfg!(target_endian = "little")
            && (stored.byte_order() == ByteOrder::LittleEndian || stored.size() == 1)
            && number_type(&stored.to_descriptor().ok()?) == variable.number_type
            && stored.size() == variable.number_type.size();
        if !plain || variable.shape.is_empty() || !dataset.dcpl().ok()?.external().is_empty() {
            return None;
        }
        let (shuffle, deflate) = match dataset.filters()[..] {
            [] => (false, false),
            [Filter::Deflate(_)] => (false, true),
            [Filter::Shuffle] => (true, false),
            [Filter::Shuffle, Filter::Deflate(_)] => (true, true),
            _ => return None,
        };
        if !dataset.is_chunked() {
            return dataset.offset().map(Layout::Contiguous);
        }
        let chunk = dataset.chunk()?;
        let grid = grid_of(variable, &chunk)?;
        let n = product(&grid)?;
        // A chunk that was never written is filled by the library.
        if dataset.num_chunks()? != n {
            return None;
        }
        let mut at = vec![None; n];
        for i in 0..n {
            let info = dataset.chunk_info(i)?;
            let index = info
                .offset
                .iter()
                .zip(&chunk)
                .map(|(&o, &c)| o as usize / c);
            if info.filter_mask != 0 || info.offset.len() != grid.len() {
                return None;
            }
            *at.get_mut(position(index, &grid))? = Some(Extent {
                address: info.addr,
                size: info.size,
            });
        }
        let at = at.into_iter().collect::<Option<_>>()?;
        Self::chunked(variable, chunk, (deflate, shuffle), at)
    }

    /// A chunked layout; `None` if it does not fit the variable.
    pub(super) fn chunked(
        variable: &Variable,
        chunk: Vec<usize>,
        (deflate, shuffle): (bool, bool),
        at: Vec<Extent>,
    ) -> Option<Self> {
        let grid = grid_of(variable, &chunk)?;
        (product(&grid)? == at.len()).then_some(Layout::Chunked {
            chunk,
            grid,
            deflate,
            shuffle,
            at,
        })
    }

    /// The most bytes that a variable stored like this can have in a file of `file` bytes.
    pub(super) fn most_bytes(&self, file: u64) -> u64 {
        match self {
            Layout::Contiguous(begin) => file.saturating_sub(*begin),
            Layout::Chunked { deflate, at, .. } => {
                let stored: u64 = at.iter().map(|e| e.size.min(file)).sum();
                stored.saturating_mul(if *deflate { MAX_RATIO } else { 1 })
            }
        }
    }
}

/// How many chunks lie along each dimension; `None` if the chunk has another rank or is empty.
fn grid_of(variable: &Variable, chunk: &[usize]) -> Option<Vec<usize>> {
    let fits = chunk.len() == variable.shape.len() && !chunk.contains(&0);
    let lengths = variable.shape.iter().zip(chunk);
    fits.then(|| lengths.map(|(n, c)| n.div_ceil(*c)).collect())
}

/// Reads a box into `out`; `false` if the library would do better. Errors if the bytes are
/// damaged or lie beyond the end of the file.
pub(super) fn read_direct(
    file: &HdfFile,
    layout: &Layout,
    variable: &Variable,
    slab: &Slab,
    out: &mut [u8],
) -> Result<bool> {
    let size = variable.number_type.size();
    match layout {
        Layout::Contiguous(begin) => {
            let (joined, run) = slab.run(&variable.shape, false);
            let run = run * size;
            if run < MIN_RUN.min(out.len()) {
                return Ok(false);
            }
            let outer = variable.shape.len() - joined;
            let mut at = 0;
            for_each_index(&slab.count[..outer], |index| {
                let start = |d: usize| slab.start[d] + index.get(d).unwrap_or(&0);
                let first = position((0..slab.start.len()).map(start), &variable.shape);
                let extent = Extent {
                    address: begin.saturating_add((first * size) as u64),
                    size: run as u64,
                };
                read_together(file, variable, extent, &mut out[at..at + run])?;
                at += run;
                Ok(())
            })?;
        }
        Layout::Chunked { .. } => read_chunks(file, layout, variable, slab, out)?,
    }
    Ok(true)
}

/// Reads a long run on all cores: one alone copies slower than memory takes it.
fn read_together(
    file: &HdfFile,
    variable: &Variable,
    extent: Extent,
    out: &mut [u8],
) -> Result<()> {
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let part = out.len().div_ceil(threads.min(MAX_THREADS)).max(MIN_PART);
    if out.len() <= part {
        return extent.read(file, variable, out);
    }
    std::thread::scope(|scope| {
        let parts = out.chunks_mut(part).enumerate();
        let readers: Vec<_> = parts
            .map(|(k, out)| {
                let extent = Extent {
                    address: extent.address.saturating_add((k * part) as u64),
                    size: out.len() as u64,
                };
                scope.spawn(move || extent.read(file, variable, out))
            })
            .collect();
        readers.into_iter().try_for_each(|reader| {
            let broke = || Err(file.damaged(variable, "a reading thread broke off"));
            reader.join().unwrap_or_else(|_| broke())
        })
    })
}

fn read_chunks(
    file: &HdfFile,
    layout: &Layout,
    variable: &Variable,
    slab: &Slab,
    out: &mut [u8],
) -> Result<()> {
    let Layout::Chunked {
        chunk,
        grid,
        deflate,
        shuffle,
        at,
    } = layout
    else {
        return Ok(());
    };
    let size = variable.number_type.size();
    let bytes = product(chunk)
        .and_then(|n| n.checked_mul(size))
        .ok_or_else(|| file.damaged(variable, "a chunk has an impossible size"))?;
    let first: Vec<usize> = slab.start.iter().zip(chunk).map(|(s, c)| s / c).collect();
    let many: Vec<usize> = (0..chunk.len())
        .map(|d| (slab.start[d] + slab.count[d]).div_ceil(chunk[d]) - first[d])
        .collect();
    let mut wanted = Vec::new();
    for_each_index(&many, |index| {
        wanted.push(
            index
                .iter()
                .zip(&first)
                .map(|(i, f)| i + f)
                .collect::<Vec<_>>(),
        );
        Ok(())
    })?;
    let decode = |decoder: &mut Decoder, cell: &[usize], into: &mut Vec<u8>| {
        let place = position(cell.iter().copied(), grid);
        decoder.decode(file, variable, (*deflate, *shuffle), at[place], into, bytes)
    };
    if let [cell] = &wanted[..] {
        let place = position(cell.iter().copied(), grid);
        let mut last = file.last.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = last
            .as_ref()
            .filter(|k| k.place == place && k.variable == variable.name);
        let whole = if let Some(kept) = kept {
            Arc::clone(&kept.bytes)
        } else {
            let mut whole = Vec::new();
            decode(&mut Decoder::new(), cell, &mut whole)?;
            let whole = Arc::new(whole);
            if bytes <= MAX_KEPT {
                let bytes = Arc::clone(&whole);
                *last = Some(DecodedChunk {
                    variable: variable.name.clone(),
                    place,
                    bytes,
                });
            }
            whole
        };
        drop(last);
        scatter(&whole, cell, chunk, slab, size, out);
        return Ok(());
    }
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let threads = threads.min(wanted.len()).min(MAX_THREADS);
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let out = Mutex::new(out);
    let work = || {
        let (mut decoder, mut whole) = (Decoder::new(), Vec::new());
        while let Some(cell) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            decode(&mut decoder, cell, &mut whole)
                .inspect_err(|_| stop.store(true, Ordering::Relaxed))?;
            // Copying is a tenth of the work, so threads rarely meet here.
            let mut out = out.lock().unwrap_or_else(PoisonError::into_inner);
            scatter(&whole, cell, chunk, slab, size, &mut out);
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let helpers: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut result = work();
        for helper in helpers {
            let broke = || Err(file.damaged(variable, "a reading thread broke off"));
            result = result.and(helper.join().unwrap_or_else(|_| broke()));
        }
        result
    })
}

/// Copies the part of a decoded chunk that lies in the box to its place in `out`.
fn scatter(
    whole: &[u8],
    cell: &[usize],
    chunk: &[usize],
    slab: &Slab,
    size: usize,
    out: &mut [u8],
) {
    let rank = chunk.len();
    let low = |d: usize| slab.start[d].max(cell[d] * chunk[d]);
    let high = |d: usize| (slab.start[d] + slab.count[d]).min((cell[d] + 1) * chunk[d]);
    let lengths: Vec<usize> = (0..rank).map(|d| high(d) - low(d)).collect();
    let from: Vec<usize> = (0..rank).map(|d| low(d) - cell[d] * chunk[d]).collect();
    let to: Vec<usize> = (0..rank).map(|d| low(d) - slab.start[d]).collect();
    // Trailing dimensions that are whole on both sides join into one run.
    let (mut outer, mut run) = (rank, size);
    while outer > 0 {
        outer -= 1;
        run *= lengths[outer];
        if lengths[outer] != chunk[outer] || lengths[outer] != slab.count[outer] {
            break;
        }
    }
    let copied = for_each_index(&lengths[..outer], |index| {
        let at = |base: &[usize], shape: &[usize]| {
            let index = base
                .iter()
                .enumerate()
                .map(|(d, b)| b + index.get(d).unwrap_or(&0));
            position(index, shape) * size
        };
        let (a, b) = (at(&from, chunk), at(&to, &slab.count));
        out[b..b + run].copy_from_slice(&whole[a..a + run]);
        Ok(())
    });
    debug_assert!(copied.is_ok(), "copying in memory does not fail");
}
