# SPDX-License-Identifier: Apache-2.0
# The structs are those of the library: what its _init functions write, for our size, is what our
# constructors make, byte for byte. Every default that is not zero is in its place, and the library
# knows the size.
function initial(address, ::Type{T}) where {T}
    value = Ref{T}()
    status = ccall(address[], Int32, (Ref{T}, Csize_t), value, sizeof(T))
    @test status == 0
    return value[]
end

bytes(x::T) where {T} = reinterpret(UInt8, [x])

config = Steepest.adamw_config(false, false; step = 1)
@test bytes(initial(Steepest.adamw_config_init_, Steepest.AdamWConfig)) == bytes(config)
tensor = initial(Steepest.adamw_tensor_init_, Steepest.AdamWTensor)
none = Float32[]
@test tensor.delta_dtype == 1 && tensor.struct_size == sizeof(Steepest.AdamWTensor)
@test tensor.exp_avg_sq_dtype == 1 && tensor.config == C_NULL
@test (tensor.residual_kind, tensor.param_copy_dtype, tensor.first_index) == (0, 3, 0)
@test bytes(initial(Steepest.step_stats_init_, StepStats)) == bytes(StepStats())
@test bytes(initial(Steepest.msign_stats_init_, MsignStats)) == bytes(MsignStats())
@test bytes(initial(Steepest.msign_config_init_, Steepest.MsignOptions)) ==
      bytes(MsignConfig().options)
@test bytes(initial(Steepest.schedule_init_, Schedule)) == bytes(Schedule())
vector = initial(Steepest.vector_init_, Steepest.VectorView)
@test bytes(vector) == bytes(Steepest.VectorView(sizeof(Steepest.VectorView), 0, C_NULL, 1, 0))
workspace = initial(Steepest.workspace_init_, Steepest.WorkspaceView)
@test bytes(workspace) == bytes(Steepest.WorkspaceView(24, C_NULL, 0))
options = initial(Steepest.context_options_init_, Steepest.ContextOptions)
@test options.struct_size == sizeof(Steepest.ContextOptions)
muon = initial(Steepest.muon_config_init_, Steepest.MuonConfig)
@test (muon.flags, muon.lr, muon.momentum, muon.weight_decay) == (1, 1e-3, 0.95, 1e-2)
@test (muon.scale_value, muon.grad_scale, muon.step) == (0.2, 1.0, 1)
@test muon.msign == C_NULL && muon.skipped == C_NULL
matrix = initial(Steepest.muon_tensor_init_, Steepest.MuonTensor)
@test (matrix.param_dtype, matrix.delta_dtype, matrix.block_axis) == (1, 1, 0)
@test (matrix.residual_kind, matrix.param_copy_dtype, matrix.first_index) == (0, 3, 0)

# Offsets as a C compiler for 64 bits lays them out.
@test fieldoffset(Steepest.AdamWTensor, 11) == 64
@test fieldoffset(Steepest.MuonTensor, 14) == 104
offset(type, name) = fieldoffset(type, findfirst(==(name), fieldnames(type)))
@test offset(Steepest.AdamWTensor, :residual) == 96
@test offset(Steepest.AdamWTensor, :param_copy_dtype) == 132
@test offset(Steepest.MuonTensor, :param_copy_ld) == 176
@test offset(Steepest.MuonTensor, :random_stream) == 192
@test (sizeof(Steepest.MuonTensor), sizeof(Steepest.MuonConfig)) == (208, 96)
@test (sizeof(Steepest.AdamWConfig), sizeof(Steepest.AdamWTensor)) == (88, 152)
@test (sizeof(Steepest.MsignOptions), sizeof(MsignStats), sizeof(StepStats)) == (96, 56, 72)
