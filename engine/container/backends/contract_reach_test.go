package backends

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/container"
)

// everyRight are the capabilities that reach beyond a container, or would.
var everyRight = []string{
	"sys_admin", "sys_module", "sys_rawio", "sys_ptrace", "sys_pacct", "sys_boot", "sys_time", "sys_tty_config",
	"mac_override", "mac_admin", "syslog", "wake_alarm", "block_suspend", "audit_control", "audit_read", "perfmon",
	"bpf", "checkpoint_restore", "dac_read_search", "net_admin",
}

// reachFiles tries, with files, what changes the kernel of the host, and prints what
// could be done. What it writes is what is there.
const reachFiles = `
for t in debugfs tracefs securityfs configfs fusectl pstore efivarfs nfsd resctrl devtmpfs selinuxfs smackfs; do
	mkdir -p /fs/$t; mount -t $t none /fs/$t 2>/dev/null && echo mounted $t
done
mkdir -p /fs/binfmt /fs/v1 /fs/proc /fs/sys /fs/own
mount -t binfmt_misc none /fs/binfmt 2>/dev/null && echo ':ID:M::b9-ID::/bin/false:' >/fs/binfmt/register
mount -t cgroup -o devices none /fs/v1 2>/dev/null
for f in $(find /fs/v1 -name devices.allow); do echo a >$f; done 2>/dev/null
mknod /loop b 7 0; (exec 3</loop) 2>/dev/null && echo opened a loop device
mount -t proc proc /fs/proc 2>/dev/null
mount -t sysfs sysfs /fs/sys 2>/dev/null
unshare -n mount -t sysfs sysfs /fs/own 2>/dev/null
mount --rbind / /fs/own 2>/dev/null
for at in /proc/sys /proc/sysrq-trigger /proc/irq /proc/fs /proc/bus /proc/kcore /sys /sys/firmware /source /fs/own/proc/sys /fs/own/sys; do
	mount -o remount,rw,bind $at; umount $at; umount -l $at
done 2>/dev/null
(echo >/source/changed) 2>/dev/null && echo changed a source
again() { [ -e $1 ] && v=$(cat $1 2>/dev/null) && echo "$v" >$1 && echo wrote $1; }
for p in /proc /fs/proc /fs/own/proc; do
	again $p/sys/kernel/core_pattern; again $p/sys/vm/swappiness; [ -e $p/sysrq-trigger ] && echo h >$p/sysrq-trigger && echo asked $p/sysrq-trigger
	for f in $p/irq/*/smp_affinity; do again $f && break; done
done 2>/dev/null
for s in /sys /fs/sys /fs/own/sys; do again $s/block/loop0/queue/read_ahead_kb; again $s/kernel/mm/ksm/run; done 2>/dev/null
`

// reachCalls tries system calls whose arguments the kernel refuses after it has looked
// whether the caller may, and prints those that it may.
const reachCalls = `
use constant { EPERM => 1, EACCES => 13, ENOSYS => 38 };
sub try { my ($name, @call) = @_; $! = 0; my $got = syscall(shift @call, @call); print "$name: ", $got < 0 ? $! : "done", "\n" if $got >= 0 || !grep { $! == $_ } EPERM, EACCES, ENOSYS; }
my $zero = "\0" x 512;
my $tick = pack("L x4 q11", 0x4000, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, -1) . $zero; # ADJ_TICK, of a length that is none
try("adjtimex", 159, $tick);
try("settimeofday", 164, 0, pack("l2", 100000, 0));
try("init_module", 175, $zero, 0, $zero);
try("delete_module", 176, my $none = "b9-none", 0);
try("kexec_load", 246, 0, 0, 0, 0);
try("reboot", 169, 0, 0, 0, 0);
try("acct", 163, my $absent = "/absent");
try("syslog", 103, 8, 0, 0);
try("quotactl", 179, 0x80000800, my $disk = "/dev/disk", 0, $zero); # Q_SETQUOTA
try("iopl", 172, 3);
try("ioperm", 173, 0x80, 1, 1);
try("perf_event_open", 298, pack("L2 x120", 1, 128), -1, 0, -1, 0);
try("bpf", 321, 5, pack("L x4 Q x112", 0xff, 0), 128); # a program of no type
try("fanotify_init", 300, 4, 0);
try("vhangup", 153) if 0; # ends its own terminal
open(my $share, "<", "/share") or die;
try("thaw", 16, fileno($share), 0xC0045878, 0); # FITHAW
try("open_by_handle_at", 304, fileno($share), pack("Ll x128", 8, 1), 0);
open(my $ns, "<", "/proc/1/ns/mnt") and print "the mounts of process 1\n";
try("pidfd_getfd", 438, syscall(434, 1, 0), 0, 0);
opendir(my $root, "/proc/1/root/") and print "the root of process 1\n";
`

// testHostKernel tries what capabilities stand for, with all of them, and with those
// that every script has, also as root of a user namespace that it makes: nothing of it
// reaches the host's kernel.
func testHostKernel(t *testing.T, w *world) {
	needTool(t, "perl")
	id := newID()
	formats := filepath.Join(hostFormats(t), id)
	text := strings.ReplaceAll(reachFiles, "ID", id) + "perl -e '" + reachCalls + "'\nexit 0"
	for shell, capabilities := range map[string][]string{"sh": everyRight, "busybox sh": nil, "unshare -Urm sh": nil} {
		r, image := w.script(t, "cat >/try <<'END'\n"+text+"\nEND\nmknod /dev/disk b $(/usr/bin/stat -c '%Hd %Ld' /share)\nexec "+shell+" /try")
		r.spec.Capabilities = capabilities
		r.spec.Mounts = append(r.spec.Mounts, container.Mount{Source: t.TempDir(), Target: "/share", Kind: container.Dir},
			container.Mount{Source: t.TempDir(), Target: "/source", Kind: container.Dir, ReadOnly: true})
		r.withHostTools()
		if got := r.output(t); got != "" {
			t.Errorf("%s could do:\n%s", shell, got)
		}
		checkImageClean(t, image)
	}
	if data, err := os.ReadFile(formats); err == nil {
		t.Errorf("registered on the host: %s", data)
		if err := os.WriteFile(formats, []byte("-1"), 0); err != nil {
			t.Error(err)
		}
	}
}

// hostFormats is a directory that shows what the host's kernel has registered in
// binfmt_misc, and that keeps what is registered as most machines do.
func hostFormats(t *testing.T) string {
	t.Helper()
	fs, err := unix.Fsopen("binfmt_misc", unix.FSOPEN_CLOEXEC)
	if err != nil {
		t.Skipf("binfmt_misc: %v", err)
	}
	defer unix.Close(fs)
	if err := unix.FsconfigCreate(fs); err != nil {
		t.Fatal(err)
	}
	tree, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(tree) })
	return fmt.Sprintf("/proc/self/fd/%d", tree)
}

// testOwnRights holds what a script with such a capability has for itself: its own
// network, mounts, processes and devices, ids, and file capabilities.
func testOwnRights(t *testing.T, w *world) {
	const text = `set -e
ip link set lo mtu 1000 && echo network
httpd -p 80 && echo port
ping -c 1 127.0.0.1 >/dev/null && echo ping
hostname other && test $(hostname) = other && echo name
mkdir -p /m/a /m/b /m/c /m/d && mount -t tmpfs none /m && mkdir /m/a /m/b /m/c /m/d
mount -t overlay none -o lowerdir=/m/a,upperdir=/m/b,workdir=/m/c /m/d && echo layer
mount --bind /bin /m/a && /m/a/true && mount -o remount,bind,ro /m/a && umount /m/a && echo bound
mkdir -p /jail/bin /jail/proc && cp /bin/busybox /jail/bin && mount --rbind /proc /jail/proc && chroot /jail /bin/busybox pidof busybox >/dev/null && echo jail
umount -l /jail/proc
mknod /node b 7 0 && chown 1234:54321 /node && test "$(stat -c %u:%g:%t /node)" = 1234:54321:7 && echo node
su ann -c id | grep -c uid=1000`
	for _, network := range []string{container.NetworkNone, container.NetworkNAT} {
		r, image := w.script(t, text)
		r.spec.Network, r.spec.Capabilities = network, everyRight
		if got, want := r.output(t), "network\nport\nping\nname\nlayer\nbound\njail\nnode\n1\n"; got != want {
			t.Errorf("network %s: got %q; %s", network, got, r.err.String())
		}
		checkImageClean(t, image)
	}
}

// testHostGroups looks for the host's control groups, with all capabilities and with
// those that every script has, in namespaces of its own too. A group that it makes is
// below its own, and goes with the run.
func testHostGroups(t *testing.T, w *world) {
	id := newID()
	text := `mkdir /cg; try() {
	for c in memory cpu pids blkio freezer devices name=systemd; do
		mount -t cgroup -o $c none /cg 2>/dev/null && { echo $1: mounted $c; mkdir /cg/` + id + ` && echo made a group; umount /cg; }
	done
}
case $1 in
"") try here
	for flags in -m -mC -UrmC; do /usr/bin/unshare $flags /bin/sh /try inside; done 2>/dev/null;;
*) try inside;;
esac
exit 0`
	for _, capabilities := range [][]string{nil, everyRight} {
		r, _ := w.script(t, "cat >/try <<'END'\n"+text+"\nEND\nsh /try")
		r.spec.Capabilities = capabilities
		r.withHostTools()
		if got := r.output(t); got != "" {
			t.Errorf("%d capabilities more: %s", len(capabilities), got)
		}
	}
	err := filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Name() == id {
			t.Errorf("left: %s", path)
			return os.Remove(path)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil // somebody else's
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
