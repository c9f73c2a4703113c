# SPDX-License-Identifier: Apache-2.0
# What a call from Julia costs more than the same call from C:
#   julia --project=bindings/julia/Steepest.jl bench/ffi/julia.jl LIBRARY
# Both loops run in this process, in turn, on the same arrays; the table shows the median over
# rounds of the differences between neighbours, with their quartiles.
const ROOT = joinpath(@__DIR__, "..", "..")
ENV["STEEPEST_LIBRARY"] =
    realpath(isempty(ARGS) ? joinpath(ROOT, "build/release/libsteepest.so.1") : ARGS[1])
using Steepest
include(joinpath(ROOT, "bindings/julia/Steepest.jl/test/c_calls.jl"))

const C = CCalls.functions()
const F32 = fill(Steepest.dtype(Float32), 4)

function c_adamw(calls, p, g, m, v)
    failures = ccall(C.c_adamw, Int64,
        (Int64, Int64, Float64, Int64, Ptr{Int32}, Ptr{Float32}, Ptr{Float32}, Ptr{Float32},
            Ptr{Float32}, Ptr{StepStats}),
        1, calls, 1e-6, length(p), F32, p, g, m, v, C_NULL)
    failures == 0 || error("c_adamw failed")
end

function julia_adamw(calls, p, g, m, v)
    for i in 1:calls
        adamw!(p, g, m, v; step = i, lr = 1e-6)
    end
end

function c_norm(calls, p, g, m, v)
    failures = ccall(C.c_grad_norm, Int64, (Int64, Int64, Ptr{Float32}), calls, length(g), g)
    failures == 0 || error("c_grad_norm failed")
end

function julia_norm(calls, p, g, m, v)
    for _ in 1:calls
        grad_norm(g)
    end
end

quantile(sorted, q) = sorted[1+round(Int, q * (length(sorted) - 1))]

function compare(name, c, julia, count; rounds = 41, calls = 20_000)
    arrays = (ones(Float32, count), ones(Float32, count), zeros(Float32, count),
        zeros(Float32, count))
    nanoseconds(f) = 1e9 * (@elapsed f(calls, arrays...)) / calls
    c(100, arrays...), julia(100, arrays...)
    pairs = [isodd(i) ? (nanoseconds(c), nanoseconds(julia)) :
             reverse((nanoseconds(julia), nanoseconds(c))) for i in 1:rounds]
    over = sort([last(pair) - first(pair) for pair in pairs])
    allocated = @allocated julia(100, arrays...)
    row = (quantile(sort(first.(pairs)), 0.5), quantile(over, 0.5), quantile(over, 0.25),
        quantile(over, 0.75))
    println("| ", join((name, count, round.(row; digits = 1)..., allocated / 100), " | "), " |")
end

println(Steepest.build_info(), "; level ", Steepest.level(), "; Julia ", VERSION)
cpu = match(r"model name\s*:\s*(.*)", read("/proc/cpuinfo", String))
println(cpu === nothing ? "" : cpu[1], "; load ", split(read("/proc/loadavg", String))[1], "\n")
println("| call | elements | ns in C | ns more in Julia | quartile | quartile | allocated |")
println("|---|---|---|---|---|---|---|")
for count in (1, 64, 1024)
    compare("adamw!", c_adamw, julia_adamw, count)
end
compare("grad_norm", c_norm, julia_norm, 64)
