//! HDF5 through the C library: the table of contents, chunk addresses, and hyperslabs.

use std::collections::BTreeMap;
use std::path::Path;

use advect_engine::memory::prefer_huge_pages;
use hdf5::plist::FileAccessBuilder;
use hdf5::{Dataset, Hyperslab, Selection, SliceOrIndex};

use super::direct::Layout;
use super::meta::{Contents, attributes, contents};
use super::model::{Attribute, Element, NumberType, Values, Variable};
use super::slab::Slab;
use crate::error::{ConnectorError, Result};

/// A file that the library has open in this process.
#[derive(Debug)]
pub(super) struct Library {
    place: String,
    hdf: hdf5::File,
    bytes: u64,
}

/// Variables, dimensions and attributes of a file.
#[derive(Debug, Default)]
pub(super) struct Catalogue {
    pub(super) variables: BTreeMap<String, Variable>,
    pub(super) dimensions: BTreeMap<String, usize>,
    pub(super) attributes: BTreeMap<String, Attribute>,
}

/// Without the library's file locks. File systems of clusters often have none; and a lock passes to
/// every child process that is started meanwhile, which then keeps others out. A file that is being
/// written has another name until it is whole.
pub(super) fn unlocked(access: &mut FileAccessBuilder) -> &mut FileAccessBuilder {
    access.file_locking(false)
}

impl Library {
    /// Opens a file of `bytes` bytes. Errors if the library does not take it.
    pub(super) fn open(path: &Path, bytes: u64) -> Result<Self> {
        let place = path.display().to_string();
        let hdf = hdf5::File::with_options()
            .with_fapl(unlocked)
            .open(path)
            .map_err(|e| {
                ConnectorError::format(
                    &*place,
                    "netCDF or HDF5",
                    e,
                    "check that it is whole (compare its size with the origin) and no other format",
                )
            })?;
        Ok(Self { place, hdf, bytes })
    }

    /// Reads the table of contents.
    pub(super) fn catalogue(&self) -> Result<Catalogue> {
        let Contents {
            variables,
            dimensions,
        } = contents(&self.hdf, &self.place)?;
        Ok(Catalogue {
            variables,
            dimensions,
            attributes: attributes(&self.hdf, &self.place)?,
        })
    }

    /// Whether asking for the layout pays for a read of this box, and the layout if the variable
    /// can be read past the library.
    pub(super) fn layout(&self, variable: &Variable, slab: &Slab) -> Result<Plan> {
        let dataset = self.dataset(variable)?;
        if self.hdf.userblock() != 0 || !Layout::pays(&dataset, variable, slab) {
            return Ok(Plan::NotNow);
        }
        Ok(Plan::Known(Layout::of(&dataset, variable)))
    }

    /// Reads a box that fits the shape of the variable.
    pub(super) fn read(&self, variable: &Variable, slab: &Slab) -> Result<Values> {
        match variable.number_type {
            NumberType::I8 => self.typed::<i8>(variable, slab),
            NumberType::U8 => self.typed::<u8>(variable, slab),
            NumberType::I16 => self.typed::<i16>(variable, slab),
            NumberType::U16 => self.typed::<u16>(variable, slab),
            NumberType::I32 => self.typed::<i32>(variable, slab),
            NumberType::U32 => self.typed::<u32>(variable, slab),
            NumberType::I64 => self.typed::<i64>(variable, slab),
            NumberType::U64 => self.typed::<u64>(variable, slab),
            NumberType::F32 => self.typed::<f32>(variable, slab),
            NumberType::F64 => self.typed::<f64>(variable, slab),
            NumberType::Other => Err(ConnectorError::invalid(
                &*self.place,
                format!("variable `{}`", variable.name),
                "no numbers",
                "a variable of numbers",
            )),
        }
    }

    fn dataset(&self, variable: &Variable) -> Result<Dataset> {
        let refuse = ConnectorError::hdf5(&self.place, format!("open `{}`", variable.name));
        self.hdf.dataset(&variable.name).map_err(refuse)
    }

    fn typed<T: Element>(&self, variable: &Variable, slab: &Slab) -> Result<Values> {
        let places = slab.count.iter().product();
        let name = &variable.name;
        let refuse = || ConnectorError::hdf5(&self.place, format!("read `{name}`"));
        let dataset = self.dataset(variable)?;
        if places == 0 {
            return Ok(T::values(Vec::new()));
        }
        self.bounded(&dataset, variable)?;
        if variable.shape.is_empty() {
            let number = dataset.read_scalar::<T>().map_err(refuse())?;
            return Ok(T::values(vec![number]));
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
        drop(room::<T>(&self.place, name, places)?);
        let array = dataset
            .read_slice::<T, Selection, ndarray::IxDyn>(Hyperslab::from(slices).into())
            .map_err(refuse())?;
        let (numbers, _) = array.into_raw_vec_and_offset();
        Ok(T::values(numbers))
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
}

/// How a variable is to be read.
#[derive(Debug)]
pub(super) enum Plan {
    /// This box through the library; ask again for another one.
    NotNow,
    /// Any box by this layout; `None`: always through the library.
    Known(Option<Layout>),
}

/// Memory for `places` numbers. Errors instead of aborting where there is not enough.
pub(super) fn room<T: Element>(place: &str, name: &str, places: usize) -> Result<Vec<T>> {
    let room = bytemuck::allocation::try_zeroed_vec(places);
    let mut room: Vec<T> = room.map_err(|()| ConnectorError::TooLarge {
        place: place.to_string(),
        what: format!("a slab of variable `{name}`"),
        needed: (places * size_of::<T>()) as u64,
        limit: 0,
    })?;
    prefer_huge_pages(bytemuck::cast_slice_mut(&mut room));
    Ok(room)
}
