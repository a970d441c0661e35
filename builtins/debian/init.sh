# Process 1 of a contained program's namespaces. It hides the machine's mounts,
# processes and name, passes TERM on to everybody, and ends with the status of the
# program; whatever that left running ends with it.
mount --make-rprivate / && mount -t proc proc /proc && echo localhost >/proc/sys/kernel/hostname || exit 125
trap 'stop=1; kill -TERM -1 2>/dev/null' TERM
"$@" </dev/null &
child=$!
wait "$child"; status=$?
while [ "${stop-}" ] && kill -0 "$child" 2>/dev/null; do wait "$child"; status=$?; done
exit "$status"
