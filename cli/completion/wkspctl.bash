# Completion of wkspctl for bash. wkspctl itself says what can follow (cli/complete.c).
# shellcheck shell=bash

_wkspctl() {
  local cur words cword candidate
  COMPREPLY=()
  # Bash ends words at ':', which NAME:GADDR has in the middle.
  if declare -F _get_comp_words_by_ref >/dev/null; then
    _get_comp_words_by_ref -n : cur words cword
  else
    words=("${COMP_WORDS[@]}") cword=$COMP_CWORD cur=${COMP_WORDS[COMP_CWORD]}
  fi
  while IFS=$'\t' read -r candidate _; do
    case $candidate in
    :files) mapfile -t COMPREPLY < <(compgen -f -- "$cur") ;;
    *:) COMPREPLY+=("$candidate") && compopt -o nospace 2>/dev/null ;;
    *) COMPREPLY+=("$candidate") ;;
    esac
  done < <("${words[0]}" __complete "${words[@]:1:cword}" 2>/dev/null)
  if declare -F __ltrim_colon_completions >/dev/null; then
    __ltrim_colon_completions "$cur"
  fi
}

complete -F _wkspctl wkspctl
