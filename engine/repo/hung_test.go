package repo

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"b9.build/b9/engine/internal/sshdtest"
)

// TestHungTransfer stops the process that serves the files, while sshd itself
// goes on answering keep-alives.
func TestHungTransfer(t *testing.T) {
	server := sshdtest.New(t)
	setSubsystem(server, "/usr/lib/openssh/sftp-server")
	s := siteOn(t, server)
	s.opts.Timeout = time.Second
	s.opts.SSH.Alive = 300 * time.Millisecond
	r := s.create(t)
	v, _ := push(t, r, "web", noise(t, 1, 8<<20))
	for name, act := range map[string]func() error{
		"list": func() error { _, err := r.List(t.Context(), ""); return err },
		"push": func() error {
			_, _, err := r.Push(t.Context(), PushSpec{Name: "web", Path: noise(t, 2, 80<<20)})
			return err
		},
		"pull": func() error {
			_, err := r.Pull(t.Context(), v, filepath.Join(t.TempDir(), "pulled"), PullOptions{})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := r.List(t.Context(), ""); err != nil { // there is a connection
				t.Fatal(err)
			}
			stopped := 0
			for _, pid := range server.Processes() {
				if comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)); string(comm) == "sftp-server\n" {
					syscall.Kill(pid, syscall.SIGSTOP)
					t.Cleanup(func() { syscall.Kill(pid, syscall.SIGKILL) })
					stopped++
				}
			}
			if stopped == 0 {
				t.Fatal("there is no process that serves files")
			}
			if err := act(); err == nil || !strings.Contains(err.Error(), "nothing came from the server for 1s") {
				t.Errorf("%v", err)
			}
		})
	}
	intact(t, s.elsewhere(t))
}
