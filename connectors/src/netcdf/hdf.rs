//! HDF5 variables: past the library where the layout allows it, else through it.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use hdf5::{Dataset, Hyperslab, Selection, SliceOrIndex};

use super::direct::{DecodedChunk, Layout, read_direct};
use super::meta::{Contents, attributes, contents};
use super::model::{Attribute, Element, NumberType, Values, Variable};
use super::slab::Slab;
use crate::error::{ConnectorError, Result};

/// Which way the numbers of an HDF5 variable take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadPath {
    /// Past the library where the layout and the filters allow it and it pays, else through it.
    Fastest,
    /// Always through the library.
    Library,
}

/// An open HDF5 file.
#[derive(Debug)]
pub(crate) struct HdfFile {
    place: String,
    hdf: hdf5::File,
    pub(super) raw: File,
    pub(super) bytes: u64,
    pub(crate) variables: BTreeMap<String, Variable>,
    pub(crate) dimensions: BTreeMap<String, usize>,
    pub(crate) attributes: BTreeMap<String, Attribute>,
    /// What is known of the storage of variables read before; `None`: only the library reads it.
    layouts: Mutex<BTreeMap<String, Option<Arc<Layout>>>>,
    /// The last chunk that served a read on its own: neighbours in time often lie in it.
    pub(super) last: Mutex<Option<DecodedChunk>>,
}

impl HdfFile {
    /// Opens a file and reads its table of contents.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let place = path.display().to_string();
        let io = || ConnectorError::io("open", path, "check the path");
        let raw = File::open(path).map_err(io())?;
        let bytes = raw.metadata().map_err(io())?.len();
        let hdf = hdf5::File::open(path).map_err(|e| {
            ConnectorError::format(
                &*place,
                "netCDF or HDF5",
                e,
                "check that it is whole (compare its size with the origin) and no other format",
            )
        })?;
        let Contents {
            variables,
            dimensions,
        } = contents(&hdf, &place)?;
        let attributes = attributes(&hdf, &place)?;
        let (layouts, last) = (Mutex::default(), Mutex::default());
        Ok(Self {
            place,
            hdf,
            raw,
            bytes,
            variables,
            dimensions,
            attributes,
            layouts,
            last,
        })
    }

    /// Reads a box; the caller has checked it against shape and limit.
    pub(crate) fn read(&self, variable: &Variable, slab: &Slab, path: ReadPath) -> Result<Values> {
        match variable.number_type {
            NumberType::I8 => self.typed::<i8>(variable, slab, path),
            NumberType::U8 => self.typed::<u8>(variable, slab, path),
            NumberType::I16 => self.typed::<i16>(variable, slab, path),
            NumberType::U16 => self.typed::<u16>(variable, slab, path),
            NumberType::I32 => self.typed::<i32>(variable, slab, path),
            NumberType::U32 => self.typed::<u32>(variable, slab, path),
            NumberType::I64 => self.typed::<i64>(variable, slab, path),
            NumberType::U64 => self.typed::<u64>(variable, slab, path),
            NumberType::F32 => self.typed::<f32>(variable, slab, path),
            NumberType::F64 => self.typed::<f64>(variable, slab, path),
            NumberType::Other => Err(ConnectorError::invalid(
                &*self.place,
                format!("variable `{}`", variable.name),
                "no numbers",
                "a variable of numbers",
            )),
        }
    }

    fn typed<T: Element>(
        &self,
        variable: &Variable,
        slab: &Slab,
        path: ReadPath,
    ) -> Result<Values> {
        let places = slab.count.iter().product();
        let name = &variable.name;
        let refuse = || ConnectorError::hdf5(&self.place, format!("read `{name}`"));
        let dataset = self.hdf.dataset(name).map_err(refuse())?;
        if places == 0 {
            return Ok(T::values(Vec::new()));
        }
        if path == ReadPath::Fastest
            && let Some(layout) = self.layout(&dataset, variable, slab)
        {
            let mut out: Vec<T> = self.room(name, places)?;
            let bytes = bytemuck::cast_slice_mut(&mut out);
            if read_direct(self, &layout, variable, slab, bytes)? {
                return Ok(T::values(out));
            }
        }
        self.bounded(&dataset, variable)?;
        if variable.shape.is_empty() {
            return Ok(T::values(vec![
                dataset.read_scalar::<T>().map_err(refuse())?,
            ]));
        }
        let slices: Vec<SliceOrIndex> = (slab.start.iter().zip(&slab.count))
            .map(|(&start, &count)| SliceOrIndex::SliceCount {
                start,
                step: 1,
                count,
                block: 1,
            })
            .collect();
        // The library sets its buffer aside infallibly; this asks first.
        drop(self.room::<T>(name, places)?);
        let array = dataset
            .read_slice::<T, Selection, ndarray::IxDyn>(Hyperslab::from(slices).into())
            .map_err(refuse())?;
        let (numbers, _) = array.into_raw_vec_and_offset();
        Ok(T::values(numbers))
    }

    /// Memory for a result. Errors instead of aborting where there is not enough.
    fn room<T: Element>(&self, name: &str, places: usize) -> Result<Vec<T>> {
        bytemuck::allocation::try_zeroed_vec(places).map_err(|()| ConnectorError::TooLarge {
            place: self.place.clone(),
            what: format!("a slab of variable `{name}`"),
            needed: (places * size_of::<T>()) as u64,
            limit: 0,
        })
    }

    /// Refuses chunks that the library would set aside in memory on a damaged file's word:
    /// deflate shrinks by a factor of 1032 at most, so a chunk cannot be larger than that.
    fn bounded(&self, dataset: &Dataset, variable: &Variable) -> Result<()> {
        let Some(chunk) = dataset.chunk() else {
            return Ok(());
        };
        let needed = chunk
            .iter()
            .try_fold(variable.number_type.size() as u64, |p, &n| {
                p.checked_mul(n as u64)
            })
            .unwrap_or(u64::MAX);
        let limit = self.bytes.saturating_mul(1032).max(64 << 20);
        if needed <= limit {
            return Ok(());
        }
        let what = format!("a chunk of variable `{}`", variable.name);
        Err(ConnectorError::TooLarge {
            place: self.place.clone(),
            what,
            needed,
            limit,
        })
    }

    fn layout(&self, dataset: &Dataset, variable: &Variable, slab: &Slab) -> Option<Arc<Layout>> {
        let mut layouts = self.layouts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = layouts.get(&variable.name) {
            return known.clone();
        }
        if self.hdf.userblock() != 0 || !Layout::pays(dataset, variable, slab) {
            return None;
        }
        let layout = Layout::of(dataset, variable).map(Arc::new);
        layouts.insert(variable.name.clone(), layout.clone());
        layout
    }

    /// An error of damaged bytes in a variable.
    pub(super) fn damaged(&self, variable: &Variable, detail: &str) -> ConnectorError {
        ConnectorError::format(
            &*self.place,
            "HDF5",
            format!("variable `{}`: {detail}", variable.name),
            "fetch the file anew",
        )
    }
}
