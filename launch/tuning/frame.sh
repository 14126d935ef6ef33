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
@SETTINGS@
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
@BOOT@
END
}

case ${1:-show} in
show) settings for_show && boot_line ;;
apply) apply ;;
revert) revert ;;
*) sed -n '2,6s/^# \{0,1\}//p' "$0" && exit 2 ;;
esac
exit "$refused"
