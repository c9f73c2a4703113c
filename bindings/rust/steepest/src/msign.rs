// SPDX-License-Identifier: Apache-2.0
use std::os::raw::c_void;
use std::ptr::{null, null_mut};

use steepest_sys as sys;

use crate::error::{check, size};
use crate::{set_flag, workspace};
use crate::{Context, Dtype, Error, ErrorKind, MatrixMut, MatrixRef, Result, Workspace};

/// How msign(X) is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum Method {
    /// Rational with three poles.
    Auto = sys::STEEPEST_MSIGN_AUTO,
    NewtonSchulz = sys::STEEPEST_MSIGN_NEWTON_SCHULZ,
    GramNewtonSchulz = sys::STEEPEST_MSIGN_GRAM_NEWTON_SCHULZ,
    /// Zolotarev's best rational function.
    Rational = sys::STEEPEST_MSIGN_RATIONAL,
    /// Dynamically weighted Halley steps.
    Halley = sys::STEEPEST_MSIGN_HALLEY,
    Svd = sys::STEEPEST_MSIGN_SVD,
    /// In fp64, to about 1e-7.
    Accurate = sys::STEEPEST_MSIGN_ACCURATE,
}

impl Method {
    pub(crate) fn from_c(value: i32) -> Method {
        match value {
            sys::STEEPEST_MSIGN_NEWTON_SCHULZ => Method::NewtonSchulz,
            sys::STEEPEST_MSIGN_GRAM_NEWTON_SCHULZ => Method::GramNewtonSchulz,
            sys::STEEPEST_MSIGN_RATIONAL => Method::Rational,
            sys::STEEPEST_MSIGN_HALLEY => Method::Halley,
            sys::STEEPEST_MSIGN_SVD => Method::Svd,
            sys::STEEPEST_MSIGN_ACCURATE => Method::Accurate,
            _ => Method::Auto,
        }
    }
}

/// Coefficients of the two Newton–Schulz methods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum Coefficients {
    Keller = sys::STEEPEST_COEF_KELLER,
    Classic = sys::STEEPEST_COEF_CLASSIC,
    Cubic = sys::STEEPEST_COEF_CUBIC,
    You = sys::STEEPEST_COEF_YOU,
    PolarExpress = sys::STEEPEST_COEF_POLAR_EXPRESS,
}

/// What X is divided by, so that its singular values are at most 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Normalization {
    Auto,
    Frobenius,
    Schatten4,
    /// A number that is at least X's largest singular value.
    Bound(f64),
}

/// What msign computes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum ComputeDtype {
    /// F64 for f64 input, else F32.
    Auto = 0,
    F32 = sys::STEEPEST_F32,
    F64 = sys::STEEPEST_F64,
    /// F32, but products of bf16 operands, where the CPU has them.
    Bf16 = sys::STEEPEST_BF16,
}

/// How the matrix sign is computed, as `steepest_msign_config` has it.
#[derive(Clone, Copy, Debug)]
pub struct MsignConfig<'a> {
    pub(crate) raw: sys::steepest_msign_config,
    pub(crate) custom: Option<&'a [[f64; 3]]>,
    pub(crate) restarts: Option<&'a [i32]>,
}

// Its pointers are those of the slices beside them.
unsafe impl Send for MsignConfig<'_> {}
unsafe impl Sync for MsignConfig<'_> {}

impl Default for MsignConfig<'_> {
    fn default() -> Self {
        MsignConfig { raw: sys::STEEPEST_MSIGN_CONFIG_INIT, custom: None, restarts: None }
    }
}

impl<'a> MsignConfig<'a> {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn method(mut self, method: Method) -> Self {
        self.raw.method = method as i32;
        self
    }

    /// Iterations or poles; 0: the method's default.
    pub fn steps(mut self, steps: i32) -> Self {
        self.raw.steps = steps;
        self
    }

    pub fn coefficients(mut self, coefficients: Coefficients) -> Self {
        self.raw.coefficients = coefficients as i32;
        self.raw.custom_coefficients = null();
        self.raw.custom_count = 0;
        self.custom = None;
        self
    }

    /// Rows (a, b, c), one per step; after the last one that one repeats.
    pub fn custom_coefficients(mut self, rows: &'a [[f64; 3]]) -> Self {
        self.raw.coefficients = sys::STEEPEST_COEF_CUSTOM;
        // Without rows it is null, which the library refuses.
        self.raw.custom_coefficients = rows.first().map_or(null(), |_| rows.as_ptr().cast());
        self.raw.custom_count = size(rows.len());
        self.custom = Some(rows);
        self
    }

    pub fn normalization(mut self, normalization: Normalization) -> Self {
        self.raw.norm_bound = 0.0;
        self.raw.normalization = match normalization {
            Normalization::Auto => sys::STEEPEST_NORM_AUTO,
            Normalization::Frobenius => sys::STEEPEST_NORM_FROBENIUS,
            Normalization::Schatten4 => sys::STEEPEST_NORM_SCHATTEN4,
            Normalization::Bound(bound) => {
                self.raw.norm_bound = bound;
                sys::STEEPEST_NORM_BOUND
            }
        };
        self
    }

    /// l of Rational and Halley, in [1e-3, 1), with fp64 [1e-8, 1); 0: 1e-3.
    pub fn lower_bound(mut self, l: f64) -> Self {
        self.raw.lower_bound = l;
        self
    }

    /// Svd: singular values up to this share of the largest count as zero; 0: by type and size.
    pub fn rank_tolerance(mut self, tolerance: f64) -> Self {
        self.raw.rank_tolerance = tolerance;
        self
    }

    pub fn compute_dtype(mut self, dtype: ComputeDtype) -> Self {
        self.raw.compute_dtype = dtype as i32;
        self
    }

    /// With bf16 products: the small matrix as a sum of two, for wide spectra.
    pub fn split_bf16(mut self, on: bool) -> Self {
        set_flag(&mut self.raw.flags, sys::STEEPEST_MSIGN_SPLIT_BF16, on);
        self
    }

    /// The same bits on every instruction-set level.
    pub fn consistent(mut self, on: bool) -> Self {
        set_flag(&mut self.raw.flags, sys::STEEPEST_FLAG_CONSISTENT, on);
        self
    }

    /// GramNewtonSchulz: the steps before which X Xᵀ is formed anew.
    pub fn restarts(mut self, steps: &'a [i32]) -> Self {
        self.raw.restarts = steps.as_ptr();
        self.raw.restart_count = size(steps.len());
        self.restarts = Some(steps);
        self
    }
}

/// How msign came to its result.
#[derive(Clone, Copy, Debug)]
pub struct MsignStats {
    /// None: all is well. Nonfinite, NotConverged: the result was not written.
    pub status: Option<ErrorKind>,
    /// The method used, never Auto.
    pub method: Method,
    /// Iterations or poles used.
    pub steps: i32,
    /// Factorisations that were repeated with a larger l.
    pub retries: i32,
    /// Svd: the numerical rank. Some(0) for a zero matrix, None if it is not known.
    pub rank: Option<usize>,
    /// What x was divided by.
    pub norm: f64,
    /// The l used; 0 for methods without.
    pub lower_bound: f64,
    /// |O Oᵀ − I|_F / sqrt(min(rows, cols)); Oᵀ O for a tall O.
    pub orthogonality: f64,
}

impl MsignStats {
    fn from_c(stats: &sys::steepest_msign_stats) -> Self {
        MsignStats {
            status: ErrorKind::from_status(stats.status),
            method: Method::from_c(stats.method),
            steps: stats.steps,
            retries: stats.retries,
            rank: usize::try_from(stats.rank).ok(),
            norm: stats.norm,
            lower_bound: stats.lower_bound,
            orthogonality: stats.orthogonality,
        }
    }
}

/// The matrix sign (orthogonal polar factor) of a matrix: out = U Vᵀ for x = U S Vᵀ.
///
/// ```
/// use steepest::{msign, Context, MatrixMut, MatrixRef, Method, MsignConfig};
///
/// let x = [3.0f64, 0.0, 0.0, 0.0, -2.0, 0.0];
/// let mut out = [0.0f64; 6];
/// msign(
///     &Context::default(),
///     &MsignConfig::new().method(Method::Svd),
///     MatrixRef::new(&x, 2, 3)?,
///     MatrixMut::new(&mut out, 2, 3)?,
/// )?;
/// assert!((out[0] - 1.0).abs() < 1e-12 && (out[4] + 1.0).abs() < 1e-12);
/// # Ok::<(), steepest::Error>(())
/// ```
pub fn msign<T: Dtype>(
    context: &Context,
    config: &MsignConfig<'_>,
    x: MatrixRef<'_, T>,
    out: MatrixMut<'_, T>,
) -> Result<()> {
    msign_with_workspace(context, config, x, out, &mut Workspace::pooled())
}

/// The same with scratch memory of your own: at least [`msign_workspace_size`] bytes.
pub fn msign_with_workspace<T: Dtype>(
    context: &Context,
    config: &MsignConfig<'_>,
    x: MatrixRef<'_, T>,
    mut out: MatrixMut<'_, T>,
    workspace: &mut Workspace<'_>,
) -> Result<()> {
    same_shape(x.shape(), out.shape())?;
    let (from, to) = ((x.as_ptr(), x.c_ld()), (out.as_mut_ptr(), out.c_ld()));
    unsafe { call::<T>(context, config, x.shape(), from, to, workspace, null_mut()) }
}

/// The same, and how it came to its result. That costs one more product.
pub fn msign_with_stats<T: Dtype>(
    context: &Context,
    config: &MsignConfig<'_>,
    x: MatrixRef<'_, T>,
    mut out: MatrixMut<'_, T>,
) -> Result<MsignStats> {
    same_shape(x.shape(), out.shape())?;
    let mut stats = sys::STEEPEST_MSIGN_STATS_INIT;
    let (from, to) = ((x.as_ptr(), x.c_ld()), (out.as_mut_ptr(), out.c_ld()));
    let mut pooled = Workspace::pooled();
    unsafe { call::<T>(context, config, x.shape(), from, to, &mut pooled, &mut stats)? };
    Ok(MsignStats::from_c(&stats))
}

/// The same in place.
pub fn msign_in_place<T: Dtype>(
    context: &Context,
    config: &MsignConfig<'_>,
    mut x: MatrixMut<'_, T>,
) -> Result<()> {
    let (ld, data) = (x.c_ld(), x.as_mut_ptr());
    let (from, mut pooled) = ((data as *const c_void, ld), Workspace::pooled());
    unsafe { call::<T>(context, config, x.shape(), from, (data, ld), &mut pooled, null_mut()) }
}

/// # Safety
///
/// The matrices are of type T, within their slices, and the same or disjoint.
unsafe fn call<T: Dtype>(
    context: &Context,
    config: &MsignConfig<'_>,
    (rows, cols): (i64, i64),
    (x, ldx): (*const c_void, i64),
    (out, ldo): (*mut c_void, i64),
    workspace: &mut Workspace<'_>,
    stats: *mut sys::steepest_msign_stats,
) -> Result<()> {
    let (context, config, dtype) = (context.as_ptr(), &config.raw, T::DTYPE);
    let raw = workspace.raw();
    let space = workspace::pointer(&raw);
    check(sys::steepest_msign(context, config, rows, cols, dtype, x, ldx, out, ldo, space, stats))
}

/// The bytes of scratch memory that msign needs for `count` matrices of this shape in one call.
pub fn msign_workspace_size<T: Dtype>(
    context: &Context,
    config: &MsignConfig<'_>,
    rows: usize,
    cols: usize,
    count: usize,
) -> Result<usize> {
    let (mut bytes, dtype) = (0, T::DTYPE);
    let (context, config) = (context.as_ptr(), &config.raw);
    let (rows, cols, count) = (size(rows), size(cols), size(count));
    check(unsafe {
        sys::steepest_msign_workspace_size(context, config, rows, cols, dtype, count, &mut bytes)
    })?;
    Ok(bytes)
}

fn same_shape(x: (i64, i64), out: (i64, i64)) -> Result<()> {
    if x == out {
        return Ok(());
    }
    Error::shape(format!("msign: out is {} x {}, x is {} x {}", out.0, out.1, x.0, x.1))
}

/// msign of matrices of one shape and stride. A matrix that is not finite, or fails, is left alone,
/// and its status says so; the others are done. The first such error, if any, comes with the
/// statistics of all.
pub fn msign_batched<T: Dtype>(
    context: &Context,
    config: &MsignConfig<'_>,
    x: &[MatrixRef<'_, T>],
    out: &mut [MatrixMut<'_, T>],
) -> Result<(Vec<MsignStats>, Option<Error>)> {
    msign_batched_with_workspace(context, config, x, out, &mut Workspace::pooled())
}

/// The same with scratch memory of your own: at least [`msign_workspace_size`] bytes.
pub fn msign_batched_with_workspace<T: Dtype>(
    context: &Context,
    config: &MsignConfig<'_>,
    x: &[MatrixRef<'_, T>],
    out: &mut [MatrixMut<'_, T>],
    workspace: &mut Workspace<'_>,
) -> Result<(Vec<MsignStats>, Option<Error>)> {
    if x.len() != out.len() {
        return Error::shape(format!("msign_batched: {} x and {} out", x.len(), out.len()));
    }
    let first = match (x.first(), out.first()) {
        (Some(x), Some(out)) => (x.shape(), x.c_ld(), out.c_ld()),
        _ => return Ok((Vec::new(), None)),
    };
    for (x, out) in x.iter().zip(out.iter()) {
        if (x.shape(), x.c_ld(), out.c_ld()) != first || out.shape() != first.0 {
            return Error::shape("msign_batched: shapes or strides differ");
        }
    }
    let ((rows, cols), ldx, ldo) = first;
    let sources: Vec<_> = x.iter().map(|x| x.as_ptr()).collect();
    let targets: Vec<_> = out.iter_mut().map(|out| out.as_mut_ptr()).collect();
    let mut stats = vec![sys::STEEPEST_MSIGN_STATS_INIT; x.len()];
    let raw = workspace.raw();
    let result = check(unsafe {
        sys::steepest_msign_batched(
            context.as_ptr(),
            &config.raw,
            rows,
            cols,
            T::DTYPE,
            sources.as_ptr(),
            ldx,
            targets.as_ptr(),
            ldo,
            size(x.len()),
            workspace::pointer(&raw),
            stats.as_mut_ptr(),
        )
    });
    let stats = stats.iter().map(MsignStats::from_c).collect();
    match result {
        Ok(()) => Ok((stats, None)),
        Err(error) => match error.kind() {
            ErrorKind::Nonfinite | ErrorKind::NotConverged => Ok((stats, Some(error))),
            _ => Err(error),
        },
    }
}

/// The least and the largest value that the method takes on singular values in [lower_bound, 1].
///
/// ```
/// let (low, high) = steepest::msign_band(&steepest::MsignConfig::new(), 1e-3)?;
/// assert!((low - 0.938).abs() < 1e-3 && (high - 1.062).abs() < 1e-3);
/// # Ok::<(), steepest::Error>(())
/// ```
pub fn msign_band(config: &MsignConfig<'_>, lower_bound: f64) -> Result<(f64, f64)> {
    let (mut low, mut high) = (0.0, 0.0);
    check(unsafe { sys::steepest_msign_band(&config.raw, lower_bound, &mut low, &mut high) })?;
    Ok((low, high))
}

/// Polar Express's coefficients for singular values in [lower_bound, 1] and so many steps, as
/// [`MsignConfig::custom_coefficients`] takes them.
pub fn msign_coefficients(lower_bound: f64, steps: usize) -> Result<Vec<[f64; 3]>> {
    // More than the library allows is not reserved first: it says no without looking at the rows.
    let mut rows = vec![[0.0; 3]; steps.min(100)];
    let target = rows.as_mut_ptr().cast();
    check(unsafe { sys::steepest_msign_coefficients(lower_bound, size(steps), target) })?;
    Ok(rows)
}
