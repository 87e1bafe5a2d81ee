//! CF-conforming netCDF-4, written through HDF5.
//!
//! A file is declared (dimensions, variables), filled box by box ([`NetcdfWriter::put`]) and
//! finished; only then does it get its name. Along an unlimited dimension it grows with the
//! boxes. CF Conventions 1.10; on disk the netCDF-4 layout of HDF5 ("NetCDF-4 File Format",
//! Unidata), so that Python's netCDF4, xarray and h5py open it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hdf5::plist::dataset_create::AttrCreationOrder;
use hdf5::plist::file_create::LinkCreationOrder;
use hdf5::{Dataset, Extent, Hyperslab, Selection, SimpleExtents, SliceOrIndex};

use super::library::unlocked;
use super::model::{Attribute, Element, NumberType, Values};
use super::scales::{attach, list_users, mark_scale, write_attribute};
use super::slab::{Slab, product};
use super::spec::{Length, VariableSpec};
use crate::error::{ConnectorError, Result};
use crate::parquet::part_name;

/// A netCDF-4 file in the making.
#[derive(Debug)]
pub struct NetcdfWriter {
    path: PathBuf,
    part: PathBuf,
    place: String,
    file: hdf5::File,
    dimensions: Vec<(String, Length)>,
    /// Current length of every unlimited dimension.
    grown: BTreeMap<String, usize>,
    /// Variables in the order of declaration; users of a scale are listed in it.
    variables: Vec<(VariableSpec, Dataset)>,
}

impl NetcdfWriter {
    /// Begins a file with `Conventions = "CF-1.10"` and a title.
    pub fn create(path: impl AsRef<Path>, title: &str) -> Result<Self> {
        let path = path.as_ref().to_path_buf();
        let (part, place) = (part_name(&path), path.display().to_string());
        let file = hdf5::File::with_options()
            .with_fcpl(|p| {
                p.link_creation_order(LinkCreationOrder::Indexed)
                    .attr_creation_order(AttrCreationOrder::Indexed)
                    .obj_track_times(false)
            })
            .with_fapl(unlocked)
            .create(&part)
            .map_err(ConnectorError::hdf5(&place, "create the file"))?;
        write_attribute(&file, "Conventions", &"CF-1.10".into(), &place)?;
        write_attribute(&file, "title", &title.into(), &place)?;
        let (dimensions, grown, variables) = (Vec::new(), BTreeMap::new(), Vec::new());
        Ok(Self {
            path,
            part,
            place,
            file,
            dimensions,
            grown,
            variables,
        })
    }

    /// Adds an attribute to the file itself.
    pub fn attribute(&mut self, name: &str, value: impl Into<Attribute>) -> Result<()> {
        write_attribute(&self.file, name, &value.into(), &self.place)
    }

    /// Declares a dimension. Errors if the name is taken or not plain.
    pub fn dimension(&mut self, name: &str, length: Length) -> Result<()> {
        let plain = !name.is_empty() && name.is_ascii() && !name.contains(['/', '\0']);
        if !plain || name.len() > 255 || self.dimensions.iter().any(|d| d.0 == name) {
            let want = "a new ASCII name without `/`, at most 255 bytes";
            return Err(ConnectorError::invalid(
                &*self.place,
                "dimension name",
                name,
                want,
            ));
        }
        if length == Length::Unlimited {
            self.grown.insert(name.to_string(), 0);
        }
        self.dimensions.push((name.to_string(), length));
        Ok(())
    }

    /// Declares a variable. Errors if a dimension is not declared, the name is taken, or the
    /// chunk does not fit.
    pub fn variable(&mut self, spec: VariableSpec) -> Result<()> {
        let place = &self.place;
        let name = spec.name.clone();
        let coordinate = spec.dimensions == [spec.name.as_str()];
        let shadows = !coordinate && self.dimensions.iter().any(|d| d.0 == name);
        if name.is_empty() || name.contains(['/', '\0']) || shadows {
            let want = "a name without `/` that is no dimension (a coordinate has just its own)";
            return Err(ConnectorError::invalid(
                &**place,
                "variable name",
                name,
                want,
            ));
        }
        let extents = spec
            .dimensions
            .iter()
            .map(|d| match self.dimensions.iter().find(|(n, _)| n == d) {
                Some((_, Length::Fixed(n))) => Ok(Extent::fixed(*n)),
                Some((_, Length::Unlimited)) => Ok(Extent::resizable(self.grown[d])),
                None => Err(ConnectorError::Unknown {
                    place: place.clone(),
                    kind: "dimension",
                    name: d.clone(),
                    found: self
                        .dimensions
                        .iter()
                        .map(|d| &*d.0)
                        .collect::<Vec<_>>()
                        .join(", "),
                }),
            })
            .collect::<Result<Vec<Extent>>>()?;
        let dataset = match spec.number_type {
            NumberType::I8 => self.declare::<i8>(&spec, extents, |x| x as i8),
            NumberType::U8 => self.declare::<u8>(&spec, extents, |x| x as u8),
            NumberType::I16 => self.declare::<i16>(&spec, extents, |x| x as i16),
            NumberType::U16 => self.declare::<u16>(&spec, extents, |x| x as u16),
            NumberType::I32 => self.declare::<i32>(&spec, extents, |x| x as i32),
            NumberType::U32 => self.declare::<u32>(&spec, extents, |x| x as u32),
            NumberType::I64 => self.declare::<i64>(&spec, extents, |x| x as i64),
            NumberType::U64 => self.declare::<u64>(&spec, extents, |x| x as u64),
            NumberType::F32 => self.declare::<f32>(&spec, extents, |x| x as f32),
            NumberType::F64 => self.declare::<f64>(&spec, extents, |x| x),
            NumberType::Other => {
                let what = format!("variable `{name}`");
                Err(ConnectorError::invalid(
                    &**place,
                    what,
                    "no numbers",
                    "a number type",
                ))
            }
        }?;
        for (key, value) in &spec.attributes {
            write_attribute(&dataset, key, value, place)?;
        }
        self.variables.push((spec, dataset));
        Ok(())
    }

    fn declare<T: Element + Into<hdf5::types::OwnedDynValue>>(
        &self,
        spec: &VariableSpec,
        extents: Vec<Extent>,
        from: fn(f64) -> T,
    ) -> Result<Dataset> {
        let refuse = || ConnectorError::hdf5(&self.place, format!("create `{}`", spec.name));
        let growing = extents.iter().any(Extent::is_resizable);
        let mut builder = self
            .file
            .new_dataset::<T>()
            .obj_track_times(false)
            .attr_creation_order(AttrCreationOrder::Indexed);
        if !extents.is_empty() && (growing || spec.deflate.is_some() || spec.chunk.is_some()) {
            builder = builder.chunk(self.chunk_of(spec, &extents)?);
        }
        if let Some(level) = spec.deflate.filter(|_| !extents.is_empty()) {
            builder = builder.shuffle().deflate(level.clamp(1, 9));
        }
        if let Some(fill) = spec.fill {
            builder = builder.fill_value(from(fill));
        }
        let dataset = if extents.is_empty() {
            builder.shape(()).create(&*spec.name)
        } else {
            builder
                .shape(SimpleExtents::from_vec(extents))
                .create(&*spec.name)
        }
        .map_err(refuse())?;
        if let Some(fill) = spec.fill {
            // netCDF reads `_FillValue` as an array of one number of the type of the variable.
            let one = [from(fill)];
            dataset
                .new_attr_builder()
                .with_data(&one)
                .create("_FillValue")
                .map_err(refuse())?;
        }
        Ok(dataset)
    }

    fn chunk_of(&self, spec: &VariableSpec, extents: &[Extent]) -> Result<Vec<usize>> {
        if let Some(chunk) = &spec.chunk {
            let fits = chunk.len() == extents.len()
                && chunk
                    .iter()
                    .zip(extents)
                    .all(|(&c, e)| c > 0 && (e.is_resizable() || c <= e.dim));
            if fits {
                return Ok(chunk.clone());
            }
            return Err(ConnectorError::invalid(
                &*self.place,
                format!("chunk of `{}`", spec.name),
                format!("{chunk:?}"),
                format!("lengths of 1 and more within {:?}", spec.dimensions),
            ));
        }
        let mut chunk: Vec<usize> = extents.iter().map(|e| e.dim.max(1)).collect();
        let growing = |d: usize| extents[d].is_resizable();
        (0..chunk.len())
            .filter(|&d| growing(d))
            .for_each(|d| chunk[d] = 1);
        match chunk[..] {
            [_] if growing(0) => chunk[0] = 512,
            [_] => (),
            [..] => chunk[0] = 1,
        }
        Ok(chunk)
    }

    /// Writes a box of a variable, row-major; along unlimited dimensions the file grows to hold
    /// it. Errors if the variable is not declared, has another number type, or the box does not
    /// fit the variable or the numbers.
    pub fn put(&mut self, name: &str, slab: &Slab, numbers: impl Into<Values>) -> Result<()> {
        let numbers = numbers.into();
        let Some((spec, dataset)) = self.variables.iter().find(|v| v.0.name == name) else {
            return Err(ConnectorError::Unknown {
                place: self.place.clone(),
                kind: "variable",
                name: name.to_string(),
                found: self
                    .variables
                    .iter()
                    .map(|v| &*v.0.name)
                    .collect::<Vec<_>>()
                    .join(", "),
            });
        };
        let what = || format!("box of `{name}`");
        if numbers.number_type() != spec.number_type {
            let (got, want) = (numbers.number_type().name(), spec.number_type.name());
            return Err(ConnectorError::invalid(&*self.place, what(), got, want));
        }
        let rank = spec.dimensions.len();
        let ends: Option<Vec<usize>> = slab
            .start
            .iter()
            .zip(&slab.count)
            .map(|(s, c)| s.checked_add(*c))
            .collect();
        let shape = dataset.shape();
        let ends = ends.filter(|ends| {
            slab.start.len() == rank
                && slab.count.len() == rank
                && product(&slab.count) == Some(numbers.len())
                && (0..rank)
                    .all(|d| ends[d] <= shape[d] || self.grown.contains_key(&spec.dimensions[d]))
        });
        let Some(ends) = ends else {
            let got = format!(
                "start {:?}, count {:?}, {} numbers",
                slab.start,
                slab.count,
                numbers.len()
            );
            let want = format!("a box inside {:?} {shape:?}", spec.dimensions);
            return Err(ConnectorError::invalid(&*self.place, what(), got, want));
        };
        let need: Vec<usize> = (0..rank).map(|d| ends[d].max(shape[d])).collect();
        let refuse = || ConnectorError::hdf5(&self.place, format!("write `{name}`"));
        if need != shape {
            dataset.resize(need).map_err(refuse())?;
            for (d, end) in spec.dimensions.iter().zip(&ends) {
                if let Some(length) = self.grown.get_mut(d) {
                    *length = (*length).max(*end);
                }
            }
        }
        macro_rules! put {
            ($($kind:ident)*) => { match &numbers { $(Values::$kind(v) => put(dataset, slab, v),)* } };
        }
        put!(I8 U8 I16 U16 I32 U32 I64 U64 F32 F64).map_err(refuse())
    }

    /// Attaches the dimensions, closes the file and gives it its name. Errors if the disk
    /// refuses; the unfinished file then stays as `<name>.part`.
    pub fn finish(self) -> Result<()> {
        let Self {
            path,
            part,
            place,
            file,
            dimensions,
            grown,
            variables,
        } = self;
        for (spec, dataset) in &variables {
            // All variables of a growing dimension end at one length.
            let shape: Vec<usize> = dataset.shape();
            let full: Vec<usize> = (spec.dimensions.iter().zip(&shape))
                .map(|(d, n)| *grown.get(d).unwrap_or(n))
                .collect();
            if full != shape {
                let refuse = ConnectorError::hdf5(&place, format!("extend `{}`", spec.name));
                dataset.resize(full).map_err(refuse)?;
            }
        }
        for (id, (name, length)) in dimensions.iter().enumerate() {
            let coordinate = variables.iter().find(|v| v.0.name == *name);
            match coordinate {
                Some((_, dataset)) => mark_scale(dataset, name, id, true, &place)?,
                None => {
                    let refuse = || ConnectorError::hdf5(&place, format!("create `{name}`"));
                    let builder = file.new_dataset::<f32>().obj_track_times(false);
                    let builder = match length {
                        Length::Fixed(n) => builder.shape(Extent::fixed(*n)),
                        Length::Unlimited => builder
                            .chunk(1024_usize)
                            .shape(Extent::resizable(grown[name])),
                    };
                    let dataset = builder.create(&**name).map_err(refuse())?;
                    mark_scale(&dataset, name, id, false, &place)?;
                }
            }
        }
        let mut users: BTreeMap<&str, Vec<(String, usize)>> = BTreeMap::new();
        for (spec, _) in &variables {
            if spec.dimensions.is_empty() || spec.dimensions == [spec.name.as_str()] {
                continue;
            }
            attach(&file, &spec.name, &spec.dimensions, &place)?;
            for (d, dimension) in spec.dimensions.iter().enumerate() {
                users
                    .entry(dimension)
                    .or_default()
                    .push((spec.name.clone(), d));
            }
        }
        for (scale, users) in users {
            list_users(&file, scale, &users, &place)?;
        }
        drop(variables);
        let refuse = || ConnectorError::hdf5(&place, "close the file");
        file.flush().map_err(refuse())?;
        file.close().map_err(refuse())?;
        std::fs::rename(&part, &path).map_err(ConnectorError::io(
            "rename",
            &part,
            "check the permissions of its directory",
        ))
    }
}

fn put<T: Element>(dataset: &Dataset, slab: &Slab, numbers: &[T]) -> hdf5::Result<()> {
    if slab.count.is_empty() {
        return numbers.first().map_or(Ok(()), |x| dataset.write_scalar(x));
    }
    if numbers.is_empty() {
        return Ok(());
    }
    let array = ndarray::ArrayView::from_shape(ndarray::IxDyn(&slab.count), numbers)?;
    let slices: Vec<SliceOrIndex> = (slab.start.iter().zip(&slab.count))
        .map(|(&start, &count)| SliceOrIndex::SliceCount {
            start,
            step: 1,
            count,
            block: 1,
        })
        .collect();
    dataset.write_slice(array, Selection::from(Hyperslab::from(slices)))
}
