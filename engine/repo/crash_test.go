package repo

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"b9.build/b9/engine/internal/seedtest"
	"b9.build/b9/engine/internal/sshdtest"
	"b9.build/b9/engine/ssh"
)

// errand is what the helper process does.
type errand struct {
	Loc   Location
	Opts  struct{ State, KnownHosts, Identity, Home string }
	Push  string   // an image
	Pull  string   // a destination
	Chain []string // files of steps, which follow each other
}

func (e errand) options() Options {
	o := Options{State: e.Opts.State}
	o.SSH = ssh.Options{Config: []string{}, KnownHosts: []string{e.Opts.KnownHosts}, Identities: []string{e.Opts.Identity}, Agent: "none", Home: e.Opts.Home}
	return o
}

// errandFor describes how to reach s from another process.
func errandFor(s site) errand {
	e := errand{Loc: s.loc}
	e.Opts.State = s.opts.State
	if len(s.opts.SSH.KnownHosts) > 0 {
		e.Opts.KnownHosts, e.Opts.Identity, e.Opts.Home = s.opts.SSH.KnownHosts[0], s.opts.SSH.Identities[0], s.opts.SSH.Home
	}
	return e
}

// TestErrand is no test but the process that others kill.
func TestErrand(t *testing.T) {
	var e errand
	if json.Unmarshal([]byte(os.Getenv("B9_REPO_ERRAND")), &e) != nil {
		return // it only runs as a process of its own
	}
	defer func() {
		status, _ := os.ReadFile("/proc/self/status")
		fmt.Printf("%s\n", regexp.MustCompile(`VmHWM:.*`).Find(status))
	}()
	r, err := Open(t.Context(), e.Loc, e.options())
	if err != nil {
		t.Fatal(err)
	}
	if len(e.Chain) > 0 {
		for i, file := range e.Chain {
			var tr Transfer
			tr, err = r.PublishStep(t.Context(), fmt.Sprint("step ", i), nil, []StepFile{{Name: "root", Path: file}})
			fmt.Printf("step %d: %+v, %v\n", i, tr, err)
		}
	} else if e.Push != "" {
		_, _, err = r.Push(t.Context(), PushSpec{Name: "web", Path: e.Push})
	} else {
		var v Version
		if v, err = r.Resolve(t.Context(), Selector{Name: "web"}); err == nil {
			_, err = r.Pull(t.Context(), v, e.Pull, PullOptions{})
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

// command prepares the errand for a process of its own.
func (e errand) command(t *testing.T) *exec.Cmd {
	t.Helper()
	b, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestErrand$")
	cmd.Env = append(os.Environ(), "B9_REPO_ERRAND="+string(b))
	return cmd
}

// start runs the errand.
func (e errand) start(t *testing.T) *exec.Cmd {
	t.Helper()
	cmd := e.command(t)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd
}

// noise makes an image that does not compress.
func noise(t *testing.T, seed byte, size int) string {
	t.Helper()
	b := make([]byte, size)
	rand.NewChaCha8([32]byte{seed}).Read(b)
	path := filepath.Join(t.TempDir(), "noise")
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// rounds is how often a test kills something; B9_KILLS says otherwise, as make
// kills does.
func rounds() int {
	if n, err := strconv.Atoi(os.Getenv("B9_KILLS")); err == nil {
		return n
	}
	return 4
}

func TestKilledPusher(t *testing.T) {
	each(t, func(t *testing.T, s site) {
		s.create(t)
		for n := range rounds() {
			t.Run(fmt.Sprint(n), func(t *testing.T) {
				e := errandFor(s)
				e.Push = noise(t, byte(n), 48<<20+n)
				cmd := e.start(t)
				moment := seedtest.Moments(t)
				time.Sleep(moment(900 * time.Millisecond))
				cmd.Process.Kill()
				cmd.Wait()
				before := intact(t, s.elsewhere(t))
				r, err := Open(t.Context(), s.loc, s.opts)
				if err != nil {
					t.Fatal(err)
				}
				v, _ := push(t, r, "web", e.Push)
				list := intact(t, r)
				if list[0].Digest != v.Digest || len(list) > len(before)+1 {
					t.Fatalf("after the push was done again: %+v", list)
				}
				if _, err := r.Clean(t.Context(), CleanOptions{Keep: 1, Steps: -1}); err != nil {
					t.Fatal(err)
				}
				if left := files(t, s, "tmp"); len(left) > 0 {
					t.Fatalf("left after a collection: %v", left)
				}
				r.Close()
			})
		}
	})
}

// TestPushResumes ends a push when its second pack is there.
func TestPushResumes(t *testing.T) {
	each(t, func(t *testing.T, s site) {
		s.create(t)
		e := errandFor(s)
		e.Push = noise(t, 1, 160<<20)
		cmd := e.start(t)
		for len(files(t, s, "packs")) < 2 {
			time.Sleep(5 * time.Millisecond)
		}
		cmd.Process.Kill()
		cmd.Wait()
		r, err := Open(t.Context(), s.loc, s.opts)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		_, tr := push(t, r, "web", e.Push)
		if tr.Reused < 32<<20 || tr.Sent > 130<<20 {
			t.Errorf("what was sent before was sent again: %+v", tr)
		}
		intact(t, r)
	})
}

func TestKilledPuller(t *testing.T) {
	each(t, func(t *testing.T, s site) {
		r := s.create(t)
		image := noise(t, 1, 96<<20)
		v, _ := push(t, r, "web", image)
		for n := range rounds() {
			t.Run(fmt.Sprint(n), func(t *testing.T) {
				s.opts.State = t.TempDir()
				e := errandFor(s)
				e.Pull = filepath.Join(t.TempDir(), "pulled")
				cmd := e.start(t)
				moment := seedtest.Moments(t)
				time.Sleep(moment(700 * time.Millisecond))
				cmd.Process.Kill()
				cmd.Wait()
				if _, err := os.Stat(e.Pull); err == nil {
					sameFiles(t, e.Pull, image)
				}
				if _, err := r.Pull(t.Context(), v, e.Pull, PullOptions{}); err != nil {
					t.Fatal(err)
				}
				sameFiles(t, e.Pull, image)
				if left, _ := filepath.Glob(filepath.Join(filepath.Dir(e.Pull), ".*")); len(left) > 0 {
					t.Fatalf("left beside the image: %v", left)
				}
			})
		}
	})
}

// TestPullResumes ends a pull when a good part is there.
func TestPullResumes(t *testing.T) {
	each(t, func(t *testing.T, s site) {
		r := s.create(t)
		image := noise(t, 1, 128<<20)
		v, _ := push(t, r, "web", image)
		e := errandFor(s)
		e.Opts.State = t.TempDir()
		e.Pull = filepath.Join(t.TempDir(), "pulled")
		cmd := e.start(t)
		var st syscall.Stat_t
		for st.Blocks*512 < 40<<20 {
			syscall.Stat(filepath.Join(filepath.Dir(e.Pull), ".pulled.b9-pull"), &st)
			if syscall.Stat(e.Pull, &st) == nil {
				break
			}
		}
		cmd.Process.Kill()
		cmd.Wait()
		if _, err := os.Stat(e.Pull); err == nil {
			t.Log("the pull was done before it could be killed")
			return
		}
		tr, err := r.Pull(t.Context(), v, e.Pull, PullOptions{})
		if err != nil || tr.Reused < 30<<20 || tr.Received > 100<<20 {
			t.Errorf("what was fetched before was fetched again: %+v, %v", tr, err)
		}
		sameFiles(t, e.Pull, image)
	})
}

// TestKilledServer kills the server's processes while a push or a pull runs.
func TestKilledServer(t *testing.T) {
	t.Parallel()
	server := sshdtest.New(t)
	s := siteOn(t, server)
	s.create(t).Close()
	for n := range rounds() {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			r, err := Open(t.Context(), s.loc, s.opts)
			if err != nil {
				t.Fatal(err)
			}
			image := noise(t, byte(n/2), 48<<20)
			moment := seedtest.Moments(t)
			var killer sync.WaitGroup
			killer.Go(func() {
				time.Sleep(moment(600 * time.Millisecond))
				server.Kill()
			})
			if n%2 == 0 {
				_, _, err = r.Push(t.Context(), PushSpec{Name: "web", Path: image})
			} else {
				dst := filepath.Join(t.TempDir(), "pulled")
				var v Version
				if v, err = r.Resolve(t.Context(), Selector{Name: "web"}); err == nil {
					if _, err = r.Pull(t.Context(), v, dst, PullOptions{}); err == nil {
						sameFiles(t, dst, image)
					}
				}
			}
			if err != nil {
				t.Logf("interrupted: %v", err)
			}
			if err != nil && !strings.Contains(err.Error(), "connection") {
				t.Errorf("the error does not say that the connection ended: %v", err)
			}
			killer.Wait()
			// The end of the connection may be noticed only now.
			if _, err := r.Resolve(t.Context(), Selector{Name: "web"}); err != nil && !errors.Is(err, ErrUnreachable) && !errors.Is(err, fs.ErrNotExist) {
				t.Logf("after the kill: %v", err)
			}
			again, _ := push(t, r, "web", image)
			if list := intact(t, r); list[0].Digest != again.Digest {
				t.Fatalf("%+v", list)
			}
			if _, err := r.Clean(t.Context(), CleanOptions{Keep: 2, Steps: -1}); err != nil {
				t.Fatal(err)
			}
			r.Close()
		})
	}
}

// as prepares the errand to be run by another user.
func (e errand) as(t *testing.T, uid, gid uint32) *exec.Cmd {
	t.Helper()
	b, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(e.Loc.Path, "tmp", "errand") // where the user may run it
	if out, err := exec.Command("cp", os.Args[0], program).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Cleanup(func() { os.Remove(program) })
	cmd := exec.Command(program, "-test.run=^TestErrand$")
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), "B9_REPO_ERRAND="+string(b))
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: gid}}
	return cmd
}
