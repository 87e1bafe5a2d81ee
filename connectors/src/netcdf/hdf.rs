//! HDF5 variables: past the library where the layout allows it, else through it.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::apart::helper;
use super::direct::{DecodedChunk, Layout, read_direct};
use super::library::{Catalogue, Library, Plan, room};
use super::model::{Attribute, Element, NumberType, Values, Variable};
use super::remote::Remote;
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

/// Where the library runs.
#[derive(Debug)]
enum Engine {
    Here(Library),
    Apart(Mutex<Remote>),
}

impl Engine {
    fn open(path: &Path, bytes: u64) -> Result<(Self, Catalogue)> {
        if let Some(helper) = helper() {
            let (remote, catalogue) = Remote::open(helper, path)?;
            return Ok((Engine::Apart(Mutex::new(remote)), catalogue));
        }
        let library = Library::open(path, bytes)?;
        let catalogue = library.catalogue()?;
        Ok((Engine::Here(library), catalogue))
    }

    fn layout(&self, variable: &Variable, slab: &Slab) -> Result<Plan> {
        match self {
            Engine::Here(library) => library.layout(variable, slab),
            Engine::Apart(remote) => lock(remote).layout(variable, slab),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An open HDF5 file.
#[derive(Debug)]
pub(crate) struct HdfFile {
    place: String,
    engine: Engine,
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
        let (engine, catalogue) = Engine::open(path, bytes)?;
        let Catalogue {
            variables,
            dimensions,
            attributes,
        } = catalogue;
        let (layouts, last) = (Mutex::default(), Mutex::default());
        Ok(Self {
            place,
            engine,
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
        let places: usize = slab.count.iter().product();
        if places == 0 {
            return Ok(T::values(Vec::new()));
        }
        if path == ReadPath::Fastest
            && let Some(layout) = self.layout(variable, slab)?
        {
            if layout.most_bytes(self.bytes) < (places * size_of::<T>()) as u64 {
                return Err(self.damaged(variable, "its bytes go beyond the end of the file"));
            }
            let mut out: Vec<T> = room(&self.place, &variable.name, places)?;
            let bytes = bytemuck::cast_slice_mut(&mut out);
            if read_direct(self, &layout, variable, slab, bytes)? {
                return Ok(T::values(out));
            }
        }
        match &self.engine {
            Engine::Here(library) => library.read(variable, slab),
            Engine::Apart(remote) => {
                let mut out: Vec<T> = room(&self.place, &variable.name, places)?;
                lock(remote).read(variable, slab, bytemuck::cast_slice_mut(&mut out))?;
                Ok(T::values(out))
            }
        }
    }

    fn layout(&self, variable: &Variable, slab: &Slab) -> Result<Option<Arc<Layout>>> {
        let mut layouts = lock(&self.layouts);
        if let Some(known) = layouts.get(&variable.name) {
            return Ok(known.clone());
        }
        Ok(match self.engine.layout(variable, slab)? {
            Plan::NotNow => None,
            Plan::Known(layout) => {
                let layout = layout.map(Arc::new);
                layouts.insert(variable.name.clone(), layout.clone());
                layout
            }
        })
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
