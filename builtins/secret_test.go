package builtins

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"b9.build/b9/builtins/lang"
	"b9.build/b9/engine"
	"b9.build/b9/engine/container"
	"b9.build/b9/engine/container/secret"
	diskimage "b9.build/b9/engine/disk/image"
)

// leaky is a backend whose every command makes a directory in the root image and does
// to the image what do does.
type leaky struct {
	container.Backend
	do  func(spec container.Spec, image string) error
	res container.Result
}

func (l *leaky) Run(_ context.Context, spec container.Spec, _ container.IO) (container.Result, error) {
	for _, m := range spec.Mounts {
		if m.Target != "/" {
			continue
		}
		if out, err := exec.Command("debugfs", "-w", "-R", "mkdir /made", m.Source).CombinedOutput(); err != nil {
			return container.Result{}, fmt.Errorf("%w: %s", err, out)
		}
		if l.do == nil {
			return l.res, nil
		}
		return l.res, l.do(spec, m.Source)
	}
	return l.res, errors.New("no root image")
}

// putAt writes into an image, past its file system.
func putAt(text string, at int64) func(container.Spec, string) error {
	return func(_ container.Spec, image string) error {
		f, err := os.OpenFile(image, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = f.WriteAt([]byte(text), at)
		return errors.Join(err, f.Close())
	}
}

const leakyBuild = `
lxc_exec(name = "web", images = {"/": image(size = "16M")}, script = ["true"], secrets = {"token": secret(file = "token")})
`

// TestSecretOutsideOfFiles leaves a secret in bytes of an image that are in no file:
// the first 1024 of an ext4.
func TestSecretOutsideOfFiles(t *testing.T) {
	if _, err := exec.LookPath("debugfs"); err != nil {
		t.Skip("no debugfs here")
	}
	const value = "tok-9f1cKq/77"
	searched := container.Result{Searched: true}
	for _, c := range []struct {
		name    string
		backend leaky
		want    string // "" is success
		kept    bool   // for b9 shell
	}{
		{"nothing", leaky{res: searched}, "", false},
		{"value", leaky{res: searched, do: putAt(value, 100)}, "byte 100 of the image for /, where something was deleted, holds the secret token", false},
		{"base64", leaky{res: searched, do: putAt("dG9rLTlmMWNLcS83Nw==", 7)}, "byte 7 of the image for /, where something was deleted, holds the secret token, in base64", false},
		{"partly", leaky{res: searched, do: putAt(value[1:], 100)}, "", false},
		{"unsearched", leaky{}, "the script was ended before", false},
		{"leak", leaky{res: container.Result{Searched: true, Leaks: []container.Leak{{Path: "/etc/x", Secret: "token"}}}}, "/etc/x holds the secret token", false},
		{"failed", leaky{res: container.Result{Searched: true, Code: 3}}, "exit status 3", true},
		{"failed with it", leaky{res: container.Result{Searched: true, Code: 3}, do: putAt(value, 100)}, "exit status 3", false},
		{"failed with a leak", leaky{res: container.Result{Searched: true, Code: 3, Leaks: []container.Leak{{Path: "/etc/x", Secret: "token"}}}}, "exit status 3", false},
		{"stopped", leaky{res: container.Result{Reason: container.TimedOut}}, "did not end within", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newCheckout(t, map[string][]byte{"token": []byte(value + "\n"), "src/run": nil, "src/b.txt": nil, "src/a.txt": nil, "src/sub/c": nil}, leakyBuild, false)
			b.backend = &c.backend
			_, err := b.try(t, nil, "//:web")
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			var failed *engine.StepError
			if errors.As(err, &failed) {
				_, ok, err := engine.LoadSandbox(failed.Kept)
				if ok != c.kept || err != nil {
					t.Errorf("kept for b9 shell: %v, %v", ok, err)
				}
			}
			for _, text := range []string{value, "dG9rLTlmMWNLcS83Nw"} {
				if out, _ := exec.Command("grep", "-rl", text, b.st.Dir()).CombinedOutput(); len(out) > 0 {
					t.Errorf("%s is in the store: %s", text, out)
				}
			}
		})
	}
}

// TestSecretThatWasThere is a text of the image that a secret is given as.
func TestSecretThatWasThere(t *testing.T) {
	if _, err := exec.LookPath("debugfs"); err != nil {
		t.Skip("no debugfs here")
	}
	build := `
lxc_exec(name = "web", images = {"/": image(size = "16M", content = "src")}, script = ["true"], secrets = {"token": secret(file = "token")})
`
	b := newCheckout(t, map[string][]byte{"token": []byte("lines of a file"), "src/run": nil, "src/b.txt": nil, "src/a.txt": []byte("the lines of a file"), "src/sub/c": nil}, build, false)
	b.backend = &leaky{res: container.Result{Searched: true}}
	if _, err := b.try(t, nil, "//:web"); err != nil {
		t.Error(err)
	}
}

// TestWasThere: a text is where it was, has moved with what is around it, or is the same
// name of a file as before, in an entry of another form; or else it is new.
func TestWasThere(t *testing.T) {
	const text = "name-of-file"
	around := func(before, after string) string {
		return strings.Repeat("x", 300) + before + text + after + strings.Repeat("y", 300)
	}
	was := around("entry\x01\x00\x00\x00\x1c\x00\x0c\x01", "\x00\x00next entry...") // as in ext4
	inline := around("entry\x10\x0c\x00\x60", "\x01\x00\x00\x01\x02")               // as in an inode of xfs
	longer := around("entry\x10\x12\x00\x60first-", "\x01\x00\x00\x01\x02")
	for _, c := range []struct {
		name, before, now string
		want              bool
	}{
		{"at the same place", around("", ""), around("", ""), true},
		{"moved", was, "12345" + was, true},
		{"moved far", was + strings.Repeat("-", 3<<20), strings.Repeat("-", 3<<20-7) + was, true},
		{"in a shorter entry", was, "12345" + around("other\x01\x00\x00\x00\x14\x00\x0c\x01", "\x02\x00\x00\x00"), true},
		{"in an entry of another form", inline, "12345" + around("another\x01\x00\x00\x0c", "\x01"), true},
		{"within a name", longer, "12345" + around("another\x01\x00\x00\x12first-", "\x01"), true},
		{"another name", longer, "12345" + around("another\x01\x00\x00\x12other-", "\x01"), false},
		{"a name now", around("said: ", " and"), "12345" + around("another\x01\x00\x00\x0c", "\x01"), false},
		{"a name no more", was, "12345" + around("said: ", " and"), false},
		{"new", strings.Repeat("x", 700), around("", ""), false},
		{"at the beginning", was, text + "other", false},
	} {
		found := secret.Found{At: int64(strings.Index(c.now, text)), Len: len(text)}
		got, err := wasThere(t.Context(), textImage{strings.NewReader(c.before)}, strings.NewReader(c.now), found)
		if err != nil || got != c.want {
			t.Errorf("%s: %v, %v", c.name, got, err)
		}
	}
	hole := strings.Repeat("-", 5<<20)
	if was, err := wasThere(t.Context(), textImage{strings.NewReader(hole + was)}, strings.NewReader(was), secret.Found{At: int64(strings.Index(was, text)), Len: len(text)}); err != nil || !was {
		t.Errorf("behind a hole: %v, %v", was, err)
	}
}

// textImage is an image that holds a text, in which dashes are holes.
type textImage struct{ *strings.Reader }

func (textImage) Close() error { return nil }

func (i textImage) Extent(off int64) (diskimage.Extent, error) {
	if off >= i.Size() {
		return diskimage.Extent{}, io.EOF
	}
	var buf [4096]byte
	e := diskimage.Extent{Start: off, State: diskimage.Data, Length: i.Size() - off}
	for at := off; ; at += int64(len(buf)) {
		n, _ := i.ReadAt(buf[:], at)
		held := strings.TrimLeft(string(buf[:n]), "-")
		if n > len(held) {
			e.State = diskimage.Hole
		}
		if len(held) > 0 && e.State == diskimage.Hole {
			e.Length = at + int64(n-len(held)) - off
		}
		if len(held) > 0 || n < len(buf) {
			return e, nil
		}
	}
}

// TestSecretThatMoves is such a text, in an image that is laid out anew: another file was
// removed, and so it is at another place.
func TestSecretThatMoves(t *testing.T) {
	if _, err := exec.LookPath("debugfs"); err != nil {
		t.Skip("no debugfs here")
	}
	build := `
lxc_exec(name = "web", images = {"/": image(size = "16M", content = "src")}, script = ["true"], secrets = {"token": secret(file = "token")}, canonical = True)
`
	b := newCheckout(t, map[string][]byte{"token": []byte("lines of a file"), "src/run": nil, "src/b.txt": []byte("the lines of a file"), "src/a.txt": make([]byte, 1<<20), "src/sub/c": nil}, build, false)
	b.backend = &leaky{res: container.Result{Searched: true}, do: func(_ container.Spec, image string) error {
		return exec.Command("debugfs", "-w", "-R", "rm /a.txt", image).Run()
	}}
	if _, err := b.try(t, nil, "//:web"); err != nil {
		t.Error(err)
	}
}

// TestSecretThatChanges is another one when its step runs than when its key was made.
func TestSecretThatChanges(t *testing.T) {
	b := newCheckout(t, map[string][]byte{"token": []byte("the first value"), "src/run": nil, "src/b.txt": nil, "src/a.txt": nil, "src/sub/c": nil}, leakyBuild+`
lxc_exec(name = "both", images = {"/": lxc_exec(images = {"/": image(size = "16M")}, script = ["true"])}, script = ["true"], secrets = {"token": secret(file = "token")})
`, false)
	ran := 0
	b.backend = &leaky{res: container.Result{Searched: true}, do: func(container.Spec, string) error {
		ran++
		return os.WriteFile(filepath.Join(b.root, "token"), []byte("the second value"), 0o600)
	}}
	_, err := b.try(t, nil, "//:both")
	if err == nil || !strings.Contains(err.Error(), "was changed while the build ran: build again") || strings.Contains(err.Error(), "second") || ran != 1 {
		t.Errorf("got %v after %d runs", err, ran)
	}
}

// TestSecretsArePrivate holds that steps with secrets are nothing for other machines.
func TestSecretsArePrivate(t *testing.T) {
	w, err := openTest(t.Context(), lang.Config{Root: newBuilder(t, map[string]string{"token": "a-token", "B9BUILD.star": leakyBuild + `
lxc_exec(name = "plain", images = {"/": image(size = "16M")}, script = ["true"], ssh = True)
`}).root})
	if err != nil {
		t.Fatal(err)
	}
	for target, want := range map[string]bool{"//:web": true, "//:plain": false} {
		g, err := w.Resolve(t.Context(), []string{target})
		if err != nil {
			t.Fatal(err)
		}
		private := map[string]bool{}
		for _, n := range engine.Reachable(g.Targets[0].Refs...) {
			if p, ok := n.Action().(engine.Private); ok {
				private[n.Builtin()] = p.IsPrivate()
			}
		}
		if private["lxc_exec"] != want || private["secret token"] != want {
			t.Errorf("%s: %v, want %v", target, private, want)
		}
	}
}
