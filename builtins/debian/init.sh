# Process 1 of a contained program's namespaces. It hides the machine's mounts,
# processes and name, passes TERM on to everybody, and ends with the status of the
# program; whatever that left running ends with it.
mount --make-rprivate / && mount -t proc proc /proc && echo localhost >/proc/sys/kernel/hostname || exit 125
if [ "${B9_REGISTER-}" ]; then
	eval "$B9_REGISTER"
	# Where something is mounted below it, it can't be shown to the new root alone.
	case "${TMPDIR-}" in /dev/shm/*) ;; *) mount -t tmpfs -o mode=1777 b9 /dev/shm ;; esac
fi
unset B9_REGISTER
trap 'stop=1; kill -TERM -1 2>/dev/null' TERM
"$@" </dev/null &
child=$!
wait "$child"; status=$?
while [ "${stop-}" ] && kill -0 "$child" 2>/dev/null; do wait "$child"; status=$?; done
exit "$status"
