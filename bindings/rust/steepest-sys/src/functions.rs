// SPDX-License-Identifier: Apache-2.0
//! The functions of steepest.h. What they do, and what callers owe them, is written there.

use std::os::raw::{c_char, c_void};

use crate::structs::*;
use crate::{steepest_adamw_plan, steepest_context, steepest_dtype, steepest_isa, steepest_status};

extern "C" {
    pub fn steepest_version() -> u32;
    pub fn steepest_abi_version() -> u32;
    pub fn steepest_build_info() -> *const c_char;
    pub fn steepest_status_name(status: steepest_status) -> *const c_char;
    pub fn steepest_last_error() -> *const c_char;
    pub fn steepest_executor_init(executor: *mut c_void, struct_size: usize) -> steepest_status;
    pub fn steepest_allocator_init(allocator: *mut c_void, struct_size: usize) -> steepest_status;
    pub fn steepest_context_options_init(
        options: *mut c_void,
        struct_size: usize,
    ) -> steepest_status;
    pub fn steepest_context_create(
        options: *const steepest_context_options,
        out: *mut *mut steepest_context,
    ) -> steepest_status;
    pub fn steepest_context_destroy(context: *mut steepest_context);
    pub fn steepest_context_trim(context: *mut steepest_context) -> steepest_status;
    pub fn steepest_context_isa(context: *const steepest_context) -> steepest_isa;
    pub fn steepest_context_threads(context: *const steepest_context) -> i32;
    pub fn steepest_isa_name(isa: steepest_isa) -> *const c_char;
    pub fn steepest_step_stats_init(stats: *mut c_void, struct_size: usize) -> steepest_status;
    pub fn steepest_adamw_config_init(config: *mut c_void, struct_size: usize) -> steepest_status;
    pub fn steepest_adamw_tensor_init(tensor: *mut c_void, struct_size: usize) -> steepest_status;
    pub fn steepest_adamw_begin(
        context: *mut steepest_context,
        config: *const steepest_adamw_config,
        tensors: *const steepest_adamw_tensor,
        count: i64,
        plan: *mut *mut steepest_adamw_plan,
    ) -> steepest_status;
    pub fn steepest_adamw_chunk(
        plan: *mut steepest_adamw_plan,
        tensor: i64,
        first: i64,
        count: i64,
    ) -> steepest_status;
    pub fn steepest_adamw_end(
        plan: *mut steepest_adamw_plan,
        stats: *mut steepest_step_stats,
    ) -> steepest_status;
    pub fn steepest_adamw_step(
        context: *mut steepest_context,
        config: *const steepest_adamw_config,
        tensors: *const steepest_adamw_tensor,
        count: i64,
        stats: *mut steepest_step_stats,
    ) -> steepest_status;
    pub fn steepest_q8_scales(
        dtype: steepest_dtype,
        count: i64,
        scales: *mut i64,
        scale_bytes: *mut i64,
    ) -> steepest_status;
    pub fn steepest_q8_encode(
        context: *mut steepest_context,
        dtype: steepest_dtype,
        is_signed: i32,
        count: i64,
        values: *const f32,
        codes: *mut u8,
        scales: *mut c_void,
    ) -> steepest_status;
    pub fn steepest_q8_decode(
        context: *mut steepest_context,
        dtype: steepest_dtype,
        is_signed: i32,
        count: i64,
        codes: *const u8,
        scales: *const c_void,
        values: *mut f32,
    ) -> steepest_status;
    pub fn steepest_vector_init(vector: *mut c_void, struct_size: usize) -> steepest_status;
    pub fn steepest_grad_norm(
        context: *mut steepest_context,
        vectors: *const steepest_vector,
        count: i64,
        norm: *mut f64,
        nonfinite: *mut i64,
    ) -> steepest_status;
    pub fn steepest_workspace_init(workspace: *mut c_void, struct_size: usize) -> steepest_status;
    pub fn steepest_msign_config_init(config: *mut c_void, struct_size: usize) -> steepest_status;
    pub fn steepest_msign_stats_init(stats: *mut c_void, struct_size: usize) -> steepest_status;
    pub fn steepest_msign(
        context: *mut steepest_context,
        config: *const steepest_msign_config,
        rows: i64,
        cols: i64,
        dtype: steepest_dtype,
        x: *const c_void,
        ldx: i64,
        out: *mut c_void,
        ldo: i64,
        workspace: *const steepest_workspace,
        stats: *mut steepest_msign_stats,
    ) -> steepest_status;
    pub fn steepest_msign_batched(
        context: *mut steepest_context,
        config: *const steepest_msign_config,
        rows: i64,
        cols: i64,
        dtype: steepest_dtype,
        x: *const *const c_void,
        ldx: i64,
        out: *const *mut c_void,
        ldo: i64,
        count: i64,
        workspace: *const steepest_workspace,
        stats: *mut steepest_msign_stats,
    ) -> steepest_status;
    pub fn steepest_msign_workspace_size(
        context: *mut steepest_context,
        config: *const steepest_msign_config,
        rows: i64,
        cols: i64,
        dtype: steepest_dtype,
        count: i64,
        bytes: *mut usize,
    ) -> steepest_status;
    pub fn steepest_msign_band(
        config: *const steepest_msign_config,
        lower_bound: f64,
        low: *mut f64,
        high: *mut f64,
    ) -> steepest_status;
    pub fn steepest_msign_coefficients(
        lower_bound: f64,
        steps: i64,
        rows: *mut f64,
    ) -> steepest_status;
    pub fn steepest_muon_config_init(config: *mut c_void, struct_size: usize) -> steepest_status;
    pub fn steepest_muon_tensor_init(tensor: *mut c_void, struct_size: usize) -> steepest_status;
    pub fn steepest_muon_step(
        context: *mut steepest_context,
        config: *const steepest_muon_config,
        tensors: *const steepest_muon_tensor,
        count: i64,
        workspace: *const steepest_workspace,
        stats: *mut steepest_step_stats,
    ) -> steepest_status;
    pub fn steepest_muon_workspace_size(
        context: *mut steepest_context,
        config: *const steepest_muon_config,
        tensors: *const steepest_muon_tensor,
        count: i64,
        bytes: *mut usize,
    ) -> steepest_status;
    pub fn steepest_scale_factor(
        mode: i32,
        value: f64,
        fan_out: i64,
        fan_in: i64,
        out: *mut f64,
    ) -> steepest_status;
    pub fn steepest_adam_update_rms(
        beta1: f64,
        snr: f64,
        step: i64,
        rms: *mut f64,
    ) -> steepest_status;
    pub fn steepest_adam_update_rms_second_order(
        beta1: f64,
        beta2: f64,
        snr: f64,
        kurtosis: f64,
        step: i64,
        rms: *mut f64,
    ) -> steepest_status;
    pub fn steepest_snr_from_update_rms(
        update_rms: f64,
        beta1: f64,
        step: i64,
        snr: *mut f64,
    ) -> steepest_status;
    pub fn steepest_snr_from_momentum(
        momentum_rms: f64,
        grad_rms: f64,
        beta: f64,
        step: i64,
        snr: *mut f64,
    ) -> steepest_status;
    pub fn steepest_rms(
        context: *mut steepest_context,
        vectors: *const steepest_vector,
        count: i64,
        rms: *mut f64,
        nonfinite: *mut i64,
    ) -> steepest_status;
    pub fn steepest_singular_values(
        context: *mut steepest_context,
        rows: i64,
        cols: i64,
        dtype: steepest_dtype,
        x: *const c_void,
        ldx: i64,
        values: *mut f64,
    ) -> steepest_status;
    pub fn steepest_spectral_norm(
        context: *mut steepest_context,
        rows: i64,
        cols: i64,
        dtype: steepest_dtype,
        x: *const c_void,
        ldx: i64,
        norm: *mut f64,
    ) -> steepest_status;
    pub fn steepest_spectral_norm_bounds(
        context: *mut steepest_context,
        rows: i64,
        cols: i64,
        dtype: steepest_dtype,
        x: *const c_void,
        ldx: i64,
        tolerance: f64,
        lower: *mut f64,
        upper: *mut f64,
    ) -> steepest_status;
    pub fn steepest_singular_entropy(
        values: *const f64,
        count: i64,
        entropy: *mut f64,
    ) -> steepest_status;
    pub fn steepest_schedule_init(schedule: *mut c_void, struct_size: usize) -> steepest_status;
    pub fn steepest_schedule_fill(
        schedule: *const steepest_schedule,
        total_steps: i64,
        lr: *mut f64,
    ) -> steepest_status;
    pub fn steepest_schedule_at(
        schedule: *const steepest_schedule,
        total_steps: i64,
        step: i64,
        lr: *mut f64,
    ) -> steepest_status;
    pub fn steepest_schedule_bound(
        lr: *const f64,
        total_steps: i64,
        distance: f64,
        grad_norm: f64,
        grad_norms: *const f64,
        bound: *mut f64,
    ) -> steepest_status;
    pub fn steepest_schedule_optimal(
        total_steps: i64,
        distance: f64,
        grad_norm: f64,
        grad_norms: *const f64,
        lr: *mut f64,
        bound: *mut f64,
    ) -> steepest_status;
    pub fn steepest_schedule_refine(
        grad_norms: *const f64,
        total_steps: i64,
        kind: i32,
        smoothing: f64,
        distance: f64,
        lr: *mut f64,
    ) -> steepest_status;
}
