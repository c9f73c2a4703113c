# SPDX-License-Identifier: Apache-2.0
const PACKAGE = dirname(dirname(pathof(Steepest)))

julia(code, settings...) = withenv(settings...) do
    read(`$(Base.julia_cmd()) --startup-file=no --project=$PACKAGE -e $code`, String)
end

# A path that does not exist: the package loads, and the first call says why it cannot work.
code = """
using Steepest
try
    grad_norm([1.0])
catch error
    print(sprint(showerror, error))
end
"""
text = julia(code, "STEEPEST_LIBRARY" => "/nowhere/libsteepest.so.1")
@test occursin("libsteepest is not loaded", text) && occursin("/nowhere/libsteepest.so.1", text)

# Another library altogether.
@test occursin("is not libsteepest", error_text(() -> Steepest.load("libm.so.6"), ErrorException))
@test grad_norm([3.0, 4.0]) == (5.0, 0)

withenv("STEEPEST_LIBRARY" => nothing) do
    @test Steepest.candidates() == "libsteepest.so.1"
end
if isdefined(Base, :get_preferences)
    mktempdir() do folder
        write(joinpath(folder, "Project.toml"), "[extras]\nSteepest = \"$(Steepest.UUID)\"\n")
        write(joinpath(folder, "LocalPreferences.toml"), "[Steepest]\nlibrary = \"/some/file\"\n")
        code = """
        push!(LOAD_PATH, "$folder")
        using Steepest
        print(Steepest.candidates())
        """
        @test julia(code, "STEEPEST_LIBRARY" => nothing) == "/some/file"
    end
else
    skip("preferences: Julia 1.6 or later")
end

@test Steepest.version() isa VersionNumber
