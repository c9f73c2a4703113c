# SPDX-License-Identifier: Apache-2.0
# The structs of steepest.h, field by field. The name behind each is C's: by it a test compares the
# fields, and others sizes and initial values.

const Address = Ptr{Cvoid}

const FLAG_CONSISTENT = UInt64(1) << 32

bit(condition::Bool, position) = UInt64(condition) << position

struct ContextOptions # steepest_context_options
    struct_size::Csize_t
    flags::UInt64
    num_threads::Int32
    max_isa::Int32
    executor::Address
    allocator::Address
end

"""
    StepStats

What a step did to one array; gathered in the same pass. Give `stats = StepStats[]` to a step, which
fills it with one for each array. `update_rms` is that of the update before lr and decay: about 0.2
in healthy training. `snr_update` and `snr_momentum` estimate the gradient's signal-to-noise ratio
(https://kexue.fm/archives/11267); NaN at step 1. `nonfinite` counts gradient elements. `status`: 0,
or -5 where a gradient was not finite.
"""
struct StepStats # steepest_step_stats
    struct_size::Csize_t
    status::Int32
    reserved::Int32
    update_rms::Float64
    grad_rms::Float64
    momentum_rms::Float64
    param_rms::Float64
    snr_update::Float64
    snr_momentum::Float64
    nonfinite::Int64
end
StepStats() = StepStats(sizeof(StepStats), 0, 0, 0, 0, 0, 0, 0, 0, 0)

struct AdamWConfig # steepest_adamw_config
    struct_size::Csize_t
    flags::UInt64
    lr::Float64
    beta1::Float64
    beta2::Float64
    eps::Float64
    weight_decay::Float64
    grad_scale::Float64
    step::Int64
    seed::UInt64
    skipped::Ptr{Int32}
end

struct AdamWTensor # steepest_adamw_tensor
    struct_size::Csize_t
    count::Int64
    param::Address
    grad::Address
    exp_avg::Address
    exp_avg_sq::Address
    param_dtype::Int32
    grad_dtype::Int32
    exp_avg_dtype::Int32
    exp_avg_sq_dtype::Int32
    config::Address
    max_exp_avg_sq::Address
    delta::Address
    delta_dtype::Int32
    reserved::Int32
    residual::Address
    param_copy::Address
    exp_avg_scales::Address
    exp_avg_sq_scales::Address
    residual_kind::Int32
    param_copy_dtype::Int32
    random_stream::UInt64
    first_index::Int64
end

struct VectorView # steepest_vector
    struct_size::Csize_t
    count::Int64
    data::Address
    dtype::Int32
    reserved::Int32
end

struct WorkspaceView # steepest_workspace
    struct_size::Csize_t
    data::Address
    bytes::Csize_t
end

struct MsignOptions # steepest_msign_config
    struct_size::Csize_t
    flags::UInt64
    method::Int32
    steps::Int32
    coefficients::Int32
    normalization::Int32
    custom_coefficients::Ptr{Float64}
    lower_bound::Float64
    norm_bound::Float64
    rank_tolerance::Float64
    compute_dtype::Int32
    reserved::Int32
    custom_count::Int64
    restarts::Ptr{Int32}
    restart_count::Int64
end

"""
    MsignStats

What `msign` did: `method` (a number of steepest.h), `steps` or poles, `retries`, `rank` (by SVD;
-1: not known), the `norm` divided by, `lower_bound`, and `orthogonality` ‖O Oᵀ − I‖_F / √n.
"""
struct MsignStats # steepest_msign_stats
    struct_size::Csize_t
    status::Int32
    method::Int32
    steps::Int32
    retries::Int32
    rank::Int64
    norm::Float64
    lower_bound::Float64
    orthogonality::Float64
end
MsignStats() = MsignStats(sizeof(MsignStats), 0, 0, 0, 0, -1, 0, 0, 0)

struct MuonConfig # steepest_muon_config
    struct_size::Csize_t
    flags::UInt64
    lr::Float64
    momentum::Float64
    weight_decay::Float64
    scale_value::Float64
    grad_scale::Float64
    step::Int64
    seed::UInt64
    momentum_kind::Int32
    scale_mode::Int32
    msign::Ptr{MsignOptions}
    skipped::Ptr{Int32}
end

struct MuonTensor # steepest_muon_tensor
    struct_size::Csize_t
    rows::Int64
    cols::Int64
    param_ld::Int64
    grad_ld::Int64
    momentum_ld::Int64
    delta_ld::Int64
    fan_out::Int64
    fan_in::Int64
    param::Address
    grad::Address
    momentum::Address
    delta::Address
    param_dtype::Int32
    grad_dtype::Int32
    momentum_dtype::Int32
    delta_dtype::Int32
    blocks::Ptr{Int64}
    block_count::Int64
    block_axis::Int32
    reserved::Int32
    config::Address
    residual::Address
    param_copy::Address
    momentum_scales::Address
    param_copy_ld::Int64
    residual_kind::Int32
    param_copy_dtype::Int32
    random_stream::UInt64
    first_index::Int64
end
