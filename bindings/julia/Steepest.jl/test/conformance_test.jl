# SPDX-License-Identifier: Apache-2.0
# The vectors of tests/conformance in the repository, or in the folder STEEPEST_CONFORMANCE; the
# README there has the format. Its row-major matrices are Julia's with the same (i, j)
# column-major.
const VECTORS = get(ENV, "STEEPEST_CONFORMANCE",
    joinpath(@__DIR__, "..", "..", "..", "..", "tests", "conformance"))
const TYPES = Dict("F32" => Float32, "F64" => Float64, "BF16" => BF16, "F16" => Float16,
    "U8" => UInt8, "I8" => Int8, "U16" => UInt16, "I16" => Int16)

number(x) = x isa String ? Dict("nan" => NaN, "inf" => Inf, "-inf" => -Inf)[x] : Float64(x)
element(::Type{T}, x) where {T<:Union{Float32,Float64}} = T(number(x))
element(::Type{T}, x) where {T<:Integer} = T(x)
element(::Type{T}, x) where {T} = reinterpret(T, UInt16(x))

# Blocks of 8-bit state are of consecutive elements: the matrix lies as it does in C, transposed.
as_in_c(arguments) = haskey(arguments, "momentum_dtype")

# (the array, what it is a part of): sevens in the gaps.
function make_array(given, arguments)
    T = TYPES[given["dtype"]]
    values = haskey(given, "values") ? element.(T, given["values"]) : nothing
    if haskey(arguments, "rows") && !haskey(given, "count")
        rows, cols = arguments["rows"], arguments["cols"]
        if as_in_c(arguments)
            whole = values === nothing ? fill(T(7), cols, rows) : reshape(values, cols, rows)
            return whole, whole
        end
        whole = fill(T(7), rows + get(given, "ld", cols) - cols, cols)
        values === nothing || (whole[1:rows, :] = permutedims(reshape(values, cols, rows)))
        return view(whole, 1:rows, :), whole
    end
    count = get(given, "count", get(arguments, "count", 0))
    values = values === nothing ? fill(T(7), count) : Vector{T}(values)
    return values, values
end

gaps_untouched(array, whole) = ndims(array) < 2 || all(==(7), whole[size(array, 1)+1:end, :])

symbol(name) = Symbol(lowercase(name))
const RENAMED = Dict("momentum" => :mu, "block_axis" => :dims, "compute_dtype" => :compute)
const CONSTANTS = ("kind", "decay_shape", "scale_mode", "momentum_kind", "mode", "method",
    "coefficients", "normalization")

function option(name, value)
    key = get(RENAMED, name, Symbol(name))
    name in CONSTANTS && return key => symbol(value)
    name == "block_axis" && return key => value + 1
    name == "compute_dtype" && return key => TYPES[value]
    name == "msign" && return key => MsignConfig(; options(value)...)
    name == "blocks" && return key => Vector{Int}(value)
    value isa Vector && return key => number.(value)
    return key => value
end

function options(arguments, without...)
    pairs = Pair{Symbol,Any}[]
    for (name, value) in arguments
        name in without || name == "flags" || push!(pairs, option(name, value))
    end
    for flag in get(arguments, "flags", [])
        flag in ("AMSGRAD", "EMIT_DELTA", "NESTEROV") || push!(pairs, symbol(flag) => true)
    end
    return pairs
end

# The kinds of residuals and codes follow from the types of the arrays.
const OF_ARRAYS = ("rows", "cols", "count", "residual_kind", "exp_avg_dtype", "exp_avg_sq_dtype",
    "momentum_dtype", "random_stream", "first_index")

master(arrays, arguments) = Master(arrays["param"]; residual = get(arrays, "residual", nothing),
    copy = get(arrays, "param_copy", nothing), stream = get(arguments, "random_stream", 0),
    first_index = get(arguments, "first_index", 0))
bytes(x) = eltype(x) === Int8 ? reinterpret(UInt8, x) : x
state(arrays, name) = haskey(arrays, "$(name)_scales") ?
                      Q8State(bytes(arrays[name]), arrays["$(name)_scales"]) : arrays[name]

function run_case(::Val{:adamw_step}, case, arrays)
    stats = StepStats[]
    extra = [Symbol(n) => arrays[n] for n in ("max_exp_avg_sq", "delta") if haskey(arrays, n)]
    given = options(case["arguments"], OF_ARRAYS...)
    any(p -> first(p) === :step, given) || push!(given, :step => 1)
    narrow = any(haskey(arrays, n) for n in ("residual", "param_copy")) ||
             haskey(case["arguments"], "random_stream")
    param = narrow ? master(arrays, case["arguments"]) : arrays["param"]
    made = adamw!(param, arrays["grad"], state(arrays, "exp_avg"), state(arrays, "exp_avg_sq");
        stats = stats, given..., extra...)
    return steps(stats[1], made)
end

function run_case(::Val{:muon_step}, case, arrays)
    stats = StepStats[]
    extra = [:delta => arrays["delta"] for _ in 1:1 if haskey(arrays, "delta")]
    arguments = case["arguments"]
    nesterov = "NESTEROV" in get(arguments, "flags", ["NESTEROV"])
    if as_views(arguments)
        pieces(x) = blocks_of(x, arguments["blocks"], get(arguments, "block_axis", 0) + 1)
        given = filter(p -> !(first(p) in (:blocks, :dims)), options(arguments, "rows", "cols"))
        muon!(MuonList((pieces(arrays[n]) for n in ("param", "grad", "momentum"))...);
            nesterov = nesterov, given...)
        return Dict{String,Any}("skipped" => false)
    end
    narrow = any(haskey(arrays, n) for n in ("residual", "param_copy"))
    param = narrow ? master(arrays, arguments) : arrays["param"]
    made = muon!(param, arrays["grad"], state(arrays, "momentum"); stats = stats,
        nesterov = nesterov, options(arguments, OF_ARRAYS...)..., extra...)
    return steps(stats[1], made)
end

# Blocks of different sizes with a scale that tells out from in are views of their own here, and
# have statistics of their own.
function as_views(arguments)
    return length(unique(get(arguments, "blocks", []))) > 1 && !haskey(arguments, "fan_out") &&
           get(arguments, "scale_mode", "MATCH_RMS") in ("SQRT_MAX1_OUT_IN", "SQRT_OUT_IN")
end

function blocks_of(x, sizes, dims)
    ranges = [stop-size+1:stop for (size, stop) in zip(sizes, cumsum(sizes))]
    return [dims == 1 ? view(x, range, :) : view(x, :, range) for range in ranges]
end

function steps(s, made)
    results = Dict{String,Any}("stats.$name" => getfield(s, name) for name in fieldnames(StepStats))
    results["skipped"] = !made
    return results
end

function run_case(::Val{:msign}, case, arrays)
    stats = MsignStats[]
    msign!(arrays["out"], arrays["x"]; stats = stats,
        options(case["arguments"], "rows", "cols")...)
    return Dict("stats.rank" => stats[1].rank)
end

q8_state(arrays) = Q8State(bytes(arrays["codes"]), arrays["scales"])
q8_signed(case) = case["arguments"]["is_signed"] == 1

function run_case(::Val{:q8_encode}, case, arrays)
    q8_encode!(q8_state(arrays), arrays["values"]; signed = q8_signed(case))
    return Dict{String,Any}()
end

function run_case(::Val{:q8_decode}, case, arrays)
    q8_decode!(arrays["values"], q8_state(arrays); signed = q8_signed(case))
    return Dict{String,Any}()
end

# Functions of numbers, vectors and matrices: their results in the order of the C parameters.
value_of(::Val{:scale_factor}, a, o) =
    scale_factor(o[:mode], o[:fan_out], o[:fan_in]; value = o[:value])
value_of(::Val{:q8_scales}, a, o) =
    Steepest.q8_scales(o[:dtype] == "Q8_DYNAMIC" ? Float32 : UInt16, o[:count])
value_of(::Val{:adam_update_rms}, a, o) = adam_update_rms(; o...)
value_of(::Val{:adam_update_rms_second_order}, a, o) = adam_update_rms_second_order(; o...)
value_of(::Val{:snr_from_update_rms}, a, o) =
    snr_from_update_rms(pop!(o, :update_rms); o...)
value_of(::Val{:snr_from_momentum}, a, o) =
    snr_from_momentum(pop!(o, :momentum_rms), pop!(o, :grad_rms); o...)
value_of(::Val{:singular_values}, a, o) = singular_values(a["x"])
value_of(::Val{:spectral_norm}, a, o) = spectral_norm(a["x"])
value_of(::Val{:singular_entropy}, a, o) = singular_entropy(o[:values])
value_of(::Val{:grad_norm}, a, o) = grad_norm([a[n] for n in sort(collect(keys(a)))])
value_of(::Val{:rms}, a, o) = rms([a[n] for n in sort(collect(keys(a)))])
value_of(::Val{:schedule_bound}, a, o) = schedule_bound(pop!(o, :lr); norm_option(o)...)
value_of(::Val{:schedule_optimal}, a, o) =
    schedule_optimal(pop!(o, :total_steps); norm_option(o)...)
value_of(::Val{:schedule_refine}, a, o) = schedule_refine(pop!(o, :grad_norms); o...)
value_of(::Val{:schedule_fill}, a, o) =
    (total = pop!(o, :total_steps); schedule_fill(Schedule(pop!(o, :kind); o...), total))
value_of(::Val{:schedule_at}, a, o) =
    (total = pop!(o, :total_steps); step = pop!(o, :step);
    schedule_at(Schedule(pop!(o, :kind); o...), total, step))

function norm_option(o)
    haskey(o, :grad_norms) && (o[:grad_norm] = pop!(o, :grad_norms))
    return o
end

const RESULTS = Dict("grad_norm" => ["norm", "nonfinite"], "rms" => ["rms"],
    "q8_scales" => ["scales"],
    "schedule_optimal" => ["lr", "bound"])

function run_case(f::Val, case, arrays)
    result = value_of(f, arrays, Dict{Symbol,Any}(options(case["arguments"], "rows", "cols")))
    names = get(RESULTS, case["function"], collect(keys(case["expected"])))
    return Dict(zip(names, result isa Tuple ? result : (result,)))
end

row_major(x::AbstractMatrix) = vec(permutedims(x))
row_major(x::AbstractVector) = x
row_major(x) = [x]

function agrees(got, expected)
    values = number.(expected["values"])
    given = expected["tolerance"]
    tolerances = given isa Vector ? number.(given) : fill(number(given), length(values))
    length(tolerances) == 1 && (tolerances = fill(tolerances[1], length(values)))
    got = Float64.(row_major(got))
    return length(got) == length(values) &&
           all(isnan(v) ? isnan(x) : x == v || abs(x - v) <= t
               for (x, v, t) in zip(got, values, tolerances))
end

if !isfile(joinpath(VECTORS, "adamw.json"))
    skip("no conformance vectors in $VECTORS")
else
    for file in filter(name -> endswith(name, ".json"), sort(readdir(VECTORS)))
        cases = Json.parse_json(read(joinpath(VECTORS, file), String))["cases"]
        @testset "$file" begin
            @testset "$(case["function"]): $(case["name"])" for case in cases
                made = Dict(name => make_array(given, case["arguments"])
                            for (name, given) in get(case, "arrays", Dict()))
                arrays = Dict(name => first(pair) for (name, pair) in made)
                before = Dict(name => copy(array) for (name, array) in arrays)
                results = run_case(Val(Symbol(case["function"])), case, arrays)
                for (name, expected) in case["expected"]
                    # rms() gives the RMS alone, q8_scales() their number.
                    case["function"] == "rms" && name == "nonfinite" && continue
                    name == "scale_bytes" && continue
                    startswith(name, "stats.") && as_views(case["arguments"]) && continue
                    got = get(results, name, get(arrays, name, nothing))
                    as_in_c(case["arguments"]) && got isa AbstractMatrix && (got = vec(got))
                    @test agrees(got, expected)
                end
                @test all(gaps_untouched(pair...) for pair in values(made))
                for name in ("x", "grad")
                    haskey(arrays, name) && @test isequal(arrays[name], before[name])
                end
            end
        end
        println(file, ": ", length(cases), " vectors")
    end
end
