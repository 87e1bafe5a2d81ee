//! Named axes over the workers of a job.

use crate::error::{EngineError, Result};

/// A grid of workers with named axes; the last axis varies fastest with the worker index.
///
/// ```
/// use advect_engine::Mesh;
/// let mesh = Mesh::new([("data", 2), ("space", 3)]).unwrap();
/// assert_eq!(mesh.workers(), 6);
/// assert_eq!(mesh.coordinates(4), vec![1, 1]);
/// assert_eq!(mesh.worker(&[1, 1]), 4);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mesh {
    names: Vec<String>,
    sizes: Vec<usize>,
}

impl Mesh {
    /// A mesh with the given axes, outermost first.
    ///
    /// # Errors
    /// If a name comes twice or an axis has no worker.
    pub fn new<N: Into<String>>(axes: impl IntoIterator<Item = (N, usize)>) -> Result<Self> {
        let (names, sizes): (Vec<String>, Vec<usize>) =
            axes.into_iter().map(|(n, s)| (n.into(), s)).unzip();
        for (i, name) in names.iter().enumerate() {
            if names[..i].contains(name) {
                return Err(mesh_error(
                    name,
                    "the axis is named twice; name each axis once",
                ));
            }
            if sizes[i] == 0 {
                return Err(mesh_error(
                    name,
                    "the axis has no worker; give it at least 1",
                ));
            }
        }
        Ok(Mesh { names, sizes })
    }

    /// The mesh of one axis over all workers.
    pub fn line(name: &str, workers: usize) -> Self {
        Mesh {
            names: vec![name.to_owned()],
            sizes: vec![workers.max(1)],
        }
    }

    /// Number of axes.
    pub fn rank(&self) -> usize {
        self.sizes.len()
    }

    /// Workers along each axis.
    pub fn sizes(&self) -> &[usize] {
        &self.sizes
    }

    /// Names of the axes.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Number of workers.
    pub fn workers(&self) -> usize {
        self.sizes.iter().product()
    }

    /// Position of the axis called `name`.
    pub fn axis(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|n| n == name)
    }

    /// Place of a worker on each axis.
    pub fn coordinates(&self, worker: usize) -> Vec<usize> {
        let mut rest = worker;
        let mut at = vec![0; self.rank()];
        for (c, &size) in at.iter_mut().zip(&self.sizes).rev() {
            *c = rest % size;
            rest /= size;
        }
        at
    }

    /// Worker at a place.
    pub fn worker(&self, coordinates: &[usize]) -> usize {
        coordinates
            .iter()
            .zip(&self.sizes)
            .fold(0, |w, (&c, &size)| w * size + c)
    }
}

fn mesh_error(axis: &str, why: &str) -> EngineError {
    EngineError::Layout {
        layout: format!("mesh axis '{axis}'"),
        why: why.to_owned(),
    }
}
