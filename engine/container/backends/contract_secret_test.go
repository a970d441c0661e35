package backends

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh/agent"
	"golang.org/x/sys/unix"

	"b9.build/b9/engine/container"
	"b9.build/b9/engine/container/secret"
)

// token is the value of the secrets of these tests.
const token = "tok-9f1cKq/77"

// secretly is a run of a script with secrets.
func (w *world) secretly(t *testing.T, text string) (*run, string) {
	t.Helper()
	r, image := w.script(t, text)
	r.spec.Secrets = []container.Secret{{Name: "token", Value: []byte(token + "\n")}}
	return r, image
}

// testSecrets reads a secret as root and as another user, and looks that it is in a
// file system in memory that takes nothing, and that nothing of it stays.
func testSecrets(t *testing.T, w *world) {
	for _, user := range []string{"", "ann"} {
		r, image := w.secretly(t, `cd /run/secrets; md5sum <token | cut -c 1-32; md5sum <key; stat -c '%a %U' . token key; grep ' /run/secrets ' /proc/mounts; echo >new; rm token; echo >token`)
		r.spec.User, r.spec.Env = user, []string{"PATH=/bin", "HOME=/"}
		file := filepath.Join(t.TempDir(), "key")
		write(t, file, []byte("\x00binary key\xff"), 0o600)
		r.spec.Secrets = append(r.spec.Secrets, container.Secret{Name: "key", Origin: secret.Origin{File: file}})
		r.do(t)
		for _, want := range []string{
			strings.Fields(command(t, "sh", "-c", "printf '"+token+"\\n' | md5sum"))[0] + "\n",
			strings.Fields(command(t, "md5sum", file))[0],
			"500 " + map[string]string{"": "root", "ann": "ann"}[user] + "\n400 ",
			" /run/secrets ramfs ro,nosuid,nodev,noexec",
		} {
			if !strings.Contains(r.out.String(), want) {
				t.Errorf("user %q: no %q in %q", user, want, r.out.String())
			}
		}
		if n := strings.Count(r.err.String(), "Read-only file system"); n < 3 {
			t.Errorf("user %q writes: %q", user, r.err.String())
		}
		if slices.Contains(listImage(t, image, "/"), "run") {
			t.Error("/run stays in the image")
		}
		checkImageClean(t, image)
	}
	r, _ := w.secretly(t, "cat /run/secrets/token | wc -c; su ann -c 'cat /run/secrets/token' 2>&1")
	r.do(t)
	if got := r.out.String(); !strings.HasPrefix(got, fmt.Sprint(len(token)+1)) || !strings.Contains(got, "ermission denied") {
		t.Errorf("another user than the command's: %q", got)
	}
	if text, err := json.Marshal(r.spec); err != nil || bytes.Contains(text, []byte(token)) {
		t.Errorf("the description has the value: %s, %v", text, err)
	}
}

// testSecretsMasked prints a secret in many ways.
func testSecretsMasked(t *testing.T, w *world) {
	const print = `cd /run/secrets
cat token; cat token >&2; base64 token; printf user:%s "$(cat token)" | base64; xxd -p token | head -c 26; echo
head -c 5 token; sleep 0.2; tail -c +6 token
printf 'proxy s3cret, end: tok-'`
	for _, both := range []bool{false, true} {
		r, _ := w.secretly(t, print)
		r.spec.Masked = [][]byte{[]byte("s3cret")}
		if both {
			r.io.Stderr = r.io.Stdout
		}
		got := r.output(t)
		set := secret.Searching([]secret.Text{{Name: "token", Value: []byte(token)}})
		if found, ok := set.In([]byte(got + r.err.String())); ok {
			t.Errorf("%+v in %q, %q", found, got, r.err.String())
		}
		if !both && r.err.String() != "***\n" {
			t.Errorf("standard error %q", r.err.String())
		}
		if !strings.HasPrefix(got, "***\n***") || !strings.HasSuffix(got, "***\nproxy ***, end: tok-") {
			t.Errorf("standard output %q", got)
		}
	}
}

// testSecretsLeft leaves a secret in everything that a command can write, and takes
// it away again.
func testSecretsLeft(t *testing.T, w *world) {
	for text, want := range map[string]string{
		"cp $S /etc/conf": "/etc/conf holds the secret token",
		"mkdir -p /a/b; printf 'x%sy' $(cat $S) >/a/b/f":                "/a/b/f holds the secret token",
		"printf u:%s $(cat $S) | base64 >/auth":                         "/auth holds the secret token, in base64",
		"cp $S /data/conf":                                              "/data/conf holds the secret token",
		"cp $S /out/conf; exit 3":                                       "/out/conf holds the secret token",
		": >/tmp/$(tr -d / <$S)":                                        "",
		"ln -s $(cat $S) /link":                                         "the target of /link holds the secret token",
		"cp $S /a; rm /a; cp $S /tmp/a; cp $S /dev/shm/a; cp $S /run/a": "",
		"cp $S /home/ann/a; kill -9 $$":                                 "/home/ann/a holds the secret token",
		"dd if=$S of=/big bs=1 seek=8000000 2>/dev/null":                "/big holds the secret token",
	} {
		t.Run(strings.ReplaceAll(text, "/", "_"), func(t *testing.T) {
			r, image := w.secretly(t, "S=/run/secrets/token; "+text)
			data, out := emptyImage(t), t.TempDir()
			r.spec.Mounts = append(r.spec.Mounts, container.Mount{Source: data, Target: "/data"}, container.Mount{Source: out, Target: "/out", Kind: container.Dir})
			r.spec.Empty = []string{"/run", "/tmp"}
			res := r.do(t)
			var got []string
			for _, l := range res.Leaks {
				got = append(got, l.String())
			}
			if strings.Join(got, "\n") != want || !res.Searched {
				t.Errorf("got %q, want %q; searched: %v", got, want, res.Searched)
			}
			if want == "" && bytes.Contains([]byte(readFile(t, image)), []byte(token)) {
				t.Error("the image has the value")
			}
		})
	}
	r, _ := w.secretly(t, "cp /run/secrets/token /a; sleep 100")
	r.spec.Timeout = 1
	if res := r.do(t); res.Searched || res.Reason != container.TimedOut {
		t.Errorf("got %+v", res)
	}
}

// testSecretsElsewhere leaves a secret in file systems other than ext4, where it may be
// compressed, and takes it away again, after which its bytes are gone.
func testSecretsElsewhere(t *testing.T, w *world) {
	for fs, size := range map[string]string{"xfs": "400M", "btrfs": "200M"} {
		needTool(t, "mkfs."+fs)
		data := filepath.Join(t.TempDir(), "data.img")
		command(t, "truncate", "-s", size, data)
		command(t, "mkfs."+fs, "-q", data)
		r, _ := w.secretly(t, "cp /run/secrets/token /data/a; cp /run/secrets/token /data/big; head -c 20000 /dev/zero >>/data/big; sync; rm /data/a /data/big; sync; echo >/data/made")
		r.spec.Mounts = append(r.spec.Mounts, container.Mount{Source: data, Target: "/data"})
		if res := r.do(t); len(res.Leaks) != 0 || !res.Searched || r.err.Len() > 0 {
			t.Errorf("%s: %+v, %s", fs, res, r.err.String())
		}
		if strings.Contains(readFile(t, data), token) {
			t.Errorf("%s: the bytes of deleted files are there", fs)
		}
		r, _ = w.secretly(t, "mkdir /data/c; chattr +c /data/c || true; (cat /run/secrets/token; head -c 200000 /dev/zero | tr '\\0' x) >/data/c/conf")
		r.withHostTools()
		r.spec.Mounts = append(r.spec.Mounts, container.Mount{Source: data, Target: "/data"})
		if res := r.do(t); len(res.Leaks) != 1 || res.Leaks[0].Path != "/data/c/conf" {
			t.Errorf("%s: %+v", fs, res)
		}
		if fs == "btrfs" && strings.Contains(readFile(t, data), token) {
			t.Log("it is not compressed")
		}
	}
}

// testSecretsUntimed leaves secrets where a file system tells nothing of when a file was
// changed: old times do not hide them, and what was there before does not count. A vfat that
// b9 serves tells it, as ext4 does, though it keeps nothing of that: what was changed counts
// with all that is in it.
func testSecretsUntimed(t *testing.T, w *world) {
	served := openWith(t, w.backend.Name(), container.Config{UserSpace: []string{"vfat"}})
	for text, want := range map[string][2]string{
		"mv keep $(cat $S)":                            {"the name of /data/*** holds the secret token"},
		"cp $S full; touch -d 2001-01-01 full":         {"/data/full holds the secret token"},
		"cat $S >> was; touch -d 2001-01-01 was":       {"", "/data/was holds the secret token"},
		"cp $S was; base64 $S >> keep; touch -r was *": {"/data/keep holds the secret token, in base64", "/data/keep holds the secret token, in base64\n/data/was holds the secret token"},
		"echo >made": {},
	} {
		if want[1] == "" {
			want[1] = want[0]
		}
		memory := inMemory(t)
		for i, m := range []container.Mount{{Source: memory, Target: "/data", Kind: container.Dir}, {Source: vfatImage(t), Target: "/data"}} {
			got := w.leaksIn(t, m, []container.Backend{w.backend, served}[i], text)
			if strings.Join(got, "\n") != want[i] {
				t.Errorf("%s, %s: got %q, want %q", []string{"in memory", "on a served vfat"}[i], text, got, want[i])
			}
		}
	}
}

// inMemory is a directory on a file system that is not known to keep times of change.
func inMemory(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("b9", dir, "ramfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err, unix.Unmount(dir, unix.MNT_DETACH))
		}
	})
	return dir
}

// leaksIn runs a script that has a secret where a file has it already.
func (w *world) leaksIn(t *testing.T, m container.Mount, b container.Backend, text string) (leaks []string) {
	t.Helper()
	const name = "Tok-9f1cKq77-abc"
	r, _ := w.secretly(t, "S=/run/secrets/token; cd /data; "+text)
	r.backend = b
	r.spec.Secrets[0].Value = []byte(name)
	r.spec.Mounts = append(r.spec.Mounts, m)
	before := *r
	before.spec.Secrets = nil
	before.spec.Argv = []string{"/bin/sh", "-c", "cd /data; echo " + name + " >was; echo x >keep; touch -d 2001-01-01 *"}
	before.do(t)
	for _, l := range r.do(t).Leaks {
		leaks = append(leaks, l.String())
	}
	if r.err.Len() > 0 {
		t.Errorf("%s: %s", text, r.err.String())
	}
	slices.Sort(leaks)
	return leaks
}

func testSecretsRefused(t *testing.T, w *world) {
	for want, change := range map[string]func(*container.Spec){
		`secret "a/b"`: func(s *container.Spec) { s.Secrets[0].Name = "a/b" },
		`secret ".."`:  func(s *container.Spec) { s.Secrets[0].Name = ".." },
		"given twice":  func(s *container.Spec) { s.Secrets = append(s.Secrets, s.Secrets[0]) },
		"ssh-agent":    func(s *container.Spec) { s.Secrets[0].Name = "ssh-agent" },
		"secret token: environment variable B9_NO_SUCH is not set": func(s *container.Spec) {
			s.Secrets[0].Value, s.Secrets[0].Origin.Env = nil, "B9_NO_SUCH"
		},
		"is the place of secrets": func(s *container.Spec) {
			s.Mounts = append(s.Mounts, container.Mount{Target: "/run/secrets/x", Kind: container.Tmpfs})
		},
	} {
		r, _ := w.secretly(t, "true")
		change(&r.spec)
		r.refused(t, want)
	}
}

// servedAgent is an ssh-agent with one key, at the path that is returned.
func servedAgent(t *testing.T) (string, agent.Agent) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ring := agent.NewKeyring()
	if err := ring.Add(agent.AddedKey{PrivateKey: key, Comment: "the one key"}); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "agent")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_ = agent.ServeAgent(ring, conn)
			}()
		}
	}()
	return path, ring
}

// testAgent lists the keys of a lent agent and signs with one, as root and as another
// user, and tries to take the key away.
func testAgent(t *testing.T, w *world) {
	needTool(t, "ssh-add", "ssh-keygen")
	for _, user := range []string{"", "ann"} {
		socket, ring := servedAgent(t)
		r, image := w.script(t, `echo $SSH_AUTH_SOCK; ssh-add -L >/dev/shm/key.pub; cat /dev/shm/key.pub; echo text >/dev/shm/text
ssh-keygen -q -Y sign -n file -f /dev/shm/key.pub /dev/shm/text && head -n 1 /dev/shm/text.sig
ssh-add -D || echo refused; ssh-add -x </dev/null || echo refused; cat $SSH_AUTH_SOCK || echo socket`)
		r.withHostTools()
		r.spec.SSH, r.spec.Agent, r.spec.User = true, socket, user
		r.spec.Env = append(r.spec.Env, "HOME=/tmp")
		got := r.output(t)
		if !strings.HasPrefix(got, container.AgentSocket+"\nssh-ed25519 ") || !strings.Contains(got, "-----BEGIN SSH SIGNATURE-----\n") || !strings.HasSuffix(got, "refused\nrefused\nsocket\n") {
			t.Errorf("user %q: %q, %q", user, got, r.err.String())
		}
		if keys, err := ring.List(); err != nil || len(keys) != 1 {
			t.Errorf("the agent has %d keys: %v", len(keys), err)
		}
		if slices.Contains(listImage(t, image, "/"), "run") {
			t.Error("/run stays in the image")
		}
	}
}

// testNoAgent asks for an agent where there is none.
func testNoAgent(t *testing.T, w *world) {
	none := filepath.Join(t.TempDir(), "none")
	r := w.peek("true")
	r.spec.SSH, r.spec.Agent = true, none
	r.refused(t, "no ssh-agent answers at SSH_AUTH_SOCK="+none)
}
