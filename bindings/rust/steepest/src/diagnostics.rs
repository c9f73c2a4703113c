// SPDX-License-Identifier: Apache-2.0
use std::marker::PhantomData;

use steepest_sys as sys;

use crate::error::{check, size};
use crate::{Context, Dtype, MatrixRef, Result};

/// A slice of any element type, for [`grad_norm`] and [`rms`].
#[repr(transparent)]
#[derive(Clone, Copy, Debug)]
pub struct Vector<'a>(sys::steepest_vector, PhantomData<&'a u8>);

impl<'a, T: Dtype> From<&'a [T]> for Vector<'a> {
    fn from(data: &'a [T]) -> Self {
        let vector = sys::steepest_vector {
            count: size(data.len()),
            data: data.as_ptr().cast(),
            dtype: T::DTYPE,
            ..sys::STEEPEST_VECTOR_INIT
        };
        Vector(vector, PhantomData)
    }
}

impl<'a, T: Dtype> From<&'a Vec<T>> for Vector<'a> {
    fn from(data: &'a Vec<T>) -> Self {
        data.as_slice().into()
    }
}

/// A norm, and how many elements are NaN or infinite; the norm is NaN or infinite if there are any.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GradNorm {
    pub norm: f64,
    pub nonfinite: usize,
}

/// The Euclidean norm of all elements of all vectors together, free of overflow. To clip: a
/// `grad_scale` of min(1, max_norm / norm).
///
/// ```
/// let (a, b) = (vec![3.0f32], vec![4.0f64]);
/// let norm = steepest::grad_norm(&Default::default(), &[(&a).into(), (&b).into()])?;
/// assert_eq!((norm.norm, norm.nonfinite), (5.0, 0));
/// # Ok::<(), steepest::Error>(())
/// ```
pub fn grad_norm(context: &Context, vectors: &[Vector<'_>]) -> Result<GradNorm> {
    let (mut norm, mut nonfinite) = (0.0, 0);
    let (context, table) = (context.as_ptr(), vectors.as_ptr().cast());
    check(unsafe {
        sys::steepest_grad_norm(context, table, size(vectors.len()), &mut norm, &mut nonfinite)
    })?;
    Ok(GradNorm { norm, nonfinite: usize::try_from(nonfinite).unwrap_or(0) })
}

/// sqrt(mean x²) over all elements of all vectors together; 0 if there are none.
pub fn rms(context: &Context, vectors: &[Vector<'_>]) -> Result<GradNorm> {
    let (mut norm, mut nonfinite) = (0.0, 0);
    let (context, table) = (context.as_ptr(), vectors.as_ptr().cast());
    check(unsafe {
        sys::steepest_rms(context, table, size(vectors.len()), &mut norm, &mut nonfinite)
    })?;
    Ok(GradNorm { norm, nonfinite: usize::try_from(nonfinite).unwrap_or(0) })
}

/// The double that a function of the C interface writes.
fn double(function: impl FnOnce(*mut f64) -> sys::steepest_status) -> Result<f64> {
    let mut result = 0.0;
    check(function(&mut result))?;
    Ok(result)
}

/// The update RMS of Adam that mean-field theory predicts; step 0: the steady state.
///
/// ```
/// assert!((steepest::adam_update_rms(0.9, 0.0, 0)? - 0.2294).abs() < 1e-4);
/// # Ok::<(), steepest::Error>(())
/// ```
pub fn adam_update_rms(beta1: f64, snr: f64, step: i64) -> Result<f64> {
    double(|out| unsafe { sys::steepest_adam_update_rms(beta1, snr, step, out) })
}

/// The same to second order in 1 − beta2, for gradients of this kurtosis (3: normal).
pub fn adam_update_rms_second_order(
    beta1: f64,
    beta2: f64,
    snr: f64,
    kurtosis: f64,
    step: i64,
) -> Result<f64> {
    double(|out| unsafe {
        sys::steepest_adam_update_rms_second_order(beta1, beta2, snr, kurtosis, step, out)
    })
}

/// The gradient's signal-to-noise ratio from Adam's update RMS; NaN at step 1.
pub fn snr_from_update_rms(update_rms: f64, beta1: f64, step: i64) -> Result<f64> {
    double(|out| unsafe { sys::steepest_snr_from_update_rms(update_rms, beta1, step, out) })
}

/// The same from the RMS of the bias-corrected momentum and of the gradient.
pub fn snr_from_momentum(momentum_rms: f64, grad_rms: f64, beta: f64, step: i64) -> Result<f64> {
    double(|out| unsafe {
        sys::steepest_snr_from_momentum(momentum_rms, grad_rms, beta, step, out)
    })
}

/// The singular entropy −(1 / log n) Σ p log p, p = s² / Σ s²: 1 if all n singular values are
/// equal, 0 if only one is not zero.
pub fn singular_entropy(values: &[f64]) -> Result<f64> {
    double(|out| unsafe {
        sys::steepest_singular_entropy(values.as_ptr(), size(values.len()), out)
    })
}

/// All min(rows, cols) singular values, falling, in fp64.
///
/// ```
/// use steepest::{singular_values, MatrixRef};
/// let x = [0.0f32, 2.0, -3.0, 0.0];
/// let s = singular_values(&Default::default(), MatrixRef::new(&x, 2, 2)?)?;
/// assert!((s[0] - 3.0).abs() < 1e-12 && (s[1] - 2.0).abs() < 1e-12);
/// # Ok::<(), steepest::Error>(())
/// ```
pub fn singular_values<T: Dtype>(context: &Context, x: MatrixRef<'_, T>) -> Result<Vec<f64>> {
    let mut values = vec![0.0; x.rows().min(x.cols())];
    let (rows, cols) = x.shape();
    let (data, ld, target) = (x.as_ptr(), x.c_ld(), values.as_mut_ptr());
    check(unsafe {
        sys::steepest_singular_values(context.as_ptr(), rows, cols, T::DTYPE, data, ld, target)
    })?;
    Ok(values)
}

/// The largest singular value.
pub fn spectral_norm<T: Dtype>(context: &Context, x: MatrixRef<'_, T>) -> Result<f64> {
    let (rows, cols) = x.shape();
    let (data, ld) = (x.as_ptr(), x.c_ld());
    double(|out| unsafe {
        sys::steepest_spectral_norm(context.as_ptr(), rows, cols, T::DTYPE, data, ld, out)
    })
}

/// Proven bounds (lower, upper) of it without a decomposition, upper ≤ (1 + tolerance) lower; 0:
/// 0.01.
pub fn spectral_norm_bounds<T: Dtype>(
    context: &Context,
    x: MatrixRef<'_, T>,
    tolerance: f64,
) -> Result<(f64, f64)> {
    let (rows, cols) = x.shape();
    let (mut lower, mut upper) = (0.0, 0.0);
    check(unsafe {
        sys::steepest_spectral_norm_bounds(
            context.as_ptr(),
            rows,
            cols,
            T::DTYPE,
            x.as_ptr(),
            x.c_ld(),
            tolerance,
            &mut lower,
            &mut upper,
        )
    })?;
    Ok((lower, upper))
}
