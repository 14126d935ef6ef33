#!/bin/sh
# Low-latency settings of this machine. Rendered by `pipeline tune --script`; read it before you run it.
#
#   sh tune.sh            show what would change
#   sh tune.sh apply      change it (as root); what was there is kept first, in /run/tickpipe/tune.saved
#   sh tune.sh revert     restore what was there before the first apply
#
# `pipeline tune` keeps and reads the same file: either takes back what the other made. A reboot undoes it all.
# Exit code 4: the machine refused some of it. TUNE_ROOT names a folder that stands in for /, to try it out.

set -fu
root=${TUNE_ROOT:-}
saved=$root/run/tickpipe/tune.saved
title='# what `pipeline tune --revert` restores'
boot="boot $(cat "$root/proc/sys/kernel/random/boot_id" 2>/dev/null || echo unknown)"
refused=0

# line TEXT...: as it is; echo may take a backslash for more
line() { printf '%s\n' "$*"; }

# settings VERB: one line each: VERB NAME HOW WANTED PATH, with
#   exact      that text                       mask     that hexadecimal mask of cores
#   at_least   each number at least that       pages    the same, unless it takes over a quarter of the memory
#   lenient    exact, and no failure where the kernel keeps a place as it is
#   one_of     any of these words, else the first
settings() {
    :

    # a core at full speed needs no time to speed up when a message comes. Costs: heat and power
    "$1" 'governor' exact 'performance' '/sys/devices/system/cpu/cpufreq/policy*/scaling_governor'

    # a burst waits in the socket instead of being dropped or stopped; SO_RCVBUF is capped by this
    "$1" 'net.core.rmem_max' at_least '26214400' '/proc/sys/net/core/rmem_max'

    # orders are taken by the kernel at once, even when the peer is slow; SO_SNDBUF is capped by this
    "$1" 'net.core.wmem_max' at_least '26214400' '/proc/sys/net/core/wmem_max'

    # the same, for buffers that TCP sizes itself (least, first, most)
    "$1" 'net.ipv4.tcp_rmem' at_least '4096 131072 26214400' '/proc/sys/net/ipv4/tcp_rmem'

    # the same, for sending
    "$1" 'net.ipv4.tcp_wmem' at_least '4096 65536 26214400' '/proc/sys/net/ipv4/tcp_wmem'

    # 12 bytes and some ns less for each packet; new connections only. Costs: no protection against wrapped sequence
    # numbers, coarser round-trip times: right on a short, loss-free path (a cross-connect, one data centre). Over the
    # internet it makes the tail worse: leave it with --skip
    "$1" 'net.ipv4.tcp_timestamps' exact '0' '/proc/sys/net/ipv4/tcp_timestamps'

    # no bookkeeping of selective acknowledgements; new connections only. Costs: several packets lost together take a
    # round trip each to recover: right on a short, loss-free path (a cross-connect, one data centre). Over the
    # internet it makes the tail worse: leave it with --skip
    "$1" 'net.ipv4.tcp_sack' exact '0' '/proc/sys/net/ipv4/tcp_sack'

    # no prequeue: packets are handled when they come (Linux before 4.14; later kernels ignore it)
    "$1" 'net.ipv4.tcp_low_latency' exact '1' '/proc/sys/net/ipv4/tcp_low_latency'

    # poll and select look at the card for 50 µs before they sleep. Costs: their cores are busy meanwhile
    "$1" 'net.core.busy_poll' exact '50' '/proc/sys/net/core/busy_poll'

    # a read looks at the card for 50 µs before it sleeps: no interrupt on the way. Costs: its core is busy meanwhile
    "$1" 'net.core.busy_read' exact '50' '/proc/sys/net/core/busy_read'

    # a stage under SCHED_FIFO is not stopped for 50 ms of every second, where the kernel does that: see
    # fifo-throttled in `pipeline doctor`. Costs: without the throttle nothing stops a FIFO process that spins by
    # mistake: kernel threads of its core wait for ever, and a machine whose every core has one is locked up until it
    # is switched off. Stages are FIFO only alone on their core, and one core is always left
    "$1" 'kernel.sched_rt_runtime_us' exact '-1' '/proc/sys/kernel/sched_rt_runtime_us'

    # the kernel takes cached files before it takes a program's memory; counts if swap stays on or comes back
    "$1" 'vm.swappiness' exact '1' '/proc/sys/vm/swappiness'

    # no page is unmapped to see who faults on it, or moved between nodes, under a running stage. Costs: programs that
    # are not pinned lose the automatic placement
    "$1" 'kernel.numa_balancing' exact '0' '/proc/sys/kernel/numa_balancing'

    # no timer on each core that looks for lock-ups (half of kernel.watchdog). Costs: lock-ups of the kernel are not
    # reported any more
    "$1" 'kernel.soft_watchdog' exact '0' '/proc/sys/kernel/soft_watchdog'

    # no non-maskable interrupt on each core, and its counter is free for perf (the other half). Costs: hard lock-ups
    # of the kernel are not reported any more
    "$1" 'kernel.nmi_watchdog' exact '0' '/proc/sys/kernel/nmi_watchdog'

    # the kernel's worker that folds memory statistics visits each core every two minutes, not every second. Costs:
    # the figures of vmstat are that old
    "$1" 'vm.stat_interval' at_least '120' '/proc/sys/vm/stat_interval'

    # huge pages for programs that ask for them (hugetlbfs, MAP_HUGETLB), while memory is in one piece. Costs: 2 GB
    # (with 2 MB pages) that nothing else can use; our own segments do not need them
    "$1" 'vm.nr_hugepages' pages '1024' '/proc/sys/vm/nr_hugepages'

    # a TLB entry reaches over 2 MB of a ring or table, not over 4 KiB; segments made from now on, of 2 MB or more.
    # Costs: what else keeps large files in /dev/shm has them in whole huge pages, too
    "$1" 'shmem-huge-pages' one_of 'huge=within_size huge=always' '/dev/shm'

    # no page of a stage is ever on disk. Costs: when memory runs out a process is killed instead
    "$1" 'swap' exact '' '/proc/swaps'

    # interrupts that are requested from now on go to core 0, where no stage runs
    "$1" 'irqs-new' mask '1' '/proc/irq/default_smp_affinity'

    # interrupts go to core 0, where no stage runs; those that belong to one core stay. Costs: core 0 takes all
    # network traffic: enough for a trading line, not for a file server
    "$1" 'irqs' lenient '0' '/proc/irq/[0-9]*/smp_affinity_list'
}

# there PATH: whether this machine has such a place
there() {
    case $1 in
    /dev/shm) [ -e "$root/sys/kernel/mm/transparent_hugepage/shmem_enabled" ] && huge_option "$1" >/dev/null ;;
    *) [ -e "$root$1" ] ;;
    esac
}

# huge_option FOLDER: `huge=` of the tmpfs that was last mounted there, which the kernel does not show when it is never
huge_option() {
    awk -v folder="$1" '$2 == folder { kind = $3; options = $4 }
        END {
            if (kind != "tmpfs") exit 1
            print match(options, /huge=[a-z_]+/) ? substr(options, RSTART, RLENGTH) : "huge=never"
        }' "$root/proc/mounts" 2>/dev/null
}

# current PATH: the text of a file: one blank between words, of `a [b] c` only b; swap areas as NAME@PRIORITY
current() {
    there "$1" && [ -r "$root$1" ] || return 1
    case $1 in
    /dev/shm) huge_option "$1"; return ;;
    /proc/swaps)
        awk 'NR > 1 && NF >= 5 { printf "%s%s@%s", blank, $1, $NF; blank = " " }' "$root$1"
        return ;;
    esac
    text=$(cat "$root$1") || return 1
    case $text in *\[*\]*) text=${text#*\[} text=${text%%\]*} ;; esac
    set -- $text
    line "$*"
}

# bare MASK: without commas and leading zeros
bare() { line "$1" | tr -d , | sed 's/^0*//'; }

# goal HOW WANTED CURRENT: what to write
goal() {
    case $1 in
    mask) if [ "$(bare "$3")" = "$2" ]; then line "$3"; else line "$2"; fi ;;
    one_of) case " $2 " in *" $3 "*) line "$3" ;; *) line "${2%% *}" ;; esac ;;
    at_least | pages)
        rest=$3 result=
        for want in $2; do
            have=${rest%% *} rest=${rest#* }
            [ "$have" -gt "$want" ] 2>/dev/null && want=$have
            result="$result${result:+ }$want"
        done
        line "$result" ;;
    *) line "$2" ;;
    esac
}

# affordable PAGES: whether so many huge pages take a quarter of the memory at most
affordable() {
    awk -v pages="$1" '$1 == "MemTotal:" { all = $2 } $1 == "Hugepagesize:" { page = $2 }
        END { exit !(all > 0 && page > 0 && pages * page <= int(all / 4)) }' "$root/proc/meminfo"
}

# each VERB NAME HOW WANTED PATTERN: VERB PATH NOW NEW HOW for each place that differs; sets `name`
each() {
    verb=$1 name=$2 how=$3 wanted=$4
    set +f
    set -- "$root"$5
    set -f
    for file in "$@"; do
        path=${file#"$root"}
        if ! now=$(current "$path"); then
            [ "$verb" = show ] && line "$name: skipped, $path is not there or cannot be read"
            continue
        fi
        new=$(goal "$how" "$wanted" "$now")
        [ "$new" = "$now" ] && continue
        if [ "$how" = pages ] && ! affordable "$new"; then
            [ "$verb" = show ] && line "$name: skipped, it would take over a quarter of the memory"
            continue
        fi
        case $path$now in /proc/swaps*"(deleted)"*) continue ;; esac
        "$verb" "$path" "$now" "$new" "$how"
    done
}

for_show() { each show "$@"; }
for_keep() { each keep "$@"; }
for_make() { each make "$@"; }

show() { line "$name: $1: ${2:-nothing} -> ${3:-nothing}"; }

keep() { grep -q "^$1 " "$saved.new" || line "$1 $2" >>"$saved.new"; }

make() {
    if put "$1" "$3"; then
        line "$name: $1: ${2:-nothing} -> ${3:-nothing}"
    elif [ "$4" = lenient ] && [ -w "$root$1" ]; then
        line "$name: $1 stays $2"
    else
        line "$name: $1 was refused ${reason:+($reason)}" >&2
        refused=4
    fi
}

# put PATH TEXT: bring a place to TEXT, and see whether it is; sets `reason`
put() {
    case $1 in
    /dev/shm) reason=$(mount -o "remount,$2" "$root$1" 2>&1) ;;
    /proc/swaps) reason=$(put_swap "$2" 2>&1) ;;
    *) reason=$( (printf '%s\n' "$2" >"$root$1") 2>&1) ;;
    esac
    found=$(current "$1")
    [ "$found" = "$2" ] || { [ -n "$(bare "$2")" ] && [ "$(bare "$found")" = "$(bare "$2")" ]; }
}

put_swap() {
    had=" $(current /proc/swaps) "
    for area in $had; do
        case " $1 " in *" $area "*) ;; *) swapoff "$root$(area_name "$area")" ;; esac
    done
    for area in $1; do
        case $had in *" $area "*) continue ;; esac
        case ${area##*@} in
        -*) swapon "$root$(area_name "$area")" ;;
        *) swapon -p "${area##*@}" "$root$(area_name "$area")" ;;
        esac
    done
}

# area_name NAME@PRIORITY: /proc/swaps writes blanks and the like as \ and three octal digits
area_name() { printf '%b' "$(line "${1%@*}" | sed 's/\\\([0-7]\{3\}\)/\\0\1/g')"; }

# usable: whether something is saved for this boot, by this user alone
usable() {
    [ -f "$saved" ] || return 1
    if [ -z "$(find "$saved" -prune -user "$(id -u)" -perm 600)" ]; then
        line "$saved was not written by this user alone: look at it, and remove it" >&2
        exit 4
    fi
    [ "$(sed -n 1p "$saved")" = "$title" ] && [ "$(sed -n 2p "$saved")" = "$boot" ]
}

# replace: `saved.new` takes the place of `saved`; both go when nothing but the two first lines is left
replace() {
    if [ "$(wc -l <"$saved.new")" -gt 2 ]; then mv "$saved.new" "$saved"; else rm -f "$saved.new" "$saved"; fi
}

open_new() {
    mkdir -p "${saved%/*}" && rm -f "$saved.new" && (umask 077 && printf '%s\n%s\n' "$title" "$boot" >"$saved.new") &&
        return
    line "$saved cannot be written: nothing is changed; run it as root" >&2
    exit 4
}

apply() {
    open_new
    if usable; then tail -n +3 "$saved" >>"$saved.new"; fi
    settings for_keep
    replace || exit 4
    settings for_make
}

revert() {
    usable || { line "nothing to revert" && rm -f "$saved" && return; }
    lines=$(tail -n +3 "$saved" | sed -n '1!G;h;$p')
    failed=
    while read -r path text; do
        name=${path##*/}
        if ! now=$(current "$path"); then
            there "$path" || { line "$path: gone" && continue; }
        elif [ "$now" = "$text" ] || put "$path" "$text"; then
            line "$path: $now -> $text"
            continue
        fi
        line "$path was refused ${reason:-}" >&2
        failed="$path $text
$failed" refused=4
    done <<END
$lines
END
    open_new
    printf '%s' "$failed" >>"$saved.new"
    replace
}

# boot_line: what only the kernel's command line can set; printed, never written
boot_line() {
    taken=
    for range in $(tr , ' ' <"$root/sys/devices/system/cpu/cpu0/topology/thread_siblings_list" 2>/dev/null || echo 0); do
        core=${range%-*}
        while [ "$core" -le "${range#*-}" ]; do taken="$taken $core " core=$((core + 1)); done
    done
    cores= core=0
    while [ -d "$root/sys/devices/system/cpu/cpu$core" ]; do
        case "$taken 0 " in *" $core "*) ;; *) cores="$cores${cores:+,}$core" ;; esac
        core=$((core + 1))
    done
    [ -z "$cores" ] || cat <<END

Only the kernel's command line can set: isolcpus=managed_irq,domain,$cores nohz_full=$cores rcu_nocbs=$cores
add it to GRUB_CMDLINE_LINUX_DEFAULT in /etc/default/grub, run update-grub and reboot (where there is grubby:
grubby --update-kernel=ALL --args=…). tune never edits the boot loader: a mistake there leaves a machine that
does not boot, and only a reboot could revert it.
END
}

case ${1:-show} in
show) settings for_show && boot_line ;;
apply) apply ;;
revert) revert ;;
*) sed -n '2,6s/^# \{0,1\}//p' "$0" && exit 2 ;;
esac
exit "$refused"
