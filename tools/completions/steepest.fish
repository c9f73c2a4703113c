# SPDX-License-Identifier: Apache-2.0
# Completion of steepest for fish.

set -l commands info bench selftest schedule simulate msign
complete -c steepest -f
complete -c steepest -s h -l help -d 'Print help'
complete -c steepest -n "not __fish_seen_subcommand_from $commands" -l version -d 'Print the versions'
complete -c steepest -n "not __fish_seen_subcommand_from $commands" -a info -d 'This machine'
complete -c steepest -n "not __fish_seen_subcommand_from $commands" -a bench -d 'How near the kernels come to its limits'
complete -c steepest -n "not __fish_seen_subcommand_from $commands" -a selftest -d 'Check the library on it'
complete -c steepest -n "not __fish_seen_subcommand_from $commands" -a schedule -d 'Learning rates and their bound'
complete -c steepest -n "not __fish_seen_subcommand_from $commands" -a simulate -d 'The update RMS of AdamW'
complete -c steepest -n "not __fish_seen_subcommand_from $commands" -a msign -d 'Singular values of a matrix, every method'

complete -c steepest -n '__fish_seen_subcommand_from info bench selftest msign' -l json -d 'Print JSON'
complete -c steepest -n '__fish_seen_subcommand_from bench msign' -x -l threads -d 'Threads'
complete -c steepest -n '__fish_seen_subcommand_from bench' -l quick -d 'Fewer rounds'
complete -c steepest -n '__fish_seen_subcommand_from bench simulate' -x -l elements -d 'How many'
complete -c steepest -n '__fish_seen_subcommand_from schedule simulate' -x -l steps -d 'How many'
complete -c steepest -n '__fish_seen_subcommand_from schedule simulate' -r -F -s o -l output -d 'File'

complete -c steepest -n '__fish_seen_subcommand_from schedule' -x -l kind -d 'Shape' -a 'constant linear cosine inverse-sqrt inverse wsd optimal refine-sgd refine-adam'
complete -c steepest -n '__fish_seen_subcommand_from schedule' -x -l lr -d 'The peak'
complete -c steepest -n '__fish_seen_subcommand_from schedule' -x -l warmup -d 'Steps of linear warm-up'
complete -c steepest -n '__fish_seen_subcommand_from schedule' -x -l final-ratio -d 'Of the peak, where the decay ends'
complete -c steepest -n '__fish_seen_subcommand_from schedule' -x -l decay -d 'Shape of the decay of wsd' -a 'linear cosine one-minus-sqrt'
complete -c steepest -n '__fish_seen_subcommand_from schedule' -x -l decay-steps -d 'Length of the decay of wsd'
complete -c steepest -n '__fish_seen_subcommand_from schedule' -x -l distance -d 'D of the bound'
complete -c steepest -n '__fish_seen_subcommand_from schedule' -x -l grad-norm -d 'G of the bound'
complete -c steepest -n '__fish_seen_subcommand_from schedule' -r -F -l grad-norms -d 'File of G for each step'
complete -c steepest -n '__fish_seen_subcommand_from schedule' -x -l smoothing -d 'Width of the median of refine-*'

complete -c steepest -n '__fish_seen_subcommand_from simulate' -x -l beta1 -d 'Decay of the first moment'
complete -c steepest -n '__fish_seen_subcommand_from simulate' -x -l beta2 -d 'Decay of the second moment'
complete -c steepest -n '__fish_seen_subcommand_from simulate' -x -l snr -d 'Signal-to-noise ratio of the gradients'
complete -c steepest -n '__fish_seen_subcommand_from simulate' -x -l noise -d 'Distribution around the mean' -a 'normal laplace uniform sign'
complete -c steepest -n '__fish_seen_subcommand_from simulate' -x -l seed -d 'Of the random numbers'
complete -c steepest -n '__fish_seen_subcommand_from simulate' -l csv -d 'Every step, as CSV'

complete -c steepest -n '__fish_seen_subcommand_from msign' -x -l method -d 'Only these methods' -a 'rational_r3 rational_r3_bf16 rational_r2 rational_r4 halley_2 halley_3 newton_schulz_5 keller_5 gram_newton_schulz_5 accurate svd'
complete -c steepest -n '__fish_seen_subcommand_from msign' -x -l seconds -d 'To spend on times'
complete -c steepest -n '__fish_seen_subcommand_from msign' -k -xa '(__fish_complete_suffix .npy)'
