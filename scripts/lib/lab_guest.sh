# shellcheck shell=bash
# The bed with a kernel of its own: an emulated machine with two memory nodes, huge pages on both, two processors and
# Debian's kernel. Gives what systemd-nspawn lacks: nodes, memory limits, its own huge pages. Slow: the processor is
# emulated, since KVM that is offered inside a virtual machine does not always run stock kernels. QEMU 7.2 with kernel
# 6.1, both Debian 12's, is the pair that boots every time.

guest_packages=(qemu-system-x86 busybox-static kmod cpio zstd e2fsprogs)
guest_modules=(virtio_pci virtio_blk virtio_console 9pnet_virtio 9p overlay ext4)
guest_node_mib=4096
guest_huge_pages=128 # of 2 MiB, each node; and one of 1 GiB

# Prints the one capability that is missing for this bed, or nothing.
guest_missing() {
  local said
  if ((EUID)); then
    echo root
  elif ! said=$("$root/scripts/lab" prepare guest 2>&1); then
    echo "a guest for the lab (${said##*: })"
  fi
}

# The kernel that Debian's linux-image-amd64 stands for, unpacked to $1/kernel; its version on standard output.
guest_kernel() {
  local dir=$1 package
  package=$(apt-cache depends linux-image-amd64 | awk '$1 == "Depends:" && $2 ~ /^linux-image-/ { print $2; exit }')
  [[ -n $package ]] || die "apt knows no linux-image-amd64: apt-get update"
  (cd "$dir" && apt-get download -q "$package") >>"$lab/guest.log" 2>&1 || die "apt-get download $package failed"
  dpkg -x "$dir/$package"_*.deb "$dir/kernel"
  rm "$dir/$package"_*.deb
  printf '%s\n' "${package#linux-image-}"
}

# guest_initrd DIR VERSION: DIR/initrd, with what is needed to mount the root.
guest_initrd() {
  local dir=$1 tree=$1/tree name path
  mkdir -p "$tree"/{bin,modules,dev,proc,sys,lower,over,root}
  cp /bin/busybox "$tree/bin/busybox"
  cp "$root/scripts/lib/lab/guest-init" "$tree/init"
  depmod -b "$dir/kernel" "$2"
  for name in "${guest_modules[@]}"; do
    modprobe -d "$dir/kernel" -S "$2" --show-depends "$name"
  done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' | while read -r path; do
    name=${path##*/}
    case $name in
    *.xz) xz -dc "$path" >"$tree/modules/${name%.xz}" ;;
    *.zst) zstd -qdc "$path" >"$tree/modules/${name%.zst}" ;;
    *) cp "$path" "$tree/modules/$name" ;;
    esac
    name=${name%.xz}
    printf '%s\n' "${name%.zst}" >>"$tree/modules/order"
  done
  [[ -s $tree/modules/order ]] || die "the kernel has none of the modules ${guest_modules[*]}"
  (cd "$tree" && find . | cpio -o -H newc --quiet | zstd -q -3) >"$dir/initrd"
}

# Makes kernel, initrd and the image of the root if they are not there; sets $guest, their folder.
guest_prepare() {
  local new version began=$SECONDS
  root_prepare
  guest=$lab/guest-$(cat "${BASH_SOURCE[0]}" "$root/scripts/lib/lab/guest-init" <(echo "$lab_root") | cksum |
    cut -d ' ' -f 1)
  packages_need "$lab/apt.log" "${guest_packages[@]}" >&2
  [[ ! -d $guest ]] || return 0
  exec {lab_lock}>"$lab/.lock"
  flock "$lab_lock"
  if [[ ! -d $guest ]]; then
    new=$lab/new-guest.$$
    rm -rf "$lab"/guest-* "$lab"/new-guest.*
    mkdir "$new"
    say "making $guest: Debian's kernel, some 100 MB" >&2
    version=$(guest_kernel "$new")
    "$root/scripts/lib/lab/unpack-kernel" "$new/kernel/boot/vmlinuz-$version" "$new/vmlinux"
    guest_initrd "$new" "$version"
    truncate -s 1G "$new/root.ext4"
    mke2fs -q -t ext4 -O ^has_journal -m 0 -d "$lab_root" "$new/root.ext4" >>"$lab/guest.log" 2>&1 ||
      die "mke2fs failed; all that it said is in $lab/guest.log"
    rm -rf "$new/kernel" "$new/tree"
    mv "$new" "$guest"
    say "made $guest, $((SECONDS - began)) s" >&2
  fi
  exec {lab_lock}>&-
}

guest_end() {
  kill ${guest_pid:+"$guest_pid"} "${bed_cats[@]}" 2>/dev/null || true
  wait || true
  rm -rf "$bed_dir"
}

# Adds a folder of this machine to $guest_args and to the guest's list of mounts.
guest_share() {
  local mode=$1 path=$2 tag only=
  tag=share$((guest_shares++))
  [[ $mode != ro ]] || only=,readonly=on
  [[ $path != *[[:space:],]* ]] || die "'$path': white space or ',' in the name of a folder that the guest is to see"
  guest_args+=(-fsdev "local,id=$tag,path=$path,security_model=none,multidevs=remap$only"
    -device "virtio-9p-pci,fsdev=$tag,mount_tag=$tag")
  printf '%s %s %s\n' "$tag" "$mode" "$path" >>"$bed_dir/mounts"
}

guest_run() {
  local path
  guest_args=() guest_shares=0 guest_pid=
  guest_prepare
  bed_talk guest
  trap guest_end EXIT
  trap 'exit 143' TERM INT HUP
  : >"$bed_dir/mounts"
  for path in "${bed_seen[@]}"; do guest_share ro "$path"; done
  for path in "${bed_shared[@]}"; do guest_share rw "$path"; done
  bed_listen
  timeout --foreground -k 5 "$bed_timeout" qemu-system-x86_64 -accel tcg,thread=multi,tb-size=512 -cpu max,-la57 \
    -machine q35,hpet=off -nodefaults -display none -no-reboot -m $((2 * guest_node_mib)) -smp 2,sockets=2 \
    -object memory-backend-ram,id=m0,size="${guest_node_mib}M" \
    -object memory-backend-ram,id=m1,size="${guest_node_mib}M" \
    -numa node,nodeid=0,cpus=0,memdev=m0 -numa node,nodeid=1,cpus=1,memdev=m1 -numa dist,src=0,dst=1,val=20 \
    -kernel "$guest/vmlinux" -initrd "$guest/initrd" \
    -drive "file=$guest/root.ext4,format=raw,if=virtio,readonly=on,cache=unsafe,file.locking=off" \
    -append "console=ttyS0 quiet panic=-1 mitigations=off tsc=reliable no_timer_check systemd.show_status=0 \
hugepagesz=1G hugepages=0:1,1:1 hugepagesz=2M hugepages=0:$guest_huge_pages,1:$guest_huge_pages" \
    -serial "file:$bed_dir/console" -device virtio-serial-pci \
    -chardev "file,id=out,path=$bed_dir/out" -device virtserialport,chardev=out,name=out \
    -chardev "file,id=err,path=$bed_dir/err" -device virtserialport,chardev=err,name=err \
    -fsdev "local,id=talk,path=$bed_dir,security_model=none,multidevs=remap" \
    -device virtio-9p-pci,fsdev=talk,mount_tag=talk \
    "${guest_args[@]}" </dev/null >>"$bed_dir/console" 2>&1 &
  guest_pid=$!
  wait "$guest_pid" || true
  guest_pid=
  bed_result
}
