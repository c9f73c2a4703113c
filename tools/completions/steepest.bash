# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Completion of steepest for bash.

_steepest() {
  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} command='' i words=''
  for ((i = 1; i < COMP_CWORD; ++i)); do
    case ${COMP_WORDS[i]} in
      info | bench | selftest | schedule | simulate | msign)
        command=${COMP_WORDS[i]}
        break
        ;;
    esac
  done
  COMPREPLY=()
  case $command:$before in
    schedule:--output | schedule:-o | schedule:--grad-norms | simulate:--output | simulate:-o)
      mapfile -t COMPREPLY < <(compgen -f -- "$word")
      compopt -o filenames 2>/dev/null
      return
      ;;
    schedule:--kind)
      words='constant linear cosine inverse-sqrt inverse wsd optimal refine-sgd refine-adam'
      ;;
    schedule:--decay) words='linear cosine one-minus-sqrt' ;;
    simulate:--noise) words='normal laplace uniform sign' ;;
    msign:--method)
      words='rational_r3 rational_r3_bf16 rational_r2 rational_r4 halley_2 halley_3 newton_schulz_5
        keller_5 gram_newton_schulz_5 accurate svd'
      ;;
    *:--steps | *:--lr | *:--warmup | *:--final-ratio | *:--decay-steps | *:--distance | \
      *:--grad-norm | *:--smoothing | *:--beta1 | *:--beta2 | *:--snr | *:--elements | *:--seed | \
      *:--threads | *:--seconds) return ;;
    *)
      case $command in
        info | selftest) words='--json --help' ;;
        bench) words='--quick --elements --threads --json --help' ;;
        schedule)
          words='--kind --steps --lr --warmup --final-ratio --decay --decay-steps --distance
            --grad-norm --grad-norms --smoothing --output --help'
          ;;
        simulate)
          words='--beta1 --beta2 --snr --noise --steps --elements --seed --csv --output --help'
          ;;
        msign)
          words='--method --threads --seconds --json --help'
          if [[ $word != -* ]]; then
            mapfile -t COMPREPLY < <(
              compgen -f -X '!*.npy' -- "$word"
              compgen -d -- "$word"
            )
            compopt -o filenames 2>/dev/null
            return
          fi
          ;;
        *) words='info bench selftest schedule simulate msign --help --version' ;;
      esac
      ;;
  esac
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
}
complete -F _steepest steepest
