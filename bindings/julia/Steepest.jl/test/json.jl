# SPDX-License-Identifier: Apache-2.0
# A parser for the conformance files: JSON without escapes other than \" \\ \/ and \uXXXX.
module Json

parse_json(text) = (p = Parser(codeunits(text), 1); value = parse_value(p); finish(p); value)

mutable struct Parser{B}
    bytes::B
    at::Int
end

function peek(p)
    while p.at <= length(p.bytes) && p.bytes[p.at] in (0x20, 0x09, 0x0a, 0x0d)
        p.at += 1
    end
    return p.at <= length(p.bytes) ? Char(p.bytes[p.at]) : '\0'
end

function expect(p, character)
    peek(p) == character || error("JSON: '$character' expected at byte $(p.at)")
    p.at += 1
end

finish(p) = peek(p) == '\0' || error("JSON: more text at byte $(p.at)")

function parse_value(p)
    c = peek(p)
    c == '{' && return parse_object(p)
    c == '[' && return parse_array(p)
    c == '"' && return parse_string(p)
    word = parse_word(p)
    word == "true" && return true
    word == "false" && return false
    word == "null" && return nothing
    integer = tryparse(Int64, word)
    return integer === nothing ? parse(Float64, word) : integer
end

function parse_word(p)
    start = p.at
    in_word(c) = isletter(c) || isdigit(c) || c in "+-."
    while p.at <= length(p.bytes) && in_word(Char(p.bytes[p.at]))
        p.at += 1
    end
    return String(p.bytes[start:p.at-1])
end

# item(p) once for each element up to the closing bracket.
function parse_items(item, p, first, last)
    expect(p, first)
    if peek(p) == last
        return expect(p, last)
    end
    item(p)
    while peek(p) == ','
        expect(p, ',')
        item(p)
    end
    expect(p, last)
end

function parse_array(p)
    values = []
    parse_items(p -> push!(values, parse_value(p)), p, '[', ']')
    return values
end

function parse_object(p)
    values = Dict{String,Any}()
    parse_items(p, '{', '}') do p
        peek(p)
        name = parse_string(p)
        expect(p, ':')
        values[name] = parse_value(p)
    end
    return values
end

function parse_string(p)
    expect(p, '"')
    out = UInt8[]
    while p.bytes[p.at] != UInt8('"')
        if p.bytes[p.at] == UInt8('\\')
            p.at += 1
            if p.bytes[p.at] == UInt8('u')
                code = parse(UInt32, String(p.bytes[p.at+1:p.at+4]); base = 16)
                append!(out, codeunits(string(Char(code))))
                p.at += 5
                continue
            end
        end
        push!(out, p.bytes[p.at])
        p.at += 1
    end
    p.at += 1
    return String(out)
end

end
