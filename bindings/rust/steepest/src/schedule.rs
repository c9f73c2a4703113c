// SPDX-License-Identifier: Apache-2.0
use std::ptr::null;

use steepest_sys as sys;

use crate::error::{check, size};
use crate::{Error, ErrorKind, Result};

/// The shape of a schedule; the C header has the formulas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum ScheduleKind {
    Constant = sys::STEEPEST_SCHEDULE_CONSTANT,
    Linear = sys::STEEPEST_SCHEDULE_LINEAR,
    Cosine = sys::STEEPEST_SCHEDULE_COSINE,
    InverseSqrt = sys::STEEPEST_SCHEDULE_INVERSE_SQRT,
    Inverse = sys::STEEPEST_SCHEDULE_INVERSE,
    WarmupStableDecay = sys::STEEPEST_SCHEDULE_WARMUP_STABLE_DECAY,
}

/// How `WarmupStableDecay` decays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum DecayShape {
    Linear = sys::STEEPEST_DECAY_LINEAR,
    Cosine = sys::STEEPEST_DECAY_COSINE,
    OneMinusSqrt = sys::STEEPEST_DECAY_ONE_MINUS_SQRT,
}

/// Whose gradient norms [`schedule_refine`] gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum RefineKind {
    /// Euclidean norms.
    Sgd = sys::STEEPEST_REFINE_SGD,
    /// Sums of absolute values.
    Adam = sys::STEEPEST_REFINE_ADAM,
}

/// A learning rate for each step 1..=total_steps.
///
/// ```
/// use steepest::{Schedule, ScheduleKind};
///
/// let schedule = Schedule::new(ScheduleKind::Cosine).lr(3e-4).warmup_steps(10);
/// let rates = schedule.fill(100)?;
/// assert_eq!(rates[9], 3e-4);
/// assert_eq!(schedule.at(100, 10)?, rates[9]);
/// # Ok::<(), steepest::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Schedule(sys::steepest_schedule);

impl Schedule {
    /// A peak of 1e-3, no warm-up, decay to zero.
    pub fn new(kind: ScheduleKind) -> Self {
        Schedule(sys::steepest_schedule { kind: kind as i32, ..sys::STEEPEST_SCHEDULE_INIT })
    }

    /// The peak.
    pub fn lr(mut self, lr: f64) -> Self {
        self.0.lr = lr;
        self
    }

    /// Where the decay ends, as a share of lr.
    pub fn final_ratio(mut self, ratio: f64) -> Self {
        self.0.final_ratio = ratio;
        self
    }

    pub fn warmup_steps(mut self, steps: usize) -> Self {
        self.0.warmup_steps = size(steps);
        self
    }

    /// Of `WarmupStableDecay`; 0: a fifth of all.
    pub fn decay_steps(mut self, steps: usize) -> Self {
        self.0.decay_steps = size(steps);
        self
    }

    pub fn decay_shape(mut self, shape: DecayShape) -> Self {
        self.0.decay_shape = shape as i32;
        self
    }

    /// All rates, the first being that of step 1.
    pub fn fill(&self, total_steps: usize) -> Result<Vec<f64>> {
        let mut lr = zeros(total_steps)?;
        self.fill_into(&mut lr)?;
        Ok(lr)
    }

    /// The rates of `lr.len()` steps.
    pub fn fill_into(&self, lr: &mut [f64]) -> Result<()> {
        check(unsafe { sys::steepest_schedule_fill(&self.0, size(lr.len()), lr.as_mut_ptr()) })
    }

    /// The rate of one step, 1 ≤ step ≤ total_steps.
    pub fn at(&self, total_steps: usize, step: usize) -> Result<f64> {
        let mut lr = 0.0;
        check(unsafe {
            sys::steepest_schedule_at(&self.0, size(total_steps), size(step), &mut lr)
        })?;
        Ok(lr)
    }
}

fn zeros(count: usize) -> Result<Vec<f64>> {
    let mut result = Vec::new();
    result.try_reserve_exact(count).map_err(|_| {
        Error::new(ErrorKind::OutOfMemory, format!("schedule: no memory for {} rates", count))
    })?;
    result.resize(count, 0.0);
    Ok(result)
}

/// G of the bound: the same for all steps, or one for each.
#[derive(Clone, Copy, Debug)]
pub enum GradNorms<'a> {
    Constant(f64),
    PerStep(&'a [f64]),
}

impl From<f64> for GradNorms<'_> {
    fn from(norm: f64) -> Self {
        GradNorms::Constant(norm)
    }
}

impl<'a> From<&'a [f64]> for GradNorms<'a> {
    fn from(norms: &'a [f64]) -> Self {
        GradNorms::PerStep(norms)
    }
}

impl<'a> From<&'a Vec<f64>> for GradNorms<'a> {
    fn from(norms: &'a Vec<f64>) -> Self {
        GradNorms::PerStep(norms)
    }
}

impl GradNorms<'_> {
    fn parts(&self, steps: usize, function: &str) -> Result<(f64, *const f64)> {
        match *self {
            GradNorms::Constant(norm) => Ok((norm, null())),
            GradNorms::PerStep(norms) if norms.len() == steps => Ok((0.0, norms.as_ptr())),
            GradNorms::PerStep(norms) => Error::shape(format!(
                "{}: grad_norms has {} values for {} steps",
                function,
                norms.len(),
                steps
            )),
        }
    }
}

/// What a schedule guarantees for SGD on a convex loss, D = `distance` away from a minimiser:
/// D² / (2 S₁) + ½ Σ G_t² lr_t² / S_min(t+1, T), with S_t = lr_t + … + lr_T. The last rate
/// must be positive.
///
/// ```
/// let rates: Vec<f64> = (1..=100).map(|t| 0.1 * (1.0 - t as f64 / 101.0)).collect();
/// let bound = steepest::schedule_bound(&rates, 1.0, 1.0)?;
/// assert!(bound > 0.2001 && bound < 0.21);
/// # Ok::<(), steepest::Error>(())
/// ```
pub fn schedule_bound<'a>(
    lr: &[f64],
    distance: f64,
    grad_norms: impl Into<GradNorms<'a>>,
) -> Result<f64> {
    let (norm, norms) = grad_norms.into().parts(lr.len(), "schedule_bound")?;
    let mut bound = 0.0;
    check(unsafe {
        sys::steepest_schedule_bound(lr.as_ptr(), size(lr.len()), distance, norm, norms, &mut bound)
    })?;
    Ok(bound)
}

/// The schedule with the least bound, and that bound.
///
/// ```
/// let (rates, bound) = steepest::schedule_optimal(100, 1.0, 1.0)?;
/// assert!((bound - 0.20011).abs() < 1e-5 && rates.len() == 100);
/// # Ok::<(), steepest::Error>(())
/// ```
pub fn schedule_optimal<'a>(
    total_steps: usize,
    distance: f64,
    grad_norms: impl Into<GradNorms<'a>>,
) -> Result<(Vec<f64>, f64)> {
    let (norm, norms) = grad_norms.into().parts(total_steps, "schedule_optimal")?;
    let (mut lr, mut bound) = (zeros(total_steps)?, 0.0);
    check(unsafe {
        sys::steepest_schedule_optimal(
            size(total_steps),
            distance,
            norm,
            norms,
            lr.as_mut_ptr(),
            &mut bound,
        )
    })?;
    Ok((lr, bound))
}

/// A schedule for the next run from the gradient norms of one (arXiv 2310.07831). `smoothing`: of a
/// running median, 0.1 in the paper. `distance` 0: the largest rate is 1; for Sgd the absolute
/// scale.
///
/// ```
/// use steepest::{schedule_refine, RefineKind};
/// let rates = schedule_refine(&[2.0; 5], RefineKind::Adam, 0.1, 0.0)?;
/// assert_eq!(rates, [1.0, 0.75, 0.5, 0.25, 0.0]);
/// # Ok::<(), steepest::Error>(())
/// ```
pub fn schedule_refine(
    grad_norms: &[f64],
    kind: RefineKind,
    smoothing: f64,
    distance: f64,
) -> Result<Vec<f64>> {
    let mut lr = zeros(grad_norms.len())?;
    let (norms, steps) = (grad_norms.as_ptr(), size(grad_norms.len()));
    let target = lr.as_mut_ptr();
    check(unsafe {
        sys::steepest_schedule_refine(norms, steps, kind as i32, smoothing, distance, target)
    })?;
    Ok(lr)
}
