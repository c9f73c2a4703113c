# SPDX-License-Identifier: Apache-2.0
module SteepestOptimisersExt

import Optimisers
import Steepest

include("rules.jl")

end
