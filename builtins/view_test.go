package builtins

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"b9.build/b9/builtins/lang"
	"b9.build/b9/builtins/share"
	"b9.build/b9/engine"
	"b9.build/b9/engine/container"
	"b9.build/b9/engine/store"
)

// viewCalls has, for every kind of action without its version, calls of its operation that give it
// sources of the workspace wherever it takes files or directories; or why none
// of what it takes can be one.
func viewCalls() map[string]string {
	return map[string]string{
		"bootstrap":     "needs an archive of packages; it reads the bytes of its keyring",
		"archive-state": "takes no file",
		"secret":        "its file is read for its bytes alone, and has another key in each store",
		"boot-files":    `boot_files(name = "booting", cmdline = "quiet", image = image(content = tree(files = {"boot/vmlinuz-6.1": "src/k.efi", "boot/initrd.img-6.1": "src/a.txt", "usr/lib/systemd/boot/efi/systemd-bootx64.efi": "src/k.efi"})))`,
		"boot_test":     "takes a machine that a step made, of which it reads files alone",
		"canonical":     `canonical(name = "laid", image = "ext4.raw")`,
		"fetch":         "takes no file",
		"shared":        "takes no file",
		"cloud_init":    `cloud_init(name = "seed", user_data = "user.yaml", meta_data = "meta.yaml", network_config = "net.yaml", vendor_data = "user.yaml", formats = ["iso", "vfat", "dir"], files = {"motd": "src/a.txt"})`,
		"convert":       `convert(name = "converted", image = "ext4.raw", format = "qcow2")`,
		"digest":        `template(name = "digested", content = "${x}", vars = {"x": digest(file = "src/a.txt")})`,
		"disk":          `disk(name = "whole", size = "64M", boot_code = "src/a.txt", partitions = [part(image = "ext4.raw")])`,
		"encode":        `merge_yaml(name = "encoded", inputs = [{"a": base64(file = "src/a.txt"), "b": gzip(file = "src/a.txt")}])`,
		"erlang_config": `erlang_config(name = "erlang", inputs = ["sys.config"])`,
		"file":          `file(name = "filed", src = "src/run")`,
		"files":         `files(name = "taken_out", image = "ext4.raw", patterns = "/f")`,
		"import-image": `image(name = "imported", source = "over.qcow2", backing = ["ext4.raw"])
image(name = "imported_extents", source = "flat.vmdk", extents = {"flat-flat.vmdk": "ext4.raw"})`,
		"lxc_exec": `lxc_exec(name = "ran", images = {"/": "ext4.raw"}, script = "src/run", shares = {"/ro": "src", "/rw": writable(src = "src"), "/all": ".", "/out": writable()}, network = "none")
lxc_exec(name = "listed", images = {"/": "ext4.raw"}, script = ["true"], shares = {"/out": writable()}, network = "none")`,
		"make-btrfs": `image(name = "filled_btrfs", fs = "btrfs", content = "src")`,
		"make-image": `image(name = "filled", content = "src")
image(name = "filled_all", content = ".")
image(name = "filled_tar", content = "src.tar")
image(name = "filled_iso", fs = "iso9660", content = "src")
image(name = "filled_squashfs", fs = "squashfs", content = "src")
image(name = "filled_erofs", fs = "erofs", content = "src")
image(name = "filled_f2fs", fs = "f2fs", content = "src")
image(name = "filled_xfs", fs = "xfs", content = "src")
image(name = "filled_vfat", fs = "vfat", size = "34M", content = "src/sub")`,
		"merge_yaml": `merge_yaml(name = "merged", inputs = ["user.yaml"])`,
		"member":     "takes a directory that a step made",
		"overlay": `overlay(name = "overlaid", image = "ext4.raw")
overlay(name = "different", image = "disk.raw", differences_from = "ext4.raw")`,
		"partition": `partition(name = "taken", image = "disk.raw", number = 1)`,
		"replace":   `replace(name = "exchanged", image = "disk.raw", number = 1, content = "ext4.raw")`,
		"resize":    `resize(name = "resized", image = "ext4.raw", size = "32M")`,
		"share":     `share(name = "published", image = "ext4.raw", version = "1")`,
		"shrink":    `shrink(name = "shrunk", image = "ext4.raw")`,
		"sign_efi":  "needs a key and a certificate; it reads the bytes of programs, and a signature tells the time",
		"size":      `template(name = "sized", content = "${x}", vars = {"x": size(file = "src/a.txt")})`,
		"template":  `template(name = "expanded", src = "src/a.txt", vars = {"x": "src/b.txt"})`,
		"tree": `tree(name = "put", files = {"f": "src/run", "d": "src"}, srcs = ["src/a.txt"])
tree(name = "put_all", files = {".": "."})
tree(name = "followed", files = {"d": "src"}, follow = ["d/link"])`,
		"virtual_machine": `virtual_machine(name = "machine", disks = ["ext4.raw"], seed = "ext4.raw", kernel = "src/k.efi", initrd = "src/b.txt", shares = {"src": "src"})`,
		"verity":          `verity(name = "hashed", image = "ext4.raw")`,
		"uki":             `uki(name = "unified", kernel = "src/k.efi", stub = "src/k.efi", initrd = ["src/a.txt", "src/b.txt"], os_release = "src/a.txt", splash = "src/run", devicetree = "src/b.txt", cmdline = "quiet")`,
	}
}

// TestEveryActionUsesWhatIsHashed builds a call of every kind of action in two
// checkouts whose files are the same to a key, and differ in whatever else a
// file has. Keys and results are the same.
func TestEveryActionUsesWhatIsHashed(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("owners need root")
	}
	calls := viewCalls()
	var build strings.Builder
	for _, kind := range slices.Sorted(maps.Keys(Actions())) {
		name, _, _ := strings.Cut(kind, "/")
		text, ok := calls[name]
		if !ok {
			t.Errorf("%s is not in the table: add calls that give it sources, or why that can't be", kind)
		}
		if strings.Contains(text, "(") {
			fmt.Fprintln(&build, text)
		}
	}
	checkEveryParameter(t, build.String())
	prepared := prepareSources(t)
	type made struct{ key, result store.Digest }
	var seen [2]map[string]made
	for i := range seen {
		c := newCheckout(t, prepared, build.String(), i == 1)
		seen[i] = map[string]made{}
		for ref, a := range c.build(t, "//:every") {
			seen[i][ref] = made{a.Key(), a.Digest()}
		}
	}
	for _, ref := range slices.Sorted(maps.Keys(seen[0])) {
		a, b := seen[0][ref], seen[1][ref]
		if a.key != b.key {
			t.Errorf("%s has another key in the second checkout", ref)
		}
		if a.result != b.result && ref != "//:published" { // which says when that was
			t.Errorf("%s comes out otherwise in the second checkout", ref)
		}
	}
	if len(seen[0]) < 30 {
		t.Errorf("only %d results were compared", len(seen[0]))
	}
}

// checkEveryParameter holds the calls to the parameters that take files or directories.
func checkEveryParameter(t *testing.T, calls string) {
	t.Helper()
	for _, op := range Operations(Settings{}) {
		for _, p := range op.AllParams() {
			takes := p.Type | p.Type>>16 | p.Type>>32
			// What a step follows is asked for its archive's state, and never read; what is signed has another key in each store.
			if takes&(lang.File|lang.Tree|lang.WritableTree) == 0 || op.Name == "bootstrap" || op.Name == "group" || op.Name == "sign_efi" || op.Name == "boot_test" || p.Name == "follows" {
				continue
			}
			given := regexp.MustCompile(`(?m)\b` + op.Name + `\(.*\b` + p.Name + ` = `)
			if !given.MatchString(calls) {
				t.Errorf("no call of %s() in the table gives %s=", op.Name, p.Name)
			}
		}
	}
}

// prepareSources makes the images that the calls start from.
func prepareSources(t *testing.T) map[string][]byte {
	t.Helper()
	files := map[string][]byte{
		"src/a.txt": []byte("text\n"), "src/b.txt": []byte("text\n"), "src/sub/c": []byte("text\n"),
		"src/k.efi": []byte(efiProgram(t)), "src/run": []byte("#!/bin/sh\ntrue\n"), "user.yaml": []byte("#cloud-config\npackages: [vim]\n"), "meta.yaml": []byte("local-hostname: a\n"), "net.yaml": []byte("version: 2\nethernets: {eth0: {dhcp4: true}}\n"), "sys.config": []byte("[].\n"),
	}
	b := newBuilder(t, map[string]string{"in/f": "x", "B9BUILD.star": `
image(name = "ext4", size = "16M", content = "in")
overlay(name = "over", image = ":ext4", backing = "ext4.raw")
disk(name = "disk", size = "64M", partitions = [part(image = ":ext4", size = "32M")])
group("every", targets = [":ext4", ":over", ":disk"])
`})
	c := &checkout{root: b.root, st: b.st}
	results := c.build(t, "//:every")
	for name, ref := range map[string]string{"ext4.raw": "//:ext4", "over.qcow2": "//:over[overlay]", "disk.raw": "//:disk"} {
		a := results[ref]
		if a == nil {
			for have := range results {
				if strings.HasPrefix(have, ref) {
					a = results[have]
				}
			}
		}
		data, err := a.ReadAll(1 << 30)
		if err != nil {
			t.Fatal(err)
		}
		files[name] = data
	}
	files["flat.vmdk"] = []byte("# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\ncreateType=\"monolithicFlat\"\n\nRW 32768 FLAT \"flat-flat.vmdk\" 0\n")
	tar, err := exec.Command("tar", "-C", filepath.Join(b.root, "in"), "-cf", "-", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	files["src.tar"] = tar
	return files
}

// checkout is one directory with the sources, and a store.
type checkout struct {
	root    string
	st      *store.Store
	backend container.Backend // nil is a lister
	sources map[string]string
}

// newCheckout writes the sources, by another user at another time if other is
// set, with everything that a file can have and a key has not.
func newCheckout(t *testing.T, files map[string][]byte, build string, other bool) *checkout {
	t.Helper()
	b := newBuilder(t, map[string]string{"B9BUILD.star": build + "group(\"every\", targets = [" + targetsOf(build) + "])\n"})
	for name, data := range files {
		full := filepath.Join(b.root, name)
		check(t, os.MkdirAll(filepath.Dir(full), 0o755))
		check(t, os.WriteFile(full, data, 0o644))
	}
	check(t, os.Symlink("a.txt", filepath.Join(b.root, "src/link")))
	check(t, os.Symlink("/etc/nowhere", filepath.Join(b.root, "src/dangling")))
	check(t, os.Chmod(filepath.Join(b.root, "src/run"), 0o755))
	if other {
		disguise(t, b.root)
	}
	return &checkout{root: b.root, st: b.st}
}

// targetsOf lists the names that are given in calls, as labels.
func targetsOf(build string) string {
	var labels []string
	for _, m := range regexp.MustCompile(`name = "([a-z0-9_]+)"`).FindAllStringSubmatch(build, -1) {
		labels = append(labels, `":`+m[1]+`"`)
	}
	return strings.Join(labels, ", ")
}

// capability lets a program bind to low ports: CAP_NET_BIND_SERVICE, effective.
const capability = "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// userACL lets user 1000 write.
const userACL = "\x02\x00\x00\x00\x01\x00\x06\x00\xff\xff\xff\xff\x02\x00\x07\x00\xe8\x03\x00\x00\x04\x00\x04\x00\xff\xff\xff\xff\x10\x00\x07\x00\xff\xff\xff\xff\x20\x00\x04\x00\xff\xff\xff\xff"

// disguise changes whatever does not count about the files below root.
func disguise(t *testing.T, root string) {
	t.Helper()
	check(t, os.Remove(filepath.Join(root, "src/b.txt")))
	check(t, os.Link(filepath.Join(root, "src/a.txt"), filepath.Join(root, "src/b.txt")))
	check(t, os.Remove(filepath.Join(root, "src/sub/c")))
	check(t, os.Link(filepath.Join(root, "src/a.txt"), filepath.Join(root, "src/sub/c")))
	when := time.Date(2001, 2, 3, 4, 5, 6, 7, time.UTC)
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		check(t, err)
		check(t, os.Lchown(file, 1234, 5678))
		ts := unix.NsecToTimespec(when.UnixNano())
		if d.Type()&fs.ModeSymlink == 0 {
			info, err := d.Info()
			check(t, err)
			mode := info.Mode().Perm() | 0o020&^0o004
			if d.IsDir() {
				mode |= fs.ModeSetgid
			}
			check(t, unix.Setxattr(file, "user.note", []byte("mine"), 0))
			check(t, unix.Setxattr(file, "trusted.note", []byte("mine"), 0))
			if err := unix.Setxattr(file, "system.posix_acl_access", []byte(userACL), 0); err != nil && err != unix.EOPNOTSUPP {
				t.Fatal(err)
			}
			if !d.IsDir() {
				check(t, unix.Setxattr(file, "security.capability", []byte(capability), 0))
			}
			check(t, os.Chmod(file, mode))
		}
		return unix.UtimesNanoAt(unix.AT_FDCWD, file, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
	})
	check(t, err)
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// build makes a target and returns its results by what they are called.
func (c *checkout) build(t *testing.T, target string) map[string]*engine.Artifact {
	t.Helper()
	images := share.NewImages(share.Config{Local: func() (*share.LocalImages, error) { return share.OpenLocal(c.st) }}, c.root)
	made, err := c.try(t, images, target)
	check(t, err)
	return made
}

func (c *checkout) try(t *testing.T, images *share.Images, target string) (map[string]*engine.Artifact, error) {
	t.Helper()
	w, err := lang.Open(t.Context(), lang.Config{Root: c.root, Sources: c.sources, Operations: Operations(Settings{Shared: images})})
	check(t, err)
	g, err := w.Resolve(t.Context(), []string{target})
	if err != nil {
		return nil, err
	}
	backend := c.backend
	if backend == nil {
		backend = lister{}
	}
	eng := engine.New(engine.Config{
		Store: c.st, Services: []any{images},
		Backend: func(context.Context) (container.Backend, error) { return backend, nil },
	})
	defer eng.Close()
	result, err := eng.Build(t.Context(), g.Targets[0].Refs...)
	if err != nil {
		return nil, err
	}
	made := map[string]*engine.Artifact{}
	for _, ref := range g.Targets[0].Refs {
		made[ref.String()] = result.Artifact(ref)
	}
	return made, nil
}

// lister is a backend whose every command writes into the directory for /out
// what can be seen of all directories.
type lister struct{}

func (lister) Name() string { return "lister" }

func (lister) Usable(context.Context) error { return nil }

func (lister) Probe(context.Context) (container.Features, error) { return container.Features{}, nil }

func (lister) Reap(context.Context) error { return nil }

func (lister) Run(_ context.Context, spec container.Spec, _ container.IO) (container.Result, error) {
	var seen, out string
	for _, m := range spec.Mounts {
		if m.Kind != container.Dir {
			continue
		}
		if m.Target == "/out" {
			out = m.Source
		}
		text, err := listing(m.Source)
		if err != nil {
			return container.Result{}, err
		}
		seen += "== " + m.Target + "\n" + text
	}
	at := time.Unix(0, 0)
	file := filepath.Join(out, "seen")
	if err := os.WriteFile(file, []byte(seen), 0o644); err != nil {
		return container.Result{}, err
	}
	return container.Result{}, errors.Join(os.Chtimes(file, at, at), os.Chtimes(out, at, at))
}

// listing is all that can be seen of a directory but for inode numbers.
func listing(dir string) (string, error) {
	var b strings.Builder
	err := filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(file, &st); err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, file)
		names := make([]byte, 4096)
		n, err := unix.Llistxattr(file, names)
		if err != nil {
			return err
		}
		to, _ := os.Readlink(file)
		links := st.Nlink
		if d.IsDir() {
			links = 0 // counts directories on some file systems
		}
		data, _ := os.ReadFile(file)
		_, err = fmt.Fprintf(&b, "%s %o %d:%d %d %d %q %q %x\n", rel, st.Mode, st.Uid, st.Gid, st.Mtim.Nano(), links, sortedNames(names[:n]), to, sha256.Sum256(data))
		return err
	})
	return b.String(), err
}

// sortedNames sorts names that each end in a zero byte.
func sortedNames(list []byte) string {
	names := strings.SplitAfter(string(list), "\x00")
	slices.Sort(names)
	return strings.Join(names, "")
}

// TestSourcesLookTheSame holds what a container sees of a source directory to
// what the documentation says of it.
func TestSourcesLookTheSame(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("owners need root")
	}
	c := newCheckout(t, prepareSources(t), `lxc_exec(name = "ran", images = {"/": "ext4.raw"}, script = "src/run", shares = {"/ro": "src", "/rw": writable("src"), "/out": writable()})`+"\n", true)
	a := c.build(t, "//:every")["//:ran[/out]"]
	dir := filepath.Join(t.TempDir(), "out")
	check(t, a.Fork(t.Context(), dir))
	seen, err := os.ReadFile(filepath.Join(dir, "seen"))
	check(t, err)
	text := fmt.Sprintf("%x", sha256.Sum256([]byte("text\n")))
	for _, at := range []string{"/ro", "/rw"} {
		_, rest, _ := strings.Cut(string(seen), "== "+at+"\n")
		list, _, _ := strings.Cut(rest, "== ")
		for _, want := range []string{
			". 40755 0:0 0 0 \"\" \"\" ", "a.txt 100644 0:0 0 1 \"\" \"\" " + text, "b.txt 100644 0:0 0 1 \"\" \"\" " + text,
			"run 100755 0:0 0 1 \"\" \"\" ", "link 120777 0:0 0 1 \"\" \"a.txt\" ", "dangling 120777 0:0 0 1 \"\" \"/etc/nowhere\" ", "sub 40755 0:0 0 0 ",
		} {
			if !strings.Contains("\n"+list, "\n"+want) {
				t.Errorf("%s has no line %q", at, want)
			}
		}
		if t.Failed() {
			t.Logf("%s shows\n%s", at, list)
		}
	}
	if !strings.Contains(string(seen), "== /.b9\n. 40755 0:0 0 0 \"\" \"\" ") {
		t.Errorf("the script's directory:\n%s", seen)
	}
}
