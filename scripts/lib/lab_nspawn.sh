# shellcheck shell=bash
# The bed on this kernel: systemd-nspawn with systemd as process 1 over a root that is thrown away. Gives units,
# activation, the descriptor store, hardening and package installs; lacks a second memory node and memory limits,
# and shares huge pages with this machine.

# Prints the one capability that is missing for this bed, or nothing. Each attempt is a process of its own: in a
# condition bash would go on after a command that fails.
nspawn_missing() {
  local said
  if ((EUID)); then
    echo root
  elif ! said=$("$root/scripts/lab" prepare 2>&1); then
    echo "a root for the lab (${said##*: })"
  elif ! said=$("$root/scripts/lab" nspawn --timeout 60 -- true 2>&1); then
    echo "systemd-nspawn that boots here ($(tail -n 1 <<<"$said"))"
  fi
}

# A machine whose process 1 is no systemd has nobody to make a control group for the bed: we do, in each
# hierarchy that systemd in the bed uses.
nspawn_cgroups_enter() {
  local top
  nspawn_cgroups=()
  [[ ! -d /run/systemd/system ]] || return 0
  for top in /sys/fs/cgroup /sys/fs/cgroup/systemd /sys/fs/cgroup/unified; do
    # What an earlier bed left that was killed; one in use is not empty.
    find "$top" -mindepth 1 -depth -type d -path "$top/wkspd-lab-*" -exec rmdir {} + 2>/dev/null || true
    [[ -w $top/cgroup.procs ]] || continue
    mkdir "$top/wkspd-lab-$$" 2>/dev/null || continue
    nspawn_cgroups+=("$top")
    echo "$BASHPID" >"$top/wkspd-lab-$$/cgroup.procs" || return
  done
  nspawn_args+=(--keep-unit)
}

nspawn_end() {
  local top
  kill ${nspawn_pid:+"$nspawn_pid"} "${bed_cats[@]}" 2>/dev/null || true
  wait || true
  for top in "${nspawn_cgroups[@]}"; do
    echo "$BASHPID" >"$top/cgroup.procs" || true
    find "$top/wkspd-lab-$$" -depth -type d -exec rmdir {} + 2>/dev/null || true
  done
  rm -rf "$bed_dir"
}

nspawn_run() {
  local path landlock="landlock_create_ruleset landlock_add_rule landlock_restrict_self"
  nspawn_args=() nspawn_cgroups=() nspawn_pid=
  root_prepare
  exec {lab_use}>"$lab_root.use"
  flock -s "$lab_use"
  bed_talk nspawn
  trap nspawn_end EXIT
  trap 'exit 143' TERM INT HUP
  nspawn_cgroups_enter
  for path in "${bed_seen[@]}"; do nspawn_args+=("--bind-ro=$path"); done
  for path in "${bed_shared[@]}"; do nspawn_args+=("--bind=$path"); done
  bed_listen
  # All capabilities and these calls: what wkspd may do is for its unit to say, not for the bed.
  timeout --foreground -k 5 "$bed_timeout" systemd-nspawn --quiet --directory="$lab_root" --volatile=overlay \
    --machine="wkspd-lab-$$" --register=no --kill-signal=SIGKILL --private-network --link-journal=no \
    --resolv-conf=off --timezone=off --capability=all \
    --system-call-filter="@memlock userfaultfd perf_event_open $landlock" \
    --bind="$bed_dir:/wkspd-lab" "${nspawn_args[@]}" --boot </dev/null >"$bed_dir/console" 2>&1 &
  nspawn_pid=$!
  wait "$nspawn_pid" || true
  nspawn_pid=
  bed_result
}
