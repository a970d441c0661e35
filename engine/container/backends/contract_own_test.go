package backends

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"b9.build/b9/engine/container"
)

// ownNetworks are those that every backend has.
var ownNetworks = [...]string{container.NetworkHost, container.NetworkNone, container.NetworkNAT}

// testOwnFilesChanged runs scripts that change the files that b9 puts into a
// container, and compares what each leaves: the same, whatever network there is.
func testOwnFilesChanged(t *testing.T, w *world) {
	for name, c := range map[string]struct {
		image  map[string]string // "->" begins a symbolic link's text
		script string
		want   map[string]string // "" for none
	}{
		"untouched": {
			image: map[string]string{"etc/hosts": "10.0.0.1 own\n", "etc/resolv.conf": "->../run/stub.conf"},
			want:  map[string]string{"etc/hosts": "10.0.0.1 own\n", "etc/resolv.conf": "->../run/stub.conf", "run": ""},
		},
		"absent": {want: map[string]string{"etc/hosts": "", "etc/resolv.conf": "", "usr/sbin/policy-rc.d": "", "run": ""}},
		"written": {
			script: "echo 10.0.0.1 a >/etc/hosts; echo nameserver 10.0.0.2 >/etc/resolv.conf; echo exit 0 >/usr/sbin/policy-rc.d",
			want:   map[string]string{"etc/hosts": "10.0.0.1 a\n", "etc/resolv.conf": "nameserver 10.0.0.2\n", "usr/sbin/policy-rc.d": "exit 0\n"},
		},
		"appended": {
			image:  map[string]string{"etc/hosts": "10.0.0.1 own\n", "etc/resolv.conf": "nameserver 10.0.0.3\n"},
			script: "echo 10.0.0.2 b >>/etc/hosts; echo search x >>/etc/resolv.conf",
			want:   map[string]string{"etc/hosts": "10.0.0.1 own\n10.0.0.2 b\n", "etc/resolv.conf": "nameserver 10.0.0.3\nsearch x\n"},
		},
		"appended to none": {
			script: "echo 10.0.0.2 b >>/etc/hosts; echo search x >>/etc/resolv.conf",
			want:   map[string]string{"etc/hosts": "10.0.0.2 b\n", "etc/resolv.conf": "search x\n"},
		},
		"linked": {
			script: "ln -sf ../run/stub.conf /etc/resolv.conf; ln -sf hosts.real /etc/hosts",
			want:   map[string]string{"etc/resolv.conf": "->../run/stub.conf", "etc/hosts": "->hosts.real"},
		},
		"renamed over": {
			image:  map[string]string{"etc/hosts": "10.0.0.1 own\n"},
			script: "echo 10.0.0.4 d >/etc/new; mv /etc/new /etc/hosts; echo x >/etc/new; mv /etc/new /etc/resolv.conf",
			want:   map[string]string{"etc/hosts": "10.0.0.4 d\n", "etc/resolv.conf": "x\n", "etc/new": ""},
		},
		"edited in place": {
			image:  map[string]string{"etc/hosts": "10.0.0.1 own\n"},
			script: "sed -i s/own/mine/ /etc/hosts",
			want:   map[string]string{"etc/hosts": "10.0.0.1 mine\n"},
		},
		"removed": {
			image:  map[string]string{"etc/hosts": "10.0.0.1 own\n", "etc/resolv.conf": "nameserver 10.0.0.3\n"},
			script: "rm -f /etc/hosts /etc/resolv.conf /usr/sbin/policy-rc.d",
			want:   map[string]string{"etc/hosts": "", "etc/resolv.conf": "", "usr/sbin/policy-rc.d": ""},
		},
		"protected": {
			script: "echo nameserver 10.0.0.2 >/etc/resolv.conf; chattr +i /etc/resolv.conf; echo 10.0.0.5 e >>/etc/hosts; chattr +i /etc/hosts",
			want:   map[string]string{"etc/resolv.conf": "nameserver 10.0.0.2\n", "etc/hosts": "10.0.0.5 e\n"},
		},
		"owner changed": {
			image:  map[string]string{"etc/hosts": "10.0.0.1 own\n"},
			script: "chown -R 0:0 /etc; chmod 600 /etc/hosts",
			want:   map[string]string{"etc/hosts": "10.0.0.1 own\n"},
		},
		"own lines edited": {
			image:  map[string]string{"etc/hosts": "10.0.0.1 own\n"},
			script: "sed -i 's/^127.0.1.1.*/10.0.0.7 web/' /etc/hosts; sed -i s/101/0/ /usr/sbin/policy-rc.d",
			want:   map[string]string{"etc/hosts": "10.0.0.1 own\n10.0.0.7 web\n", "usr/sbin/policy-rc.d": "#!/bin/sh\nexit 0\n"},
		},
		"sorted": {
			image:  map[string]string{"etc/hosts": "10.0.0.1 own\n10.0.0.0 first\n"},
			script: "sort /etc/hosts >/tmp/h; cat /tmp/h >/etc/hosts",
			want:   map[string]string{"etc/hosts": "10.0.0.0 first\n10.0.0.1 own\n"},
		},
		"moved": {
			image:  map[string]string{"etc/hosts": "10.0.0.1 own\n"},
			script: "mv /etc/hosts /etc/hosts.orig; echo 10.0.0.6 f >/etc/hosts; mv /etc/resolv.conf /etc/moved || true",
			want:   map[string]string{"etc/hosts": "10.0.0.6 f\n", "etc/hosts.orig": "10.0.0.1 own\n", "etc/resolv.conf": "", "etc/moved": ""},
		},
		"directory moved": {
			image:  map[string]string{"etc/hosts": "10.0.0.1 own\n"},
			script: "mv /etc /etc.old; mkdir /etc; echo x >/etc/new",
			want:   map[string]string{"etc.old/hosts": "10.0.0.1 own\n", "etc.old/resolv.conf": "", "etc/new": "x\n", "etc/hosts": ""},
		},
		"directory behind a link": {
			script: "mv /usr/sbin /usr/other; ln -s /usr/other /usr/sbin; echo 10.0.0.2 b >>/etc/hosts; mv /etc /kept; ln -s /kept /etc",
			want:   map[string]string{"usr/other/policy-rc.d": "", "kept/hosts": "10.0.0.2 b\n", "kept/resolv.conf": ""},
		},
		"protected as they are": {
			image:  map[string]string{"etc/hosts": "10.0.0.1 own\n", "etc/resolv.conf": "->../run/stub.conf"},
			script: "for f in /etc/hosts /etc/resolv.conf; do [ -L $f ] || chattr +i $f; done",
			want:   map[string]string{"etc/hosts": "10.0.0.1 own\n", "etc/resolv.conf": "->../run/stub.conf"},
		},
		"protected directories": {
			image:  map[string]string{"etc/hosts": "10.0.0.1 own\n"},
			script: "chattr +i /etc; chattr +a /",
			want:   map[string]string{"etc/hosts": "10.0.0.1 own\n", "etc/resolv.conf": "", "proc": ""},
		},
		"directory": {
			image:  map[string]string{"etc/hosts/x": "y"},
			script: "cat /etc/hosts/x >/etc/y",
			want:   map[string]string{"etc/hosts/x": "y", "etc/y": "y"},
		},
	} {
		for _, network := range ownNetworks {
			t.Run(name+"/"+network, func(t *testing.T) {
				image := imageOf(t, ownTree(t, c.image))
				r := script(w.backend, image, "set -e; "+c.script)
				if c.script == "" {
					r = script(w.backend, image, "true")
				}
				r.spec.Network = network
				if strings.Contains(c.script, "chattr") {
					r.withHostTools()
				}
				r.output(t)
				checkImageClean(t, image)
				for file, want := range c.want {
					if got := imageFile(t, image, file); got != want {
						t.Errorf("%s is %q, want %q", file, got, want)
					}
				}
				if got := imageFile(t, image, "run/systemd/container"); got != "" {
					t.Errorf("the container's mark stays: %q", got)
				}
			})
		}
	}
}

// testOwnFilesInstalled installs packages that bring the files of the container's own, and
// takes them away again, as dpkg does it: by links, renames and removals.
func testOwnFilesInstalled(t *testing.T, w *world) {
	needTool(t, "dpkg", "dpkg-deb")
	share := t.TempDir()
	tree := filepath.Join(share, "tree")
	makeDirs(t, tree, "DEBIAN", "etc")
	write(t, filepath.Join(tree, "DEBIAN/control"), []byte("Package: names\nVersion: 1\nArchitecture: all\nMaintainer: nobody\nDescription: names\n"), 0o644)
	for _, name := range []string{"hosts", "resolv.conf"} {
		write(t, filepath.Join(tree, "etc", name), []byte("# of the package "+name+"\n"), 0o644)
	}
	command(t, "dpkg-deb", "--root-owner-group", "-b", tree, filepath.Join(share, "names.deb"))
	image := imageOf(t, ownTree(t, map[string]string{"etc/hosts": "10.0.0.1 own\n", "var/lib/dpkg/info/format": "1\n", "var/lib/dpkg/updates/tmp.i": "", "etc/resolv.conf": "nameserver 10.0.0.3\n"}))
	last := image
	for _, step := range []struct{ script, want string }{
		{"/usr/bin/dpkg --force-all -i /share/names.deb", "# of the package "},
		{"/usr/bin/dpkg --force-all -P names", ""},
	} {
		for _, network := range ownNetworks {
			installed := copyImage(t, image)
			r := script(w.backend, installed, "set -e; "+step.script)
			r.spec.Network = network
			r.spec.Mounts = append(r.spec.Mounts, container.Mount{Source: share, Target: "/share", Kind: container.Dir, ReadOnly: true})
			r.withHostTools()
			r.spec.Env = []string{"PATH=/usr/bin:/usr/sbin:/bin"}
			r.output(t)
			checkImageClean(t, installed)
			for _, name := range []string{"hosts", "resolv.conf"} {
				want := step.want
				if want != "" {
					want += name + "\n"
				}
				if got := imageFile(t, installed, "etc/"+name); got != want {
					t.Errorf("%s, network %s: /etc/%s is %q, want %q", step.script, network, name, got, want)
				}
			}
			last = installed
		}
		image = last
	}
}

// ownTree is a root of busybox and dpkg with the files.
func ownTree(t *testing.T, files map[string]string) string {
	t.Helper()
	tree := busyboxTree(t, "usr/sbin", "var/lib/dpkg")
	write(t, filepath.Join(tree, "var/lib/dpkg/status"), nil, 0o644)
	for name, content := range files {
		makeDirs(t, tree, filepath.Dir(name))
		if to, ok := strings.CutPrefix(content, "->"); ok {
			if err := os.Symlink(to, filepath.Join(tree, name)); err != nil {
				t.Fatal(err)
			}
			continue
		}
		write(t, filepath.Join(tree, name), []byte(content), 0o644)
	}
	return tree
}

// imageFile is the content of a file of an image, the text of a link after "->", or
// "" for none.
func imageFile(t *testing.T, image, name string) string {
	t.Helper()
	if !slices.Contains(listImage(t, image, "/"+filepath.Dir(name)), filepath.Base(name)) {
		return ""
	}
	stat := command(t, "debugfs", "-R", "stat /"+name, image)
	if _, link, ok := strings.Cut(stat, "Fast link dest: \""); ok {
		link, _, _ = strings.Cut(link, "\"")
		return "->" + link
	}
	if strings.Contains(stat, "Type: directory") {
		return "directory"
	}
	return catImage(t, image, "/"+name)
}

// testOwnFilesTimes looks that a script which does nothing leaves inodes, modes and
// times as they were, of the files and of their directories.
func testOwnFilesTimes(t *testing.T, w *world) {
	tree := ownTree(t, map[string]string{"etc/hosts": "10.0.0.1 own\n", "etc/resolv.conf": "nameserver 10.0.0.3\n"})
	image := imageOf(t, tree)
	facts := func() string {
		all := ""
		for _, name := range []string{"/", "/etc", "/etc/hosts", "/etc/resolv.conf", "/usr/sbin"} {
			for line := range strings.Lines(command(t, "debugfs", "-R", "stat "+name, image)) {
				if strings.Contains(line, "Inode:") || strings.Contains(line, "User:") || strings.Contains(line, "mtime:") || strings.Contains(line, "crtime:") {
					all += name + ": " + line
				}
			}
		}
		return all
	}
	before := facts()
	script(w.backend, image, "cat /etc/hosts /etc/resolv.conf").output(t)
	if after := facts(); after != before {
		t.Errorf("got\n%s\nwant\n%s", after, before)
	}
	for _, network := range ownNetworks {
		image := imageOf(t, ownTree(t, nil))
		old := modified(t, image, "/etc")
		r := script(w.backend, image, "echo nameserver 10.0.0.2 >/etc/resolv.conf")
		r.spec.Network = network
		r.output(t)
		if etc := modified(t, image, "/etc"); etc == old {
			t.Errorf("network %s: a script made /etc/resolv.conf, and the time of /etc is %s", network, etc)
		}
	}
}

// modified is the time at which a file of an image was modified.
func modified(t *testing.T, image, name string) string {
	t.Helper()
	_, rest, _ := strings.Cut(command(t, "debugfs", "-R", "stat "+name, image), "mtime: ")
	at, _, _ := strings.Cut(rest, " ")
	return at
}

// testNames resolves localhost and the own name, with every network.
func testNames(t *testing.T, w *world) {
	for _, network := range ownNetworks {
		r, _ := w.script(t, "for n in localhost a-host; do grep -qw $n /etc/hosts && ping -c 1 $n >/dev/null && echo $n; done")
		r.spec.Hostname, r.spec.Network = "a-host", network
		if got := r.output(t); got != "localhost\na-host\n" {
			t.Errorf("network %s: %q", network, got)
		}
	}
}

// testMarked looks for what tells programs that they are in a container.
func testMarked(t *testing.T, w *world) {
	r, _ := w.script(t, `echo "$container"; cat /run/systemd/container; readlink /proc/self/ns/pid; cat`)
	hold, release, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer hold.Close()
	r.io.Stdin = hold
	lines := make(lineWriter, 10)
	r.io.Stdout = lines
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.do(t)
	}()
	var got []string
	for len(got) < 3 {
		select {
		case line := <-lines:
			got = append(got, line)
		case <-done:
			t.Fatalf("it ended after %q", got)
		}
	}
	if got[0] != "b9" || got[1] != "b9" {
		t.Errorf("got %q", got)
	}
	if env := firstEnvironment(t, got[2]); !strings.Contains("\x00"+env, "\x00container=b9\x00") {
		t.Errorf("process 1 has %q", env)
	}
	release.Close()
	<-done
}

// lineWriter passes on the lines that are written to it.
type lineWriter chan string

func (l lineWriter) Write(b []byte) (int, error) {
	for line := range strings.Lines(string(b)) {
		l <- strings.TrimSuffix(line, "\n")
	}
	return len(b), nil
}

// firstEnvironment is that of process 1 of the namespace of processes.
func firstEnvironment(t *testing.T, namespace string) string {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/ns/pid")
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range all {
		proc := filepath.Dir(filepath.Dir(link))
		if to, err := os.Readlink(link); err != nil || to != namespace {
			continue
		}
		status, err := os.ReadFile(filepath.Join(proc, "status"))
		if err != nil || !strings.Contains(string(status), "\t1\nNSpgid") {
			continue
		}
		env, err := os.ReadFile(filepath.Join(proc, "environ"))
		if err != nil {
			t.Fatal(err)
		}
		return string(env)
	}
	t.Errorf("no process 1 in %s", namespace)
	return ""
}

// testFullImage enters an image that takes no byte more.
func testFullImage(t *testing.T, w *world) {
	tree := ownTree(t, map[string]string{"etc/hosts": "10.0.0.1 own\n"})
	makeDirs(t, tree, "proc", "sys", "dev", "run")
	image := imageOf(t, tree)
	script(w.backend, image, "cat /dev/zero >/fill 2>/dev/null; sync; cat /dev/zero >/fill2 2>/dev/null; true").output(t)
	r := script(w.backend, image, "grep -c own /etc/hosts; grep -c a-host /etc/hosts")
	r.spec.Hostname = "a-host"
	if got := r.output(t); got != "1\n1\n" {
		t.Errorf("got %q", got)
	}
	if got := imageFile(t, image, "etc/hosts"); got != "10.0.0.1 own\n" {
		t.Errorf("/etc/hosts became %q", got)
	}
}

// testFullOfFiles enters images that take no file more and have no directory for mount
// points: with and without a free block, and with a mount that the caller asks for.
func testFullOfFiles(t *testing.T, w *world) {
	const inodes, blocks = "i=0; while true >f$1-$i; do i=$((i+1)); done; ", "cat /dev/zero >>f; sync; i=0; while mkdir d$1-$i; do i=$((i+1)); done; "
	for name, fill := range map[string]string{
		"no inode": inodes, "no block": blocks, "no inode, no block": blocks + inodes,
	} {
		t.Run(name, func(t *testing.T) {
			image := filledImage(t, fill)
			before := listImage(t, image, "/")
			share := t.TempDir()
			r := script(w.backend, image, "test -r /proc/self/stat -a -c /dev/null -a -d /sys/kernel -a -d /link/sub && echo there; grep -c own /etc/hosts; "+
				"echo changed > /etc/hosts; touch /more 2>/dev/null || echo full; echo seen > /data/seen; echo x 2>/dev/null > /tmp/x; rm /srv/f*; mkdir /srv/sub/new && echo made")
			r.spec.Mounts = append(r.spec.Mounts, container.Mount{Source: share, Target: "/data", Kind: container.Dir})
			r.spec.Empty = []string{"/run", "/tmp"}
			if got, want := r.output(t), "there\n1\nfull\nmade\n"; got != want {
				t.Errorf("got %q, want %q", got, want)
			}
			for dir, want := range map[string][]string{"/": before, "/srv/sub": {"new"}, "/tmp": nil} {
				if got := listImage(t, image, dir); !slices.Equal(got, want) {
					t.Errorf("%s has %v, want %v", dir, got, want)
				}
			}
			if got := imageFile(t, image, "etc/hosts"); got != "changed\n" {
				t.Errorf("/etc/hosts is %q", got)
			}
			if data, err := os.ReadFile(filepath.Join(share, "seen")); string(data) != "seen\n" {
				t.Errorf("the share got %q, %v", data, err)
			}
			checkImageClean(t, image)
		})
	}
}

// filledImage is an image without mount points and lost+found, whose directory /srv a
// script of the host has filled.
func filledImage(t *testing.T, fill string) string {
	t.Helper()
	needTool(t, "mount", "umount", "unshare")
	tree := ownTree(t, map[string]string{"etc/hosts": "10.0.0.1 own\n", "link": "->srv"})
	makeDirs(t, tree, "srv/sub", "run", "tmp")
	path, dir := filepath.Join(t.TempDir(), "few.img"), t.TempDir()
	if err := errors.Join(os.WriteFile(path, nil, 0o644), os.Truncate(path, 8<<20)); err != nil {
		t.Fatal(err)
	}
	command(t, "mke2fs", "-q", "-t", "ext4", "-F", "-N", "600", "-m", "0", "-d", tree, path)
	// What is reserved while a file system is mounted is free the next time. In a mount
	// namespace of its own no container that starts meanwhile keeps it mounted.
	for pass := range 4 {
		out, err := exec.Command("unshare", "-m", "sh", "-c", `mount -o loop "$2" "$1" && cd "$1" && `+
			`(rmdir lost+found; cd srv; set -- $0; `+fill+`true) 2>/dev/null; cd / && umount "$1"`, fmt.Sprint(pass), dir, path).CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	return path
}
