// SPDX-License-Identifier: Apache-2.0
use steepest_sys as sys;

use crate::ErrorKind;

/// Whether a step was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Done,
    /// A gradient was not finite, and `skip_nonfinite` was on: nothing was updated.
    Skipped,
}

impl Outcome {
    pub(crate) fn new(skipped: i32) -> Outcome {
        if skipped != 0 {
            Outcome::Skipped
        } else {
            Outcome::Done
        }
    }
}

/// What one step did to one tensor. RMS(x) is sqrt(mean(x²)).
#[repr(transparent)]
#[derive(Clone, Copy, Debug)]
pub struct StepStats(pub(crate) sys::steepest_step_stats);

impl Default for StepStats {
    fn default() -> Self {
        StepStats(sys::STEEPEST_STEP_STATS_INIT)
    }
}

impl StepStats {
    /// None: all is well. Nonfinite, NotConverged: this tensor was left as it was.
    pub fn status(&self) -> Option<ErrorKind> {
        ErrorKind::from_status(self.0.status)
    }

    /// RMS of the update, without lr and decay: about 0.2 in healthy training with Adam.
    pub fn update_rms(&self) -> f64 {
        self.0.update_rms
    }

    /// RMS of the gradient that enters the moments.
    pub fn grad_rms(&self) -> f64 {
        self.0.grad_rms
    }

    /// RMS of the momentum after bias correction.
    pub fn momentum_rms(&self) -> f64 {
        self.0.momentum_rms
    }

    /// RMS of the parameters before the step.
    pub fn param_rms(&self) -> f64 {
        self.0.param_rms
    }

    /// The gradient's signal-to-noise ratio, from the update's RMS; NaN for Muon and at step 1.
    pub fn snr_update(&self) -> f64 {
        self.0.snr_update
    }

    /// The same from the momentum's RMS: unbiased in expectation.
    pub fn snr_momentum(&self) -> f64 {
        self.0.snr_momentum
    }

    /// Elements of the gradient that are NaN or infinite.
    pub fn nonfinite(&self) -> usize {
        usize::try_from(self.0.nonfinite).unwrap_or(0)
    }
}

/// A pointer for the library: null, or one struct per tensor.
pub(crate) fn stats_pointer(
    stats: Option<&mut [StepStats]>,
    tensors: usize,
    function: &str,
) -> crate::Result<*mut sys::steepest_step_stats> {
    match stats {
        None => Ok(std::ptr::null_mut()),
        Some(stats) if stats.len() == tensors => {
            for one in stats.iter_mut() {
                *one = StepStats::default();
            }
            Ok(stats.as_mut_ptr().cast())
        }
        Some(stats) => crate::Error::shape(format!(
            "{}: stats has {} elements for {} tensors",
            function,
            stats.len(),
            tensors
        )),
    }
}
