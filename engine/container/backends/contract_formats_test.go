package backends

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/container"
)

// ways are those to a file system that is not ext4: what the kernel offers, and the
// user space, whether the kernel has a driver or not.
func (w *world) ways(t *testing.T) map[string]container.Backend {
	return map[string]container.Backend{
		"kernel": w.backend,
		"user space": openWith(t, w.backend.Name(), container.Config{
			UserSpace: []string{"vfat", "iso9660", "squashfs"},
		}),
	}
}

// formatTree is a root file system with what only some file systems hold.
func formatTree(t *testing.T) string {
	t.Helper()
	dir := busyboxTree(t, "deep/er", "mnt")
	large := make([]byte, 3<<20+17)
	for i := range large {
		large[i] = byte(rand.Uint32())
	}
	write(t, filepath.Join(dir, "large"), large, 0o644)
	write(t, filepath.Join(dir, "deep/er/A longer Name, with Case.txt"), []byte("text\n"), 0o640)
	write(t, filepath.Join(dir, "empty"), nil, 0o444)
	for _, err := range []error{
		os.Symlink("../large", filepath.Join(dir, "deep/link")),
		os.Link(filepath.Join(dir, "large"), filepath.Join(dir, "twin")),
		os.Chown(filepath.Join(dir, "deep/er"), 1000, 29),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// readFormats make images that are only read.
func readFormats() map[string][]string {
	return map[string][]string{
		"squashfs": {"mksquashfs", "DIR", "IMAGE", "-quiet", "-no-progress", "-noappend"},
		// whose coder the kernel's driver never has
		"squashfs in lzma": {"mksquashfs", "DIR", "IMAGE", "-quiet", "-no-progress", "-noappend", "-comp", "lzma"},
		"iso9660":          {"genisoimage", "-quiet", "-R", "-o", "IMAGE", "DIR"},
	}
}

func makeFormat(t *testing.T, args []string, dir string) string {
	t.Helper()
	needTool(t, args[0])
	image := filepath.Join(t.TempDir(), "made.img")
	line := slices.Clone(args)
	for i, a := range line {
		switch a {
		case "DIR":
			line[i] = dir
		case "IMAGE":
			line[i] = image
		}
	}
	command(t, line[0], line[1:]...)
	return image
}

// survey prints what a tree holds. Sizes of directories are each file system's own.
const survey = `cd $1; ls -a . deep; find . ! -type d | sort | xargs stat -c '%n %F %a %u:%g %s %Y'; find . -type d | sort | xargs stat -c '%n %a %u:%g %Y'
cat "deep/er/A longer Name, with Case.txt"; md5sum large deep/link twin; readlink deep/link`

// testReadFormats has them as roots and elsewhere.
func testReadFormats(t *testing.T, w *world) {
	for kind, args := range readFormats() {
		tree := formatTree(t)
		image := makeFormat(t, args, tree)
		before := fileDigest(t, image)
		direct := script(w.backend, imageOf(t, busyboxTree(t)), strings.ReplaceAll(survey, "$1", "/there"))
		direct.spec.Mounts = append(direct.spec.Mounts, container.Mount{Source: tree, Target: "/there", Kind: container.Dir})
		want := direct.output(t)
		for way, b := range w.ways(t) {
			name := kind + " by the " + way
			there := script(b, w.root, strings.ReplaceAll(survey, "$1", "/there")+"\ntouch /there/x /there/empty 2>&1; mkdir /there/deep/x 2>&1; rm /there/large 2>&1")
			there.spec.Mounts[0].ReadOnly = true
			there.spec.Mounts = append(there.spec.Mounts, container.Mount{Source: image, Target: "/there"})
			_ = there.do(t)
			got := there.out.String()
			if head, _, _ := strings.Cut(got, "touch: "); head != want {
				t.Errorf("%s:\n%s\nwant\n%s", name, head, want)
			}
			if n := strings.Count(got, "Read-only file system"); n != 4 {
				t.Errorf("%s: %d refusals:\n%s", name, n, got)
			}
			root := script(b, image, `set -e; hostname; grep -c localhost /etc/hosts; cat /added/point/f; id -un; test ! -w /etc; ! touch /x 2>/dev/null; ! touch /etc/hosts 2>/dev/null; ls /lost 2>/dev/null || echo end`)
			share := t.TempDir()
			write(t, filepath.Join(share, "f"), []byte("shared\n"), 0o644)
			root.spec.Mounts = append(root.spec.Mounts, container.Mount{Source: share, Target: "/added/point", Kind: container.Dir, ReadOnly: true})
			root.spec.Hostname, root.spec.User, root.spec.Empty = "box", "ann", []string{"/run", "/tmp"}
			if got := root.output(t); got != "box\n1\nshared\nann\nend\n" {
				t.Errorf("%s as the root: %q", name, got)
			}
			if fileDigest(t, image) != before {
				t.Errorf("%s: the image changed", name)
			}
		}
	}
}

// testTrusted lists attributes of a squashfs: those of root of the machine are for
// nobody in a container, whether the kernel shows them or b9.
func testTrusted(t *testing.T, w *world) {
	needTool(t, "mksquashfs", "perl")
	dir := t.TempDir()
	write(t, filepath.Join(dir, "f"), nil, 0o644)
	for _, name := range []string{"user.one", "trusted.two", "user.three"} {
		if err := unix.Setxattr(filepath.Join(dir, "f"), name, []byte("value"), 0); err != nil {
			t.Skipf("no attributes here: %v", err)
		}
	}
	image := makeFormat(t, readFormats()["squashfs"], dir)
	for way, b := range w.ways(t) {
		for _, capabilities := range [][]string{nil, {"sys_admin"}} {
			r := script(b, w.root, `perl -e 'my ($f, $list, $value) = ("/there/f", "\0" x 1000, "\0" x 100); my $n = syscall(194, $f, $list, 1000); print join(" ", sort split(/\0/, substr($list, 0, $n)));
for (qw(user.one trusted.two)) { my $name = $_; print " ", syscall(191, $f, $name, $value, 100) }'`)
			r.spec.Mounts[0].ReadOnly = true
			r.spec.Capabilities = capabilities
			r.spec.Mounts = append(r.spec.Mounts, container.Mount{Source: image, Target: "/there"})
			r.withHostTools()
			if got := r.output(t); got != "user.one user.three 5 -1" {
				t.Errorf("by the %s, with %q: %q", way, capabilities, got)
			}
		}
	}
}

// vfatImage is an empty vfat.
func vfatImage(t *testing.T, args ...string) string {
	t.Helper()
	needTool(t, "mkfs.vfat", "fsck.vfat", "mcopy")
	image := sparse(t, 40<<20)
	command(t, "mkfs.vfat", append(args, image)...)
	return image
}

// checkVFAT checks an image with fsck.vfat, and returns its files as mtools read them.
func checkVFAT(t *testing.T, image string) map[string]string {
	t.Helper()
	command(t, "fsck.vfat", "-n", image)
	dir, files := t.TempDir(), map[string]string{}
	cmd := exec.Command("mcopy", "-s", "-n", "-m", "-i", image, "::*", dir)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("mcopy: %v\n%s", err, out)
	}
	err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		rel, _ := filepath.Rel(dir, p)
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(p)
		files[rel] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// testVFAT writes to one what scripts write, and what it refuses.
func testVFAT(t *testing.T, w *world) {
	const text = `cd /efi
mkdir -p EFI/BOOT "Ordner mit Ä"; echo $(ls -a EFI)
echo loader >EFI/BOOT/bootx64.efi
cat efi/boot/BOOTX64.EFI
echo one >"Ordner mit Ä/file"; echo two >>"Ordner mit Ä/file"
head -c 3000000 /dev/urandom >large; cp large copy; cmp large copy && echo same
mv copy EFI/moved; mv -f large EFI/moved; mv EFI/moved ef; mv ef EF; ls -d [Ee]*
cp EF tail; dd if=/dev/zero of=EF bs=1 seek=100 count=5 conv=notrunc 2>/dev/null; cmp ef tail | wc -l; rm ef tail
exec 3>open; rm open; echo gone >&3; test ! -e open && echo unlinked; exec 3>&-
ln -s a b 2>&1; ln EFI/BOOT/bootx64.efi hard 2>&1; mkfifo p 2>&1; chown 5 EFI 2>&1; chmod 4755 EFI/BOOT/bootx64.efi 2>&1
chmod 600 EFI; chmod 555 EFI/BOOT/bootx64.efi; stat -c %a EFI EFI/BOOT/bootx64.efi; chmod 600 EFI/BOOT/bootx64.efi; chmod 755 EFI/BOOT/bootx64.efi
rmdir EFI 2>&1; rmdir EFI/BOOT/bootx64.efi 2>&1; touch 'a?b' 2>&1
touch -d '2001-02-03 04:05:06' EFI/BOOT/bootx64.efi; date -u -r EFI/BOOT/bootx64.efi +%F\ %T
head -c 60000000 /dev/zero >full 2>/dev/null || echo full; rm full; df -k . | tail -n 1 | tr -s ' ' | cut -d ' ' -f 4 >free
cat >script <<END
#!/bin/sh
echo runs
END
./script; printf x >trunc; : >trunc; stat -c %s trunc; rm trunc free script`
	for way, b := range w.ways(t) {
		for _, bits := range []string{"12", "16", "32"} {
			image := vfatImage(t, "-F", bits, "-s", map[string]string{"12": "64", "16": "4", "32": "1"}[bits])
			r := script(b, w.root, text)
			r.spec.Mounts[0].ReadOnly = true
			r.spec.Env = append(r.spec.Env, "TZ=UTC")
			r.spec.Mounts = append(r.spec.Mounts, container.Mount{Source: image, Target: "/efi"})
			want := ". .. BOOT\nloader\nsame\nEFI\nef\n1\nunlinked\n" +
				"ln: b: Operation not permitted\nln: hard: Operation not permitted\nmkfifo: p: Operation not permitted\nchown: EFI: Operation not permitted\nchmod: EFI/BOOT/bootx64.efi: Operation not permitted\n" +
				"755\n555\nrmdir: 'EFI': Directory not empty\nrmdir: 'EFI/BOOT/bootx64.efi': Not a directory\ntouch: a?b: Invalid argument\n2001-02-03 04:05:06\nfull\nruns\n0\n"
			if got := r.output(t); got != want {
				t.Errorf("FAT%s by the %s: got\n%s\nwant\n%s\n%s", bits, way, got, want, r.err.String())
			}
			files := checkVFAT(t, image)
			wantFiles := map[string]string{"EFI/BOOT/bootx64.efi": "loader\n", "Ordner mit Ä/file": "one\ntwo\n"}
			if !maps.Equal(files, wantFiles) {
				t.Errorf("FAT%s by the %s: %q", bits, way, files)
			}
			ro := script(b, w.root, "cat /efi/EFI/BOOT/bootx64.efi; ! touch /efi/x 2>/dev/null")
			ro.spec.Mounts[0].ReadOnly = true
			ro.spec.Mounts = append(ro.spec.Mounts, container.Mount{Source: image, Target: "/efi", ReadOnly: true})
			before := fileDigest(t, image)
			if got := ro.output(t); got != "loader\n" || fileDigest(t, image) != before {
				t.Errorf("FAT%s by the %s, read-only: %q", bits, way, got)
			}
		}
	}
}

// testVFATRoot runs from one.
func testVFATRoot(t *testing.T, w *world) {
	for way, b := range w.ways(t) {
		image := vfatImage(t)
		busybox, err := exec.LookPath("busybox")
		if err != nil {
			t.Fatal(err)
		}
		command(t, "mmd", "-i", image, "::bin")
		command(t, "mcopy", "-i", image, busybox, "::bin/sh")
		r := script(b, image, "echo new >/file; cat /file; test -x /BIN/sh && echo none")
		if got := r.output(t); got != "new\nnone\n" {
			t.Errorf("%s: %q", way, got)
		}
		if files := checkVFAT(t, image); files["file"] != "new\n" || len(files) != 2 {
			t.Errorf("%s: %q", way, slices.Collect(maps.Keys(files)))
		}
	}
}

// testVFATPart writes to one in the middle of a file.
func testVFATPart(t *testing.T, w *world) {
	const at = 1 << 20
	for way, b := range w.ways(t) {
		part, disk := vfatImage(t), filepath.Join(t.TempDir(), "disk.img")
		data, err := os.ReadFile(part)
		if err != nil {
			t.Fatal(err)
		}
		around := bytes.Repeat([]byte{0xaa}, at)
		write(t, disk, slices.Concat(around, data, around), 0o600)
		r := script(b, w.root, "echo in >/efi/file; head -c 50000000 /dev/zero >/efi/zeros 2>/dev/null; sync")
		r.spec.Mounts[0].ReadOnly = true
		r.spec.Mounts = append(r.spec.Mounts, container.Mount{Source: disk, Target: "/efi", Offset: at, Length: int64(len(data))})
		r.output(t)
		after, err := os.ReadFile(disk)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(after[:at], around) || !bytes.Equal(after[at+len(data):], around) {
			t.Errorf("%s: bytes around the file system changed", way)
		}
		write(t, part, after[at:at+len(data)], 0o600)
		if files := checkVFAT(t, part); files["file"] != "in\n" {
			t.Errorf("%s: %q", way, slices.Collect(maps.Keys(files)))
		}
	}
}

// btrfsImage has the subvolume "@", with a root file system, and "data" in it.
func btrfsImage(t *testing.T) string {
	t.Helper()
	needTool(t, "mkfs.btrfs", "btrfs", "unshare", "mount")
	image := sparse(t, 320<<20)
	command(t, "mkfs.btrfs", "-q", image)
	command(t, "unshare", "-m", "sh", "-ec", `mount -o loop "$1" /mnt; btrfs -q subvolume create /mnt/@; btrfs -q subvolume create /mnt/@/data; cp -a "$2/." /mnt/@; echo in >/mnt/@/data/file; mkdir /mnt/top; umount /mnt`, "sh", image, busyboxTree(t, "proc", "sys", "dev"))
	return image
}

func testSubvolume(t *testing.T, w *world) {
	image := btrfsImage(t)
	r := script(w.backend, image, "ls -d /top /data; echo made >/made")
	r.spec.Mounts[0].Subvolume = "@"
	if res := r.do(t); res.Code != 0 || r.out.String() != "/data\n" {
		t.Errorf("%v: %q", res, r.out.String())
	}
	for name, want := range map[string]string{"": "/there/@/made\n/there/top\n", "@": "/there/made\n", "@/data": "/there/file\n"} {
		r := w.peek("ls -d /there/@/made /there/made /there/file /there/top 2>/dev/null; true")
		r.spec.Mounts = append(r.spec.Mounts, container.Mount{Source: image, Target: "/there", Subvolume: name})
		if got := r.output(t); got != want {
			t.Errorf("%q: %q", name, got)
		}
	}
	command(t, "btrfs", "check", "-p", image)
}

// testReadOnlyFound has roots that turn out to be read-only when they are mounted.
func testReadOnlyFound(t *testing.T, w *world) {
	needTool(t, "tune2fs")
	marked := imageOf(t, busyboxTree(t))
	command(t, "tune2fs", "-O", "read-only", marked)
	before := fileDigest(t, marked)
	snapshot := btrfsImage(t)
	command(t, "unshare", "-m", "sh", "-ec", `mount -o loop "$1" /mnt; btrfs -q subvolume snapshot -r /mnt/@ /mnt/kept; umount /mnt`, "sh", snapshot)
	share := t.TempDir()
	write(t, filepath.Join(share, "f"), []byte("shared\n"), 0o644)
	for _, m := range []container.Mount{{Source: marked}, {Source: snapshot, Subvolume: "kept"}} {
		r := script(w.backend, m.Source, "hostname; cat /added/point/f; touch /x /tmp/x 2>&1")
		r.spec.Mounts[0].Subvolume = m.Subvolume
		r.spec.Hostname, r.spec.Empty = "box", []string{"/run", "/tmp"}
		r.spec.Mounts = append(r.spec.Mounts, container.Mount{Source: share, Target: "/added/point", Kind: container.Dir, ReadOnly: true})
		res := r.do(t)
		if got := r.out.String(); res.Code == 0 || !strings.HasPrefix(got, "box\nshared\n") || strings.Count(got, "Read-only file system") != 2 {
			t.Errorf("%s: %v: %q", m.Source, res, got)
		}
		there := w.peek("cat /there/etc/passwd >/dev/null && touch /there/x 2>&1")
		m.Target = "/there"
		there.spec.Mounts = append(there.spec.Mounts, m)
		if res := there.do(t); res.Code == 0 || !strings.Contains(there.out.String(), "Read-only file system") {
			t.Errorf("%s, not as the root: %v: %q", m.Source, res, there.out.String())
		}
	}
	if fileDigest(t, marked) != before {
		t.Error("an image that is marked read-only changed")
	}
}

// testDamagedImage reads one whose data is none, and goes on.
func testDamagedImage(t *testing.T, w *world) {
	dir := t.TempDir()
	text := bytes.Repeat([]byte("text that compresses well\n"), 20_000)
	write(t, filepath.Join(dir, "file"), text, 0o644)
	image := makeFormat(t, readFormats()["squashfs"], dir)
	f, err := os.OpenFile(image, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(bytes.Repeat([]byte{0x55}, 200), 120); err != nil {
		t.Fatal(err)
	}
	r := script(w.ways(t)["user space"], w.root, "cat /there/file 2>&1 >/dev/null")
	r.spec.Mounts[0].ReadOnly = true
	r.spec.Mounts = append(r.spec.Mounts, container.Mount{Source: image, Target: "/there"})
	r.refused(t, "image "+image+": ")
	if !strings.Contains(r.out.String(), "Input/output error") {
		t.Errorf("the command saw %q", r.out.String())
	}
}

// testServedMemory reads more than the container may have.
func testServedMemory(t *testing.T, w *world) {
	if !w.features.Limits {
		t.Fatal("no limits here: the backend reports no control groups that it may use")
	}
	dir := t.TempDir()
	data := bytes.Repeat([]byte("0123456789abcdef"), 150<<20/16)
	write(t, filepath.Join(dir, "file"), data, 0o644)
	image := makeFormat(t, readFormats()["squashfs"], dir)
	r := script(w.ways(t)["user space"], w.root, "wc -c </there/file; ls /there | wc -l")
	r.spec.Mounts[0].ReadOnly, r.spec.Memory = true, 32<<20
	r.spec.Mounts = append(r.spec.Mounts, container.Mount{Source: image, Target: "/there"})
	if got := r.output(t); got != fmt.Sprintf("%d\n1\n", len(data)) {
		t.Errorf("%q", got)
	}
}

// testServedKilled kills the process that serves a container's root. Everything ends,
// and nobody waits for an answer.
func testServedKilled(t *testing.T, w *world) {
	image := makeFormat(t, readFormats()["squashfs"], busyboxTree(t, "proc", "sys", "dev"))
	mark := fmt.Sprintf("7%07d", os.Getpid())
	if w.backend.Name() == container.Libvirt {
		mark += "1"
	}
	owner := startOwner(t, w, image, mark, "squashfs")
	eventually(t, "the command runs", func() bool { return len(processesWith(mark)) > 0 })
	if loops := loopsOf(image); len(loops) != 0 {
		t.Errorf("a loop device: %v", loops)
	}
	if err := owner.Process.Signal(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = owner.Wait()
	eventually(t, "its processes end", func() bool { return len(processesWith(mark)) == 0 })
	tag := fmt.Sprintf("b9.%d.", owner.Process.Pid)
	eventually(t, "its control groups are removed", func() bool { return len(cgroupsOf(tag)) == 0 })
	script(w.backend, image, "true").output(t)
}

func testFormatsRefused(t *testing.T, w *world) {
	swap := sparse(t, 1<<20)
	needTool(t, "mkswap", "mke2fs")
	command(t, "mkswap", swap)
	for want, m := range map[string]container.Mount{
		"holds swap space, which has no files to mount":                  {Source: swap},
		`subvolume "@": image ` + w.root + ` holds ext4, and only btrfs`: {Source: w.root, Subvolume: "@"},
		`it has no subvolume "@home"`:                                    {Source: btrfsImage(t), Subvolume: "@home"},
		`"@/etc" is no subvolume`:                                        {Source: btrfsImage(t), Subvolume: "@/etc"},
	} {
		m.Target = "/there"
		r := w.peek("true")
		r.spec.Mounts = append(r.spec.Mounts, m)
		r.refused(t, want)
	}
}

// testLayer has a root that is only read, and a mount in it that is not.
func testLayer(t *testing.T, w *world) {
	image := makeFormat(t, readFormats()["squashfs"], busyboxTree(t))
	data := emptyImage(t)
	r := script(w.backend, image, "echo in >/data/deep/f; cat /proc/mounts | grep -c ' / overlay ro'; mount -o remount,rw / 2>&1")
	r.spec.Mounts = append(r.spec.Mounts, container.Mount{Source: data, Target: "/data/deep"})
	if res := r.do(t); res.Code == 0 || !strings.HasPrefix(r.out.String(), "1\n") {
		t.Errorf("%v: %q", res, r.out.String())
	}
	checkImageClean(t, data)
	if got := catImage(t, data, "/f"); got != "in\n" {
		t.Errorf("%q", got)
	}
}
