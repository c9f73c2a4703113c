# SPDX-License-Identifier: Apache-2.0

# The largest difference, relative to the largest entry of the second.
function difference(a, b)
    a, b = Float64.(a), Float64.(b)
    return maximum(abs.(a .- b)) / max(maximum(abs.(b)), 1e-300)
end

# msign in Float64 by LinearAlgebra.
exact_msign(x) = (f = svd(Float64.(x)); f.U * f.Vt)

# One element's AdamW step in Float64.
function adamw_formula(p, g, m, v; step, lr = 1e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8,
    weight_decay = 1e-2)
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g^2
    u = m / (1 - beta1^step) / (sqrt(v / (1 - beta2^step)) + eps)
    return p - lr * (u + weight_decay * p), m, v
end

function adamw_formula(p::AbstractArray, g, m, v; options...)
    results = adamw_formula.(Float64.(p), Float64.(g), Float64.(m), Float64.(v); options...)
    return first.(results), getindex.(results, 2), last.(results)
end

# The text of the error that `call` throws.
function error_text(call, type)
    try
        call()
    catch error
        error isa type || rethrow()
        return sprint(showerror, error)
    end
    return "no error"
end

# Skips that are seen: they are counted as broken, with the reason printed.
function skip(reason)
    @info "skipped: $reason"
    @test_skip false
end
