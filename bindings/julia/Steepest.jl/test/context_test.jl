# SPDX-License-Identifier: Apache-2.0
@test Steepest.threads(Context(threads = 1)) == 1
@test Steepest.level(Context(max_isa = :generic)) === :generic
@test occursin("max_isa is :none", error_text(() -> Context(max_isa = :none), ArgumentError))
@test occursin("num_threads", error_text(() -> Context(threads = -1), SteepestError))
@test Steepest.trim() === nothing

x = randn(30, 50)
plain = msign(x; context = Context(threads = 1))
@test difference(msign(x; context = Context(openblas = true)), plain) < 1e-10

# One context, or one each, from several Julia threads at once; serially where there is one.
shared, results = Context(), Vector{Matrix{Float64}}(undef, 8)
Threads.@threads for i in 1:8
    results[i] = msign(x; context = isodd(i) ? shared : Context(threads = 1))
end
@test all(==(plain), results)

# Threads and memory of C's own.
if CCalls.missing_part() !== nothing
    skip("executor and allocator in C: $(CCalls.missing_part())")
else
    c = CCalls.functions()
    context = Context(executor = ccall(c.c_executor, Ptr{Cvoid}, ()),
        allocator = ccall(c.c_allocator, Ptr{Cvoid}, ()))
    @test Steepest.threads(context) == 3
    ours = (ones(Float32, 1 << 20), ones(Float32, 1 << 20), zeros(Float32, 1 << 20),
        zeros(Float32, 1 << 20))
    theirs = copy.(ours)
    adamw!(ours...; step = 1, context = context)
    adamw!(theirs...; step = 1)
    @test ours == theirs
    @test msign(x; context = context) == plain
    @test ccall(c.c_runs, Int64, ()) > 0 && ccall(c.c_allocations, Int64, ()) > 0
    text = error_text(SteepestError) do
        Context(threads = 2, executor = ccall(c.c_executor, Ptr{Cvoid}, ()))
    end
    @test occursin("num_threads", text)
end
