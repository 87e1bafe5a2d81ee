//! Two-dimensional convolution, as networks have it (a correlation):
//! $y_{boij} = \sum_{ckl} w_{ockl}\, x_{b,c,si + k - p,sj + l - p}$, with zeros around x.
//!
//! | x | w | y | known as |
//! |---|---|---|---|
//! | cut by sample (0) | Same | cut alike | data parallel |
//! | Same | cut by output channel (0) | cut by channel (1) | tensor parallel |
//! | cut by channel (1) | cut by input channel (1) | Partial(Sum) | tensor parallel |
//!
//! The windows of a few rows of y are laid out as a matrix, so that everything is a product of matrices: forward
//! $Y = W X$, back $\bar X = W^\top \bar Y$ and $\bar W = \bar Y X^\top$. Source of the form: Chellapilla, Puri and
//! Simard (2006), *High performance convolutional neural networks for document processing*.

use std::ops::Range;

use advect_engine::graph::{Rows, Saved, Site};
use advect_engine::shard::buffer;
use advect_engine::{Mesh, Monoid, Operator, Placement, Result, Shard, Spec};
use faer::{Accum, MatMut, MatRef};

use super::real::{Real, with_real};
use super::rules::{layout, reals, refuse};
use crate::kernels::{each_with, zeros};

/// Columns of the matrix of windows at once, about.
const COLUMNS: usize = 1024;

/// x `[b, c, h, w]` and a kernel `[o, c, k, l]` to `[b, o, h', w']` with $h' = \lfloor (h + 2p - k)/s \rfloor + 1$;
/// `f32` or `f64`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Convolution {
    /// s, from one window to the next.
    pub stride: usize,
    /// p, zeros on each side.
    pub padding: usize,
}

const SUM: Placement = Placement::Partial(Monoid::Sum);

impl Operator for Convolution {
    fn infer(&self, _: &Mesh, inputs: &[Spec]) -> Result<Vec<Spec>> {
        const NAME: &str = "Convolution";
        let dtype = reals(NAME, inputs, &[4, 4])?;
        let (x, w) = (&inputs[0], &inputs[1]);
        let (&[b, c, height, width], &[o, channels, k, l]) =
            (x.shape.as_slice(), w.shape.as_slice())
        else {
            return refuse(NAME, "x is [b, c, h, w] and the kernel [o, c, k, l]");
        };
        let fits = |extent: usize, of: usize| of > 0 && of <= extent + 2 * self.padding;
        if c != channels || self.stride == 0 || !fits(height, k) || !fits(width, l) {
            let why = format!(
                "{w} does not lie in {x} with {} zeros around it, at strides of {}",
                self.padding, self.stride
            );
            return refuse(NAME, why);
        }
        if [x, w].iter().any(|s| s.rows != Rows::Plain) {
            return refuse(NAME, "it takes plain tensors");
        }
        let mend = "cut samples beside a kernel that is Same, the output channels of the kernel beside x that \
                    is, or the input channels of both";
        let layout = layout(NAME, inputs, mend, |on| match (on[0], on[1]) {
            (p @ (Placement::Same | SUM | Placement::Split { dim: 0 }), Placement::Same) => Some(p),
            (Placement::Same, SUM) => Some(SUM),
            (Placement::Same, Placement::Split { dim: 0 }) => Some(Placement::Split { dim: 1 }),
            (Placement::Split { dim: 1 }, Placement::Split { dim: 1 }) => Some(SUM),
            _ => None,
        })?;
        let [rows, columns] = [(height, k), (width, l)].map(|(n, k)| self.windows(n, k));
        Ok(vec![Spec::new([b, o, rows, columns], dtype, layout)])
    }

    fn forward(&self, site: &Site, inputs: &[Shard]) -> Result<(Vec<Shard>, Saved)> {
        with_real!(site, inputs[0].dtype(), T => {
            let y = self.convolved::<T>(&inputs[0], &inputs[1], site.output_shape(0));
            Ok((vec![Shard::new(site.key(), site.output_shape(0), y.into())], Saved::nothing()))
        })
    }

    fn keeps(&self) -> &[usize] {
        &[0, 1]
    }

    fn separable(&self) -> bool {
        true
    }

    fn tangent(&self, site: &Site, saved: &Saved, tangents: &[Shard]) -> Result<Vec<Shard>> {
        let (x, w) = (saved.input(site, 0)?, saved.input(site, 1)?);
        with_real!(site, x.dtype(), T => {
            let shape = site.output_shape(0);
            let mut y = self.convolved::<T>(&tangents[0], w, shape.clone());
            let by_w = self.convolved::<T>(x, &tangents[1], shape.clone());
            y.iter_mut().zip(by_w).for_each(|(y, more): (&mut T, T)| *y += more);
            Ok(vec![Shard::new(site.key(), shape, y.into())])
        })
    }

    fn adjoint(
        &self,
        site: &Site,
        saved: &Saved,
        cotangents: &[Shard],
        wanted: &[bool],
    ) -> Result<Vec<Option<Shard>>> {
        let (x, w) = (saved.input(site, 0)?, saved.input(site, 1)?);
        with_real!(site, x.dtype(), T => {
            let form = Form::of(self, &x.shape, &w.shape, &cotangents[0].shape);
            let given = cotangents[0].elements::<T>();
            let shard = |like: &Shard, v: Vec<T>| Shard::new(site.key(), like.shape.clone(), v.into());
            Ok(vec![
                wanted[0].then(|| shard(x, form.to_x(w.elements::<T>(), given))),
                wanted[1].then(|| shard(w, form.to_w(x.elements::<T>(), given))),
            ])
        })
    }
}

impl Convolution {
    /// Windows of extent `k` in `n`.
    fn windows(&self, n: usize, k: usize) -> usize {
        (n + 2 * self.padding - k) / self.stride + 1
    }

    fn convolved<T: Real>(&self, x: &Shard, w: &Shard, to: Vec<usize>) -> Vec<T> {
        let form = Form::of(self, &x.shape, &w.shape, &to);
        let (x, w) = (x.elements::<T>(), w.elements::<T>());
        let mut y = buffer(to.iter().product());
        let plane = form.rows * form.columns;
        let samples = y.chunks_mut((form.o * plane).max(1)).enumerate();
        each_with(
            samples.collect(),
            Vec::new,
            |windows: &mut Vec<T>, (b, y)| {
                let w = MatRef::from_row_major_slice(w, form.o, form.window());
                let mut y = MatMut::from_row_major_slice_mut(y, form.o, plane);
                for band in form.bands() {
                    form.lay_out(form.sample(x, b), &band, windows);
                    let n = band.len() * form.columns;
                    let windows = MatRef::from_row_major_slice(windows, form.window(), n);
                    let to = y.as_mut().subcols_mut(band.start * form.columns, n);
                    T::multiply(to, Accum::Replace, w, windows, T::of(1.0));
                }
            },
        );
        y
    }
}

/// The extents of a convolution as one worker has them.
struct Form {
    stride: usize,
    padding: usize,
    c: usize,
    /// Of x.
    height: usize,
    width: usize,
    o: usize,
    k: usize,
    l: usize,
    /// Of y.
    rows: usize,
    columns: usize,
}

impl Form {
    fn of(by: &Convolution, x: &[usize], w: &[usize], y: &[usize]) -> Self {
        Form {
            stride: by.stride,
            padding: by.padding,
            c: x[1],
            height: x[2],
            width: x[3],
            o: w[0],
            k: w[2],
            l: w[3],
            rows: y[2],
            columns: y[3],
        }
    }

    /// Elements of a window.
    fn window(&self) -> usize {
        self.c * self.k * self.l
    }

    /// Rows of y that are taken at once.
    fn bands(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let (rows, step) = (self.rows, (COLUMNS / self.columns.max(1)).max(1));
        (0..rows)
            .step_by(step)
            .map(move |first| first..rows.min(first + step))
    }

    fn sample<'a, T>(&self, x: &'a [T], b: usize) -> &'a [T] {
        let size = self.c * self.height * self.width;
        &x[b * size..][..size]
    }

    /// Visits the row of windows of every element of a window: its place among the elements, the row of y
    /// within the band, and the row of x under it; `None` above and below x.
    fn visit(&self, band: &Range<usize>, mut each: impl FnMut(usize, usize, Option<usize>, usize)) {
        for element in 0..self.window() {
            let (channel, k, l) = (
                element / (self.k * self.l),
                element / self.l % self.k,
                element % self.l,
            );
            for i in band.clone() {
                let row = (i * self.stride + k).checked_sub(self.padding);
                let row = row.filter(|row| *row < self.height);
                let row = row.map(|row| (channel * self.height + row) * self.width);
                each(element, i - band.start, row, l);
            }
        }
    }

    /// Column of x under column `j` of y for the column `l` of the kernel.
    fn under(&self, j: usize, l: usize) -> Option<usize> {
        let column = (j * self.stride + l).checked_sub(self.padding);
        column.filter(|column| *column < self.width)
    }

    /// The windows of a band of a sample, a row for each element of a window.
    fn lay_out<T: Real>(&self, x: &[T], band: &Range<usize>, windows: &mut Vec<T>) {
        let n = band.len() * self.columns;
        windows.clear();
        windows.resize(self.window() * n, T::of(0.0));
        self.visit(band, |element, i, row, l| {
            let to = &mut windows[element * n + i * self.columns..][..self.columns];
            if let Some(row) = row {
                for (j, to) in to.iter_mut().enumerate() {
                    if let Some(column) = self.under(j, l) {
                        *to = x[row + column];
                    }
                }
            }
        });
    }

    /// Adds what windows have to the elements of x under them.
    fn gather<T: Real>(&self, windows: &[T], band: &Range<usize>, x: &mut [T]) {
        let n = band.len() * self.columns;
        self.visit(band, |element, i, row, l| {
            let from = &windows[element * n + i * self.columns..][..self.columns];
            if let Some(row) = row {
                for (j, &from) in from.iter().enumerate() {
                    if let Some(column) = self.under(j, l) {
                        x[row + column] += from;
                    }
                }
            }
        });
    }

    /// $\bar x$, sample by sample.
    fn to_x<T: Real>(&self, w: &[T], given: &[T]) -> Vec<T> {
        let (plane, size) = (self.rows * self.columns, self.c * self.height * self.width);
        let samples = given.len() / (self.o * plane).max(1);
        let mut to_x = zeros(samples * size);
        let tasks = to_x.chunks_mut(size.max(1)).enumerate();
        each_with(
            tasks.collect(),
            Vec::new,
            |windows: &mut Vec<T>, (b, to_x)| {
                let w = MatRef::from_row_major_slice(w, self.o, self.window());
                let given = &given[b * self.o * plane..][..self.o * plane];
                let given = MatRef::from_row_major_slice(given, self.o, plane);
                for band in self.bands() {
                    let n = band.len() * self.columns;
                    windows.clear();
                    windows.resize(self.window() * n, T::of(0.0));
                    let to = MatMut::from_row_major_slice_mut(windows, self.window(), n);
                    let given = given.subcols(band.start * self.columns, n);
                    T::multiply(to, Accum::Replace, w.transpose(), given, T::of(1.0));
                    self.gather(windows, &band, to_x);
                }
            },
        );
        to_x
    }

    /// $\bar w$, by two halves of the output channels: samples are added in their order.
    fn to_w<T: Real>(&self, x: &[T], given: &[T]) -> Vec<T> {
        let plane = self.rows * self.columns;
        let samples = given.len() / (self.o * plane).max(1);
        let mut to_w = zeros(self.o * self.window());
        let tall = self.o.div_ceil(2).max(1);
        let tasks = to_w.chunks_mut((tall * self.window()).max(1)).enumerate();
        each_with(
            tasks.collect(),
            Vec::new,
            |windows: &mut Vec<T>, (half, to_w)| {
                let height = to_w.len() / self.window().max(1);
                for b in 0..samples {
                    let given = &given[(b * self.o + half * tall) * plane..][..height * plane];
                    let given = MatRef::from_row_major_slice(given, height, plane);
                    for band in self.bands() {
                        self.lay_out(self.sample(x, b), &band, windows);
                        let n = band.len() * self.columns;
                        let windows = MatRef::from_row_major_slice(windows, self.window(), n);
                        let to = MatMut::from_row_major_slice_mut(to_w, height, self.window());
                        let given = given.subcols(band.start * self.columns, n);
                        T::multiply(to, Accum::Add, given, windows.transpose(), T::of(1.0));
                    }
                }
            },
        );
        to_w
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use advect_engine::{DType, Graph, Layout};

    use super::*;

    fn numbers(seed: usize, shape: &[usize]) -> Shard {
        let n = shape.iter().product::<usize>();
        let number = |i| ((i * 37 + seed * 11) % 23) as f64 - 11.0;
        Shard::new(
            0,
            shape.to_vec(),
            (0..n).map(number).collect::<Vec<f64>>().into(),
        )
    }

    /// The sum of the definition, on more rows than are taken at once.
    #[test]
    fn sums_are_those_of_the_definition() {
        for (stride, padding, [k, l]) in [(1, 1, [3, 3]), (2, 0, [2, 3]), (3, 2, [1, 4])] {
            let (x, w) = (numbers(1, &[2, 3, 40, 50]), numbers(2, &[4, 3, k, l]));
            let mesh = Mesh::line("data", 1);
            let same = Layout::same(&mesh);
            let mut graph = Graph::new(mesh);
            let mut given = BTreeMap::new();
            let mut values = Vec::new();
            for (name, shard) in [("x", &x), ("w", &w)] {
                let spec = Spec::new(shard.shape.clone(), DType::F64, same.clone());
                values.push(graph.input(name, spec).expect("it fits"));
                given.insert(name.to_owned(), vec![shard.clone()]);
            }
            let by = Convolution { stride, padding };
            let y = graph.apply("y", by, &values).expect("it fits");
            let now = graph.rehearse(&given, [0, 0], 0).expect("it runs");
            let (y, x, w) = (&now.value(y)[0], x.elements::<f64>(), w.elements::<f64>());
            let (rows, columns) = (
                (40 + 2 * padding - k) / stride + 1,
                (50 + 2 * padding - l) / stride + 1,
            );
            assert_eq!(y.shape, [2, 4, rows, columns]);
            for (at, &got) in y.elements::<f64>().iter().enumerate() {
                let (j, i) = (at % columns, at / columns % rows);
                let (o, b) = (at / columns / rows % 4, at / columns / rows / 4);
                let mut want = 0.0;
                for (c, u, v) in (0..3 * k * l).map(|e| (e / k / l, e / l % k, e % l)) {
                    let (row, column) = (i * stride + u, j * stride + v);
                    if (padding..40 + padding).contains(&row)
                        && (padding..50 + padding).contains(&column)
                    {
                        let from = ((b * 3 + c) * 40 + row - padding) * 50 + column - padding;
                        want += x[from] * w[((o * 3 + c) * k + u) * l + v];
                    }
                }
                assert_eq!(got, want, "{b} {o} {i} {j}");
            }
        }
    }
}
