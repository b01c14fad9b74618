# shellcheck shell=bash
# What the beds of scripts/lab have in common: their command line, and the folder over which a bed and this side
# talk. In the bed that folder is /wkspd-lab: `env` and `command` go in, `out`, `err` and `status` come out.

# Reads the arguments of `scripts/lab BED`; sets $bed_command, $bed_seen (folders, read-only), $bed_shared and
# $bed_timeout.
bed_arguments() {
  bed_seen=("$root") bed_shared=() bed_timeout=600
  [[ -z ${WKSP_BIN_DIR:-} ]] || bed_seen+=("$(readlink -f -- "$WKSP_BIN_DIR")")
  while (($#)); do
    case $1 in
    --bind | --bind-ro | --timeout)
      (($# > 1)) || die "$1 wants a value"
      case $1 in
      --bind | --bind-ro)
        [[ $2 == /* && -e $2 && $2 != *:* ]] || die "$1 '$2': not an absolute path that is there, without ':'"
        if [[ $1 == --bind ]]; then bed_shared+=("$2"); else bed_seen+=("$2"); fi
        ;;
      --timeout)
        [[ $2 =~ ^[1-9][0-9]{0,4}$ ]] || die "--timeout '$2' is not a number of seconds"
        bed_timeout=$2
        ;;
      esac
      shift 2
      ;;
    --)
      shift
      break
      ;;
    -*) die "unknown option '$1'; there are --bind, --bind-ro and --timeout" ;;
    *) break ;;
    esac
  done
  (($#)) || die "no command: what is to be run in the bed?"
  bed_command=("$@")
}

# Prints what the command is to find: its folder and the variables that go with it.
bed_environment() {
  local name
  printf 'cd %q 2>/dev/null || cd /\n' "$PWD"
  printf 'export HOME=/root LANG=C.UTF-8 WKSP_LAB_BED=%q\n' "$1"
  for name in $(compgen -e); do
    [[ $name =~ ^(WKSP_|PYTHON) && $name != WKSP_LAB_BED ]] && printf 'export %s=%q\n' "$name" "${!name}"
  done
  return 0
}

# bed_talk BED: makes the folder, $bed_dir, with the question in it.
bed_talk() {
  bed_cats=()
  bed_dir=$(mktemp -d "${TMPDIR:-/tmp}/wkspd-lab.XXXXXX")
  chmod 755 "$bed_dir"
  bed_environment "$1" >"$bed_dir/env"
  printf '%q ' "${bed_command[@]}" >"$bed_dir/command"
}

# Passes on what the command says, as it says it, from two pipes in the folder.
bed_listen() {
  mkfifo "$bed_dir/out" "$bed_dir/err"
  cat "$bed_dir/out" &
  bed_cats+=($!)
  cat "$bed_dir/err" >&2 &
  bed_cats+=($!)
}

# Exits with the command's status, or with 125 and the end of what the bed said for itself.
bed_result() {
  local status
  if [[ -f $bed_dir/status ]]; then
    # Those who write into the pipes are gone, so these end.
    wait "${bed_cats[@]}" || true
    status=$(<"$bed_dir/status")
    exit "$status"
  fi
  kill "${bed_cats[@]}" 2>/dev/null || true
  printf 'scripts/lab: the bed ended without a result (time limit %s s); its console ended with:\n' "$bed_timeout" >&2
  tail -n 5 "$bed_dir/console" >&2
  exit 125
}
