// SPDX-License-Identifier: Apache-2.0
//! The structs of steepest.h and the values of its INIT macros.

use std::mem::size_of;
use std::os::raw::c_void;
use std::ptr::{null, null_mut};

use crate::constants::*;
use crate::{steepest_dtype, steepest_isa, steepest_status};

/// The body of a parallel loop, as an executor gets it.
pub type steepest_task = Option<unsafe extern "C" fn(arg: *mut c_void, task: i64, worker: i32)>;

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct steepest_executor {
    pub struct_size: usize,
    pub user: *mut c_void,
    pub concurrency: Option<unsafe extern "C" fn(user: *mut c_void) -> i32>,
    pub parallel_for: Option<
        unsafe extern "C" fn(
            user: *mut c_void,
            tasks: i64,
            body: steepest_task,
            arg: *mut c_void,
        ) -> steepest_status,
    >,
}

pub const STEEPEST_EXECUTOR_INIT: steepest_executor = steepest_executor {
    struct_size: size_of::<steepest_executor>(),
    user: null_mut(),
    concurrency: None,
    parallel_for: None,
};

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct steepest_allocator {
    pub struct_size: usize,
    pub user: *mut c_void,
    pub allocate: Option<
        unsafe extern "C" fn(user: *mut c_void, alignment: usize, bytes: usize) -> *mut c_void,
    >,
    pub release:
        Option<unsafe extern "C" fn(user: *mut c_void, pointer: *mut c_void, bytes: usize)>,
}

pub const STEEPEST_ALLOCATOR_INIT: steepest_allocator = steepest_allocator {
    struct_size: size_of::<steepest_allocator>(),
    user: null_mut(),
    allocate: None,
    release: None,
};

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct steepest_context_options {
    pub struct_size: usize,
    pub flags: u64,
    pub num_threads: i32,
    pub max_isa: steepest_isa,
    pub executor: *const steepest_executor,
    pub allocator: *const steepest_allocator,
}

pub const STEEPEST_CONTEXT_OPTIONS_INIT: steepest_context_options = steepest_context_options {
    struct_size: size_of::<steepest_context_options>(),
    flags: 0,
    num_threads: 0,
    max_isa: STEEPEST_ISA_AUTO,
    executor: null(),
    allocator: null(),
};

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct steepest_step_stats {
    pub struct_size: usize,
    pub status: steepest_status,
    pub reserved: i32,
    pub update_rms: f64,
    pub grad_rms: f64,
    pub momentum_rms: f64,
    pub param_rms: f64,
    pub snr_update: f64,
    pub snr_momentum: f64,
    pub nonfinite: i64,
}

pub const STEEPEST_STEP_STATS_INIT: steepest_step_stats = steepest_step_stats {
    struct_size: size_of::<steepest_step_stats>(),
    status: STEEPEST_OK,
    reserved: 0,
    update_rms: 0.0,
    grad_rms: 0.0,
    momentum_rms: 0.0,
    param_rms: 0.0,
    snr_update: 0.0,
    snr_momentum: 0.0,
    nonfinite: 0,
};

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct steepest_adamw_config {
    pub struct_size: usize,
    pub flags: u64,
    pub lr: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub eps: f64,
    pub weight_decay: f64,
    pub grad_scale: f64,
    pub step: i64,
    pub seed: u64,
    pub skipped: *mut i32,
}

pub const STEEPEST_ADAMW_CONFIG_INIT: steepest_adamw_config = steepest_adamw_config {
    struct_size: size_of::<steepest_adamw_config>(),
    flags: 0,
    lr: 1e-3,
    beta1: 0.9,
    beta2: 0.999,
    eps: 1e-8,
    weight_decay: 1e-2,
    grad_scale: 1.0,
    step: 1,
    seed: 0,
    skipped: null_mut(),
};

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct steepest_adamw_tensor {
    pub struct_size: usize,
    pub count: i64,
    pub param: *mut c_void,
    pub grad: *const c_void,
    pub exp_avg: *mut c_void,
    pub exp_avg_sq: *mut c_void,
    pub param_dtype: steepest_dtype,
    pub grad_dtype: steepest_dtype,
    pub exp_avg_dtype: steepest_dtype,
    pub exp_avg_sq_dtype: steepest_dtype,
    pub config: *const steepest_adamw_config,
    pub max_exp_avg_sq: *mut c_void,
    pub delta: *mut c_void,
    pub delta_dtype: steepest_dtype,
    pub reserved: i32,
    pub residual: *mut c_void,
    pub param_copy: *mut c_void,
    pub exp_avg_scales: *mut c_void,
    pub exp_avg_sq_scales: *mut c_void,
    pub residual_kind: i32,
    pub param_copy_dtype: steepest_dtype,
    pub random_stream: u64,
    pub first_index: i64,
}

pub const STEEPEST_ADAMW_TENSOR_INIT: steepest_adamw_tensor = steepest_adamw_tensor {
    struct_size: size_of::<steepest_adamw_tensor>(),
    count: 0,
    param: null_mut(),
    grad: null(),
    exp_avg: null_mut(),
    exp_avg_sq: null_mut(),
    param_dtype: STEEPEST_F32,
    grad_dtype: STEEPEST_F32,
    exp_avg_dtype: STEEPEST_F32,
    exp_avg_sq_dtype: STEEPEST_F32,
    config: null(),
    max_exp_avg_sq: null_mut(),
    delta: null_mut(),
    delta_dtype: STEEPEST_F32,
    reserved: 0,
    residual: null_mut(),
    param_copy: null_mut(),
    exp_avg_scales: null_mut(),
    exp_avg_sq_scales: null_mut(),
    residual_kind: STEEPEST_RESIDUAL_NONE,
    param_copy_dtype: STEEPEST_BF16,
    random_stream: 0,
    first_index: 0,
};

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct steepest_vector {
    pub struct_size: usize,
    pub count: i64,
    pub data: *const c_void,
    pub dtype: steepest_dtype,
    pub reserved: i32,
}

pub const STEEPEST_VECTOR_INIT: steepest_vector = steepest_vector {
    struct_size: size_of::<steepest_vector>(),
    count: 0,
    data: null(),
    dtype: STEEPEST_F32,
    reserved: 0,
};

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct steepest_workspace {
    pub struct_size: usize,
    pub data: *mut c_void,
    pub bytes: usize,
}

pub const STEEPEST_WORKSPACE_INIT: steepest_workspace =
    steepest_workspace { struct_size: size_of::<steepest_workspace>(), data: null_mut(), bytes: 0 };

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct steepest_msign_config {
    pub struct_size: usize,
    pub flags: u64,
    pub method: i32,
    pub steps: i32,
    pub coefficients: i32,
    pub normalization: i32,
    pub custom_coefficients: *const f64,
    pub lower_bound: f64,
    pub norm_bound: f64,
    pub rank_tolerance: f64,
    pub compute_dtype: steepest_dtype,
    pub reserved: i32,
    pub custom_count: i64,
    pub restarts: *const i32,
    pub restart_count: i64,
}

pub const STEEPEST_MSIGN_CONFIG_INIT: steepest_msign_config = steepest_msign_config {
    struct_size: size_of::<steepest_msign_config>(),
    flags: 0,
    method: STEEPEST_MSIGN_AUTO,
    steps: 0,
    coefficients: STEEPEST_COEF_POLAR_EXPRESS,
    normalization: STEEPEST_NORM_AUTO,
    custom_coefficients: null(),
    lower_bound: 0.0,
    norm_bound: 0.0,
    rank_tolerance: 0.0,
    compute_dtype: 0,
    reserved: 0,
    custom_count: 0,
    restarts: null(),
    restart_count: 0,
};

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct steepest_msign_stats {
    pub struct_size: usize,
    pub status: steepest_status,
    pub method: i32,
    pub steps: i32,
    pub retries: i32,
    pub rank: i64,
    pub norm: f64,
    pub lower_bound: f64,
    pub orthogonality: f64,
}

pub const STEEPEST_MSIGN_STATS_INIT: steepest_msign_stats = steepest_msign_stats {
    struct_size: size_of::<steepest_msign_stats>(),
    status: STEEPEST_OK,
    method: 0,
    steps: 0,
    retries: 0,
    rank: -1,
    norm: 0.0,
    lower_bound: 0.0,
    orthogonality: 0.0,
};

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct steepest_muon_config {
    pub struct_size: usize,
    pub flags: u64,
    pub lr: f64,
    pub momentum: f64,
    pub weight_decay: f64,
    pub scale_value: f64,
    pub grad_scale: f64,
    pub step: i64,
    pub seed: u64,
    pub momentum_kind: i32,
    pub scale_mode: i32,
    pub msign: *const steepest_msign_config,
    pub skipped: *mut i32,
}

pub const STEEPEST_MUON_CONFIG_INIT: steepest_muon_config = steepest_muon_config {
    struct_size: size_of::<steepest_muon_config>(),
    flags: STEEPEST_MUON_NESTEROV,
    lr: 1e-3,
    momentum: 0.95,
    weight_decay: 1e-2,
    scale_value: 0.2,
    grad_scale: 1.0,
    step: 1,
    seed: 0,
    momentum_kind: STEEPEST_MOMENTUM_EMA,
    scale_mode: STEEPEST_SCALE_MATCH_RMS,
    msign: null(),
    skipped: null_mut(),
};

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct steepest_muon_tensor {
    pub struct_size: usize,
    pub rows: i64,
    pub cols: i64,
    pub param_ld: i64,
    pub grad_ld: i64,
    pub momentum_ld: i64,
    pub delta_ld: i64,
    pub fan_out: i64,
    pub fan_in: i64,
    pub param: *mut c_void,
    pub grad: *const c_void,
    pub momentum: *mut c_void,
    pub delta: *mut c_void,
    pub param_dtype: steepest_dtype,
    pub grad_dtype: steepest_dtype,
    pub momentum_dtype: steepest_dtype,
    pub delta_dtype: steepest_dtype,
    pub blocks: *const i64,
    pub block_count: i64,
    pub block_axis: i32,
    pub reserved: i32,
    pub config: *const steepest_muon_config,
    pub residual: *mut c_void,
    pub param_copy: *mut c_void,
    pub momentum_scales: *mut c_void,
    pub param_copy_ld: i64,
    pub residual_kind: i32,
    pub param_copy_dtype: steepest_dtype,
    pub random_stream: u64,
    pub first_index: i64,
}

pub const STEEPEST_MUON_TENSOR_INIT: steepest_muon_tensor = steepest_muon_tensor {
    struct_size: size_of::<steepest_muon_tensor>(),
    rows: 0,
    cols: 0,
    param_ld: 0,
    grad_ld: 0,
    momentum_ld: 0,
    delta_ld: 0,
    fan_out: 0,
    fan_in: 0,
    param: null_mut(),
    grad: null(),
    momentum: null_mut(),
    delta: null_mut(),
    param_dtype: STEEPEST_F32,
    grad_dtype: STEEPEST_F32,
    momentum_dtype: STEEPEST_F32,
    delta_dtype: STEEPEST_F32,
    blocks: null(),
    block_count: 0,
    block_axis: 0,
    reserved: 0,
    config: null(),
    residual: null_mut(),
    param_copy: null_mut(),
    momentum_scales: null_mut(),
    param_copy_ld: 0,
    residual_kind: STEEPEST_RESIDUAL_NONE,
    param_copy_dtype: STEEPEST_BF16,
    random_stream: 0,
    first_index: 0,
};

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct steepest_schedule {
    pub struct_size: usize,
    pub kind: i32,
    pub decay_shape: i32,
    pub lr: f64,
    pub final_ratio: f64,
    pub warmup_steps: i64,
    pub decay_steps: i64,
}

pub const STEEPEST_SCHEDULE_INIT: steepest_schedule = steepest_schedule {
    struct_size: size_of::<steepest_schedule>(),
    kind: STEEPEST_SCHEDULE_LINEAR,
    decay_shape: STEEPEST_DECAY_LINEAR,
    lr: 1e-3,
    final_ratio: 0.0,
    warmup_steps: 0,
    decay_steps: 0,
};
