# shellcheck shell=bash
# The root folder that all beds of scripts/lab start from: a small Debian 12 with systemd and the libraries that
# wkspd is linked to. Made once into the cache and never written to again; beds lay something writable over it.
# Refuses to use a root that was made from another list of packages or another version of this file.

lab_suite=bookworm
# python3: the tests run in there. What wkspd needs must be there too, since a bed has no network.
lab_packages=(systemd systemd-sysv dbus python3 procps numactl libnuma1 libuv1 libprotobuf-c1 libjansson4
  libsmartcols1 libinih1 libseccomp2 libmicrohttpd12)

# Sets $lab, the cache folder, and $lab_root.
lab_cache() {
  lab=${XDG_CACHE_HOME:-${HOME:?neither XDG_CACHE_HOME nor HOME is set}/.cache}/wkspd-lab
  mkdir -p "$lab" || die "$lab cannot be written; set XDG_CACHE_HOME"
  lab_root=$lab/root-$(cat "${BASH_SOURCE[0]}" "$root"/scripts/lib/lab/wkspd-lab* | cksum | cut -d ' ' -f 1)
}

# Where this machine's apt finds Debian: a mirror that is reachable from here.
lab_mirror() {
  local site
  # shellcheck disable=SC2016  # apt fills these in
  site=$(apt-get indextargets --format '$(SITE) $(CODENAME) $(COMPONENT)' 'Created-By: Packages' 2>/dev/null |
    awk -v suite="$lab_suite" '$2 == suite && $3 == "main" && /^https?:/ { print $1; exit }') || site=
  printf '%s\n' "${site:-http://deb.debian.org/debian}"
}

# What makes of a root a bed: it runs one command and ends, and does nothing else meanwhile.
lab_furnish() {
  local dir=$1 unit wants=$1/etc/systemd/system/multi-user.target.wants
  install -D -m 755 "$root/scripts/lib/lab/wkspd-lab-run" "$dir/usr/local/sbin/wkspd-lab-run"
  install -D -m 644 "$root/scripts/lib/lab/wkspd-lab.service" "$dir/etc/systemd/system/wkspd-lab.service"
  mkdir -p "$wants" "$dir/wkspd-lab"
  ln -s ../wkspd-lab.service "$wants/wkspd-lab.service"
  ln -sf /lib/systemd/system/multi-user.target "$dir/etc/systemd/system/default.target"
  for unit in getty.target console-getty.service getty@.service serial-getty@.service tmp.mount \
    systemd-firstboot.service systemd-logind.service apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer \
    e2scrub_all.timer fstrim.timer systemd-tmpfiles-clean.timer; do
    ln -sf /dev/null "$dir/etc/systemd/system/$unit"
  done
  # What is shown to the bed may lie below /tmp, and is not to be tidied up.
  : >"$dir/etc/tmpfiles.d/tmp.conf"
  echo wkspd-lab >"$dir/etc/hostname"
  : >"$dir/etc/fstab"
  : >"$dir/etc/machine-id"
}

# Makes the root if it is not there. The last line of its log, on failure, says why.
root_prepare() {
  local log began=$SECONDS new
  lab_cache
  ((EUID == 0)) || die "the lab needs root"
  packages_need "$lab/apt.log" mmdebstrap systemd-container >&2
  [[ ! -d $lab_root ]] || return 0
  log=$lab/root.log
  exec {lab_lock}>"$lab/.lock"
  flock "$lab_lock"
  if [[ ! -d $lab_root ]]; then
    new=$lab/new-root.$$
    say "making $lab_root: mmdebstrap, some 200 MB" >&2
    if ! mmdebstrap --variant=minbase --include="$(IFS=,; printf '%s' "${lab_packages[*]}")" \
      --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
      --dpkgopt='path-exclude=/usr/share/locale/*' "$lab_suite" "$new" "$(lab_mirror)" >"$log" 2>&1; then
      rm -rf "$new"
      tail -n 20 "$log" >&2
      die "mmdebstrap failed; all that it said is in $log"
    fi
    lab_furnish "$new"
    mv "$new" "$lab_root"
    root_sweep
    say "made $lab_root, $((SECONDS - began)) s" >&2
  fi
  exec {lab_lock}>&-
}

# Removes roots of other versions that no bed uses.
root_sweep() {
  local old
  for old in "$lab"/root-*[0-9] "$lab"/new-root.*; do
    [[ -d $old && $old != "$lab_root" ]] || continue
    (
      exec 8>"$old.use"
      flock -n 8 && rm -rf "$old" "$old.use"
    ) || true
  done
}
