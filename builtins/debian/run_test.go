package debian

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"b9.build/b9/builtins/internal/builtinstest"
)

// needRoot skips a test that makes namespaces.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
}

func TestContained(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	var log bytes.Buffer
	err := runContained(context.Background(), nil, hostEnv(), &log, "sh", "-c", "mount -t tmpfs none "+dir+" && touch "+dir+"/inside; cat /proc/sys/kernel/hostname; ls -d /proc/[0-9]* | wc -l; grep Seccomp: /proc/self/status; sync")
	if err != nil {
		t.Fatalf("%v\n%s", err, &log)
	}
	lines := strings.Split(strings.TrimSpace(log.String()), "\n")
	if len(lines) != 3 || lines[0] != "localhost" || lines[2] != "Seccomp:\t2" {
		t.Errorf("got %q, want the host name, the number of processes and the filter", lines)
	}
	if n, _ := strconv.Atoi(lines[1]); n > 6 {
		t.Errorf("it saw %d processes, want only its own", n)
	}
	if _, err := os.Stat(filepath.Join(dir, "inside")); !errors.Is(err, os.ErrNotExist) {
		t.Error("its mount was visible outside")
	}
	if data, err := os.ReadFile("/proc/thread-self/status"); err != nil || !bytes.Contains(data, []byte("Seccomp:\t0")) {
		t.Error("the filter is on this process too")
	}
}

func TestContainedEnds(t *testing.T) {
	needRoot(t)
	var log bytes.Buffer
	err := runContained(context.Background(), nil, hostEnv(), &log, "sh", "-c", "exit 7")
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 7 {
		t.Errorf("got %v, want exit status 7", err)
	}
	polite := filepath.Join(t.TempDir(), "polite")
	for name, script := range map[string]string{
		"plain":    "echo ready; sleep 1000000 & wait",
		"polite":   "trap 'touch " + polite + "; exit' TERM; echo ready; sleep 1000000 & wait",
		"stubborn": "trap '' TERM; echo ready; sleep 1000000 & wait; sleep 1000000",
	} {
		ctx, cancel := context.WithCancel(context.Background())
		err := runContained(ctx, nil, hostEnv(), builtinstest.WriterFunc(cancel), "sh", "-c", script)
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, err := os.Stat(polite); err != nil {
		t.Errorf("a program that tidies up when it is asked to end was not asked: %v", err)
	}
}

// TestContainedVictim is the process that TestContainedKilled kills.
func TestContainedVictim(t *testing.T) {
	file := os.Getenv("B9_TEST_VICTIM")
	if file == "" {
		return
	}
	runContained(context.Background(), nil, hostEnv(), os.Stderr, "sh", "-c", fmt.Sprintf("mount -t tmpfs none %s; setsid sh -c 'exec sleep 987654' & while :; do date >>%s; sleep 0.05; done", filepath.Dir(file), file))
}

func TestContainedKilled(t *testing.T) {
	needRoot(t)
	file := filepath.Join(t.TempDir(), "alive")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestContainedVictim$")
	cmd.Env = append(os.Environ(), "B9_TEST_VICTIM="+file)
	cmd.Args = append(cmd.Args, "-test.timeout=60s")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var inner []int
	builtinstest.Eventually(t, "the victim has started three processes", func() bool {
		inner = descendants(cmd.Process.Pid)
		return len(inner) >= 3
	})
	if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	builtinstest.Eventually(t, "all of them are gone with the one that was killed", func() bool {
		return !slices.ContainsFunc(inner, func(pid int) bool {
			data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
			return err == nil && !strings.Contains(string(data), ") Z ")
		})
	})
	if mounts, err := os.ReadFile("/proc/self/mountinfo"); err != nil || strings.Contains(string(mounts), filepath.Dir(file)) {
		t.Errorf("a mount is left (%v)", err)
	}
}

// descendants lists the processes that pid started, directly and not.
func descendants(pid int) []int {
	parents := map[int]int{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, s := range stats {
		data, err := os.ReadFile(s)
		if err != nil {
			continue
		}
		after := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
		child, _ := strconv.Atoi(filepath.Base(filepath.Dir(s)))
		parents[child], _ = strconv.Atoi(after[1])
	}
	var list []int
	for child := range parents {
		for p := parents[child]; p > 1; p = parents[p] {
			if p == pid {
				list = append(list, child)
				break
			}
		}
	}
	return list
}
